"""Reading a growing run's metrics again and again, each staged file once."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from storage.filesystem import AnyPath, for_each
from storage.layout import StagedFile
from storage.metrics import METRICS, MetricStore
from storage.rows import Chunk, count_rows
from storage.staged import StagedTable

NO_ROWS = pd.DataFrame(
    {
        "epoch": pd.Series(dtype="int64"),
        "step": pd.Series(dtype="int64"),
        "attempt": pd.Series(dtype="int64"),
        "written_at": pd.Series(dtype="datetime64[us, UTC]"),
    }
)


@dataclass(frozen=True)
class MetricFiles:
    """What some trials' metrics lay in at one moment; equal as long as no row has been added.

    Attributes:
        staged: each trial's staged files.
        manifest: which manifest named the compacted parts; 0: none.
    """

    staged: Mapping[str, frozenset[StagedFile]]
    manifest: int


@dataclass
class _Known:
    """Rows that counted, when last looked at, and the staged files that have been read for them."""

    rows: pd.DataFrame
    files: set[StagedFile] = field(default_factory=set)


class MetricReader:
    """What `MetricStore.load` gives, trial by trial.

    Opening a staged file costs a millisecond or two, and a trial that runs has many. They never
    change, and rows once fenced stay so: what was read is kept until the trial is forgotten.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: AnyPath) -> None:
        self._store = MetricStore(out)
        self._table = StagedTable(out, METRICS)
        self._known: dict[str, _Known] = {}
        self._manifest = 0

    def files(self, trial_ids: Collection[str]) -> MetricFiles:
        """Where the metrics of these trials lie now; reads none of them."""
        listing = self._table.listing(trial_ids)
        staged: dict[str, set[StagedFile]] = defaultdict(set)
        for file in listing.staged:
            staged[file.trial_id].add(file)
        return MetricFiles(
            {trial_id: frozenset(staged[trial_id]) for trial_id in trial_ids},
            listing.manifest.number if listing.manifest else 0,
        )

    def load(self, trial_ids: Sequence[str], files: MetricFiles) -> dict[str, pd.DataFrame]:
        """The rows that count, one an epoch, of each of these trials, by epoch.

        Args:
            trial_ids: which; all of them in `files`.
            files: a recent answer of `files`; what was added after it may be there or not.

        Raises:
            CorruptFile: a file is not what was written.
        """
        if files.manifest != self._manifest:  # compacted: a row may have come and gone unseen
            self._known.clear()
            self._manifest = files.manifest
        new = [trial_id for trial_id in trial_ids if trial_id not in self._known]
        for trial_id in trial_ids:
            if trial_id in self._known and not self._read_on(trial_id, files.staged[trial_id]):
                new.append(trial_id)
        if new:
            loaded = dict(iter(self._store.load(new).groupby("trial_id")))
            for trial_id in new:
                rows = loaded.get(trial_id, NO_ROWS)
                self._known[trial_id] = _Known(rows, set(files.staged[trial_id]))
        return {trial_id: self._known[trial_id].rows for trial_id in trial_ids}

    def forget(self, trial_ids: Iterable[str]) -> None:
        """Give back the memory that trials take; they are read anew if asked for again."""
        for trial_id in trial_ids:
            self._known.pop(trial_id, None)

    def _read_on(self, trial_id: str, files: Collection[StagedFile]) -> bool:
        """Bring a trial's rows up to date; False when a file has gone meanwhile."""
        known = self._known[trial_id]
        fresh = sorted(set(files) - known.files, key=lambda file: (file.step, file.attempt))
        try:
            tables = for_each(
                lambda file: self._table.read_staged(file, None), fresh, self._table.out
            )
            frames = [known.rows, *(table.to_pandas() for table in tables)]
        except FileNotFoundError:
            return False
        known.rows = self._counted(trial_id, [frame for frame in frames if len(frame)])
        known.files |= set(fresh)
        return True

    def _counted(self, trial_id: str, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
        chunks = [
            Chunk(
                self._table.staging,
                trial_id,
                frame["step"].to_numpy(dtype=np.int64),
                frame["attempt"].to_numpy(dtype=np.int16),
                _not_loaded,
            )
            for frame in frames
        ]
        kept = zip(frames, count_rows(self._table.out, chunks), strict=True)
        rows = [frame[counts] for frame, counts in kept if counts.any()]
        if not rows:
            return NO_ROWS
        return pd.concat(rows).sort_values(["epoch", "step"], ignore_index=True)


def _not_loaded(_: object) -> object:
    raise AssertionError("these rows are in memory")
