"""Which files a table has, at any moment.

OUT/<name>/staging/<trial_id>/<step 8d>-a<attempt>.parquet   one file an append, never changed
OUT/<name>/compact/part-*.parquet                            many trials, one row group each
OUT/<name>/manifest.json                                     which parts are the table's
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.filesystem import local_folder
from storage.manifest import PART_NAME, Part, read_manifest
from storage.trial_ids import check_trial_id, is_trial_id

STAGED_NAME = re.compile(r"(\d{8,18})-a(\d{1,5})\.parquet", re.ASCII)


@dataclass(frozen=True)
class StagedFile:
    """A committed append; `step` is its rows' last one."""

    path: Path
    trial_id: str
    step: int
    attempt: int


@dataclass(frozen=True)
class Listing:
    """What was there at one moment; `parts` is None before the first compaction."""

    staged: list[StagedFile]
    parts: tuple[Part, ...] | None


class TableFolder:
    """The folder of one table of a run.

    Args:
        out: the run's folder.
        name: the table's.
    """

    def __init__(self, out: str | os.PathLike[str], name: str) -> None:
        self.out = local_folder(out)
        self.folder = self.out / name
        self.staging = self.folder / "staging"
        self.compact_folder = self.folder / "compact"
        self.manifest_path = self.folder / "manifest.json"

    def staged_path(self, trial_id: str, step: int, attempt: int) -> Path:
        """Where an append goes whose last step this is."""
        return self.staging / check_trial_id(trial_id) / f"{step:08d}-a{attempt}.parquet"

    def listing(self, trial_ids: Collection[str] | None = None) -> Listing:
        """Staged files (of some trials), then the manifest.

        Raises:
            CorruptFile: the manifest cannot be read.
        """
        if trial_ids is None:
            trial_ids = self._staged_trials()
        staged = [file for trial_id in trial_ids for file in self._staged_files(trial_id)]
        return Listing(staged, read_manifest(self.manifest_path))

    def _staged_trials(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.staging) if is_trial_id(name))
        except FileNotFoundError:
            return []

    def _staged_files(self, trial_id: str) -> list[StagedFile]:
        folder = self.staging / check_trial_id(trial_id)
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        matches = ((name, STAGED_NAME.fullmatch(name)) for name in names)
        return [
            StagedFile(folder / name, trial_id, int(match[1]), int(match[2]))
            for name, match in matches
            if match
        ]

    def files(self) -> list[Path]:
        """Every Parquet file in the table's folders, whoever put it there."""
        # os.walk passes over folders that disappear meanwhile, Path.glob does not.
        return [
            Path(folder, name)
            for top in (self.staging, self.compact_folder)
            for folder, _, names in os.walk(top)
            for name in sorted(names)
            if name.endswith(".parquet") and not name.startswith(".")
        ]

    def usage(self) -> tuple[int, int]:
        """Files and bytes of the table's Parquet files."""
        sizes = []
        for file in self.files():
            with suppress(FileNotFoundError):  # compacted meanwhile
                sizes.append(file.stat().st_size)
        return len(sizes), sum(sizes)

    def orphans(self, parts: Collection[Part]) -> Iterator[Path]:
        """Parts that the manifest does not name: left by a compaction that died, or at work."""
        named = {part.file for part in parts}
        if self.compact_folder.is_dir():
            for path in self.compact_folder.iterdir():
                if PART_NAME.fullmatch(path.name) and path.name not in named:
                    yield path
