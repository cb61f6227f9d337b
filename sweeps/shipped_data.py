"""Data that nodes of a cluster lack: kept in OUT, which every node reads.

A node that joins in the middle of a sweep finds it there too. A trial checks the data's checksum
when it loads it, from wherever that is.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import InputError
from storage.filesystem import write_atomic
from storage.runs import Run
from sweeps.plan import PlannedTrial
from sweeps.readable import readable_bytes
from sweeps.sections import settings_of
from sweeps.training.data import dataset_files, load_dataset
from sweeps.training.settings import Settings

SHIPPED_BYTES = 1 << 30  # larger data sets are better put on the nodes by other means


@dataclass(frozen=True)
class NeededData:
    """A data set that trials load: which, what it must be, and where the study says that it is."""

    name: str
    checksum: str
    path: str | None
    resolved: str  # its settings as JSON

    @property
    def settings(self) -> Settings:
        """As `load_dataset` takes them."""
        return settings_of("data", self.name)(**json.loads(self.resolved))

    def files(self) -> list[Path]:
        """Its files on this machine; none for a data set that a library brings."""
        return dataset_files(self.settings, self.path)

    def problem_here(self) -> str | None:
        """Why trials cannot load it on this machine; None: they can."""
        try:
            self.files()  # looked for first: loading would download what is missing
            found = load_dataset(self.settings, self.path).checksum
        except InputError as error:
            return str(error)
        if found != self.checksum:
            return f"its checksum there is {found}, the driver's is {self.checksum}"
        return None


def needed_data(trials: Iterable[PlannedTrial]) -> list[NeededData]:
    """The data sets of some trials, each once."""
    needed = (_needed(trial.config["data"], trial.data_path) for trial in trials)
    return list(dict.fromkeys(needed))


def _needed(data: Mapping[str, Any], path: str | None) -> NeededData:
    # Trials that differ in what they do with the samples need the same ones.
    own = {k: v for k, v in data.items() if k not in ("checksum", "validation", "augment")}
    return NeededData(data["name"], data["checksum"], path, json.dumps(own, sort_keys=True))


def ship_data(run: Run, needed: Sequence[NeededData]) -> int:
    """Have the files of some data sets in OUT/data/<checksum>.

    Returns:
        The bytes written; a file that is there already is not written again.

    Raises:
        InputError: they are too large to be kept in OUT.
    """
    written = 0
    for data in needed:
        files = {file: file.stat().st_size for file in data.files()}
        if sum(files.values()) > SHIPPED_BYTES:
            raise InputError(
                f"data.name: {data.name!r} takes {readable_bytes(sum(files.values()))}, "
                f"more than the {readable_bytes(SHIPPED_BYTES)} that are shipped: "
                "copy its files to every node and name their folder with data.path"
            )
        for file, size in files.items():
            there = run.out / "data" / data.checksum / file.name
            if not there.exists() or there.stat().st_size != size:
                write_atomic(there, file.read_bytes())
                written += size
    return written


def data_folder(run: Run, checksum: str, path: str | None) -> str | None:
    """Where a trial on this machine finds its data: in OUT if it was shipped, else at `path`."""
    shipped: Any = run.out / "data" / checksum
    if isinstance(shipped, Path):
        return str(shipped) if shipped.is_dir() else path
    files = list(shipped.iterdir()) if shipped.is_dir() else []
    if not files:
        return path
    # An object store: one copy a machine, for all trials there.
    folder = Path(tempfile.gettempdir()) / f"toposweep-{os.getuid()}" / "data" / checksum
    for file in files:
        here = folder / file.name
        if not here.exists() or here.stat().st_size != file.stat().st_size:
            write_atomic(here, file.read_bytes())
    return str(folder)
