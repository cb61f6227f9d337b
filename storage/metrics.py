"""MetricStore: what each trial measured, one row per trial and epoch."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import pandas as pd
import pyarrow as pa

from storage.compaction import Compaction, compact_table
from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, Location
from storage.layout import StagedFile
from storage.lock import RunLock
from storage.records import config_table
from storage.retrying import retried
from storage.schema import METRIC_KEYS, check_key, metric_schema
from storage.staged import StagedTable, TableKind
from storage.trial_ids import check_trial_id
from storage.verification import verify_table

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class MetricStore:
    """The metrics in a run's folder.

    Args:
        out: the run's folder; it need not hold any metric yet.
    """

    def __init__(self, out: Location) -> None:
        self._table = StagedTable(out, METRICS)
        self.out = self._table.out

    def append(
        self, trial_id: str, study: str, attempt: int, rows: Sequence[Mapping[str, Any]]
    ) -> AnyPath | None:
        """Commit some epochs' metrics: they survive a crash of the machine once this returns.

        Rows that this attempt has committed already may be given again: each is there once.

        Args:
            trial_id: 12 hex digits.
            study: the study's name.
            attempt: the writer's attempt.
            rows: each with `step`, `epoch`, the metrics (numbers, or None for none) and, if wanted,
                `written_at` (default: now). No two rows have the same step.

        Returns:
            The file; None when there was nothing to write.

        Raises:
            InputError: a row is not as above.
            CorruptFile: a committed file that would hold such rows cannot be read.
        """
        check_trial_id(trial_id)
        if not rows:
            return None
        checked = sorted((_checked(row, attempt) for row in rows), key=itemgetter("step"))
        steps = [row["step"] for row in checked]
        if len(set(steps)) < len(steps):
            raise InputError(f"metrics of trial {trial_id}: two rows have the same step: {steps}")

        path = self._table.staged_path(trial_id, steps[-1], attempt)
        while retried(path.exists):
            committed = self._committed_steps(StagedFile(path, trial_id, steps[-1], attempt))
            checked = [row for row in checked if row["step"] not in committed]
            if not checked:
                return None
            steps = [row["step"] for row in checked]
            path = self._table.staged_path(trial_id, steps[-1], attempt)
        names = dict.fromkeys(name for row in checked for name in row if name not in _KEY_NAMES)
        fixed = {"study": study, "trial_id": trial_id, "attempt": attempt}
        table = pa.Table.from_pylist(
            [{**row, **fixed} for row in checked], schema=metric_schema([*names])
        )
        self._table.commit(path, table)
        return path

    def _committed_steps(self, file: StagedFile) -> set[int]:
        try:
            return set(self._table.read_staged(file, None).column("step").to_pylist())
        except FileNotFoundError:  # compacted meanwhile: readers know its rows again by their keys
            return set()

    def load(
        self, trial_ids: Collection[str] | None = None, with_config: bool = False
    ) -> pd.DataFrame:
        """One row per trial and epoch, by trial and epoch; a metric that a row lacks is nan.

        Args:
            trial_ids: of which trials; None: of all.
            with_config: add each trial's flat configuration, steps_per_epoch, total_steps and
                state.

        Raises:
            CorruptFile: a file is not what was written.
        """
        if trial_ids is not None:
            trial_ids = {check_trial_id(trial_id) for trial_id in trial_ids}
        metrics: pd.DataFrame = self._table.read(None, trial_ids).to_pandas()
        metrics = metrics.sort_values(["trial_id", "epoch", "step"], ignore_index=True)
        if not with_config:
            return metrics
        config = config_table(self.out, taken=set(metrics.columns) - {"trial_id"})
        return metrics.merge(config, on="trial_id", how="left")

    def compact(self, lock: RunLock | None = None) -> Compaction:
        """Gather staged files into few; see `storage.compaction`."""
        return compact_table(self._table, lock)

    def verify(self) -> list[CorruptFile]:
        """Every file that is not what was written; raises nothing for a bad file."""
        return verify_table(self._table)

    def usage(self) -> tuple[int, int]:
        """Files and bytes of all metrics."""
        return self._table.usage()


_KEY_NAMES = frozenset(METRIC_KEYS.names)


def _checked(row: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    if not {"step", "epoch"} <= row.keys():
        raise InputError(f"metrics: a row has the keys {sorted(row)}, step and epoch are needed")
    check_key(row["step"], attempt)
    checked = {"written_at": datetime.now(UTC), **row, "step": int(row["step"]),
               "epoch": int(row["epoch"])}  # fmt: skip
    for name in row.keys() - _KEY_NAMES:
        if not _NAME.fullmatch(name):
            raise InputError(f"metrics: {name!r} is no name of a metric: letters, digits, _ . -")
        try:
            checked[name] = None if row[name] is None else float(row[name])
        except (TypeError, ValueError):
            raise InputError(f"metrics: {name} is {row[name]!r}, a number is needed") from None
    return checked


def _check_rows(table: pa.Table) -> None:
    """A trial's rows have a step each and no two the same, per attempt."""
    keys = table.select(["trial_id", "step", "attempt"])
    if any(column.null_count for column in keys.columns):
        raise InputError("a row has no trial, step or attempt")
    if keys.group_by(keys.column_names).aggregate([]).num_rows < table.num_rows:
        raise InputError("two rows of one trial have the same step")


METRICS = TableKind(
    name="metrics",
    schema=METRIC_KEYS,
    more_doubles=True,
    plain_columns=(),
    one_step_per_file=False,
    check_rows=_check_rows,
)
