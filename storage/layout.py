"""Which files a table has, at any moment.

OUT/<name>/staging/<trial_id>/<step 8d>-a<attempt>.parquet   one file an append, never changed
OUT/<name>/compact/part-*.parquet                            many trials, one row group each
OUT/<name>/manifest/<n 8d>.json                              which parts are the table's
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from storage.errors import CorruptFile
from storage.filesystem import AnyPath, Location, for_each, names_in, run_folder, walk_files
from storage.manifest import PART_NAME, Manifest, Part, read_manifest
from storage.trial_ids import check_trial_id, is_trial_id

STAGED_NAME = re.compile(r"(\d{8,18})-a(\d{1,5})\.parquet", re.ASCII)


@dataclass(frozen=True)
class StagedFile:
    """A committed append; `step` is its rows' last one."""

    path: AnyPath
    trial_id: str
    step: int
    attempt: int


@dataclass(frozen=True)
class Listing:
    """What was there at one moment; `manifest` is None before the first compaction."""

    staged: list[StagedFile]
    manifest: Manifest | None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The compacted parts."""
        return self.manifest.parts if self.manifest else ()


class TableFolder:
    """The folder of one table of a run.

    Args:
        out: the run's folder.
        name: the table's.
    """

    def __init__(self, out: Location, name: str) -> None:
        self.out = run_folder(out)
        self.folder = self.out / name
        self.staging = self.folder / "staging"
        self.compact_folder = self.folder / "compact"

    def staged_path(self, trial_id: str, step: int, attempt: int) -> AnyPath:
        """Where an append goes whose last step this is."""
        return self.staging / check_trial_id(trial_id) / f"{step:08d}-a{attempt}.parquet"

    def listing(self, trial_ids: Collection[str] | None = None) -> Listing:
        """Staged files (of some trials), then the manifest.

        Raises:
            CorruptFile: the manifest cannot be read.
        """
        if trial_ids is None:
            paths = [path for path, _ in walk_files(self.staging)]
            for path in paths:
                if path.parent == self.staging and is_trial_id(path.name):
                    raise CorruptFile(path, "is a file, not a trial's folder")
            staged = [file for path in paths if (file := self._staged_file(path))]
        else:
            folders = [self.staging / check_trial_id(trial_id) for trial_id in trial_ids]
            staged = [
                file
                for folder, names in zip(
                    folders, for_each(names_in, folders, self.out), strict=True
                )
                for name in names
                if (file := self._staged_file(folder / name))
            ]
        return Listing(staged, read_manifest(self.folder))

    def _staged_file(self, path: AnyPath) -> StagedFile | None:
        trial_id, match = path.parent.name, STAGED_NAME.fullmatch(path.name)
        if match is None or not is_trial_id(trial_id) or path.parent.parent != self.staging:
            return None
        return StagedFile(path, trial_id, int(match[1]), int(match[2]))

    def files(self) -> list[AnyPath]:
        """Every Parquet file in the table's folders, whoever put it there."""
        return [path for path, _ in self._sized_files()]

    def usage(self) -> tuple[int, int]:
        """Files and bytes of the table's Parquet files."""
        sizes = [size for _, size in self._sized_files()]
        return len(sizes), sum(sizes)

    def _sized_files(self) -> Iterator[tuple[AnyPath, int]]:
        for folder in (self.staging, self.compact_folder):
            for path, size in walk_files(folder):
                if path.name.endswith(".parquet") and not path.name.startswith("."):
                    yield path, size

    def orphans(self, parts: Collection[Part]) -> Iterator[AnyPath]:
        """Parts that the manifest does not name: left by a compaction that died, or at work."""
        named = {part.file for part in parts}
        for name in names_in(self.compact_folder):
            if PART_NAME.fullmatch(name) and name not in named:
                yield self.compact_folder / name
