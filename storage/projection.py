"""One sync: what OUT holds, what MLflow holds, and the difference on its way.

What was sent stands in tags beside it, written after it: a sync that is cut off is completed by the
next one, and one with nothing new writes nothing. Runs that share their tags (a request made again
after its answer was lost) are reduced to one.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from storage.attempts import read_all_claims
from storage.checkpoints import covered_step
from storage.mlflow_client import (
    MAX_TAG,
    Experiment,
    Point,
    Refused,
    is_about_one_run,
    one_line,
    safe_key,
)
from storage.records import TrialRecord
from storage.runs import Run
from storage.tracking_runs import (
    ENDED,
    NEVER_AGAIN,
    STATUS,
    epoch_points,
    file_digest,
    final_points,
    mean_distance,
    milliseconds,
    record_digest,
    rows_digest,
    run_files,
    run_status,
    summary,
    trial_name,
    trial_params,
    trial_start,
)

Progress = Callable[[int, int], None]

_SENT = "toposweep.sent"  # of a child: "<last epoch sent>:<digest of the rows up to it>"
_DONE = "toposweep.done"  # of a child: digest of the ended trial that was sent whole
_FILE = "toposweep.file."  # of the parent, + path in OUT: digest of the file uploaded


@dataclass
class SyncResult:
    """What a sync did.

    `trials`: children that are up to date in MLflow now; `metrics_sent`: values of children sent
    by this sync; `artifacts`: files it uploaded. `complete`: nothing of OUT is missing in MLflow
    (artifacts aside when they were not asked for); otherwise `warning` says why in one line.
    `uri` carries no credentials.
    """

    uri: str
    experiment_id: str | None = None
    parent_run_id: str | None = None
    trials: int = 0
    metrics_sent: int = 0
    artifacts: int = 0
    complete: bool = False
    warning: str | None = None


class Projection:
    """One sync: what OUT holds, what MLflow holds, and the difference on its way."""

    def __init__(
        self, run: Run, store: Experiment, result: SyncResult, stop: threading.Event
    ) -> None:
        self.run, self.store, self.result, self.stop = run, store, result, stop
        self.records = run.records()
        self.claims = read_all_claims(run.out)
        self.parent: Any = None  # mlflow.entities.Run, as are the children
        self.refusals: list[str] = []

    def send(self, artifacts: bool, progress: Progress | None) -> None:
        found: dict[str, list[Any]] = {}
        for item in self.store.runs("run_uuid", self.run.uuid):
            found.setdefault(item.data.tags.get("trial_id", ""), []).append(item)
        self.parent = self._one_of(found.pop("", [])) or self._create_parent()
        self.result.experiment_id = self.store.id
        self.result.parent_run_id = self.parent.info.run_id

        children = {trial_id: self._one_of(same) for trial_id, same in found.items()}
        due = [r for r in self.records.values() if self._is_due(r, children.get(r.trial_id))]
        self.result.trials = sum(trial_id in children for trial_id in self.records)
        self.result.trials -= sum(record.trial_id in children for record in due)
        self._send_trials(due, children, progress)
        if self.stop.is_set():
            return
        self._send_summary()
        if artifacts:
            self._send_files()
        if self.refusals:
            raise Refused(f"{self.refusals[0]} ({len(self.refusals)} refused)")
        self.result.complete = True

    def _one_of(self, same: list[Any]) -> Any:
        """The one that got furthest of runs with the same tags; the others are deleted."""
        ranked = sorted(same, key=lambda r: (-_sent(r)[0], -len(r.data.tags), r.info.run_id))
        for spare in ranked[1:]:
            self.store.delete_run(spare.info.run_id)
        return ranked[0] if ranked else None

    def _create_parent(self) -> Any:
        tags = {"run_uuid": self.run.uuid, "study": self.run.study}
        return self.store.create_run(
            self.run.out.name, tags, milliseconds(self.run.info["created_at"])
        )

    def _is_due(self, record: TrialRecord, child: Any) -> bool:
        if child is None:
            return record.state != "pending"
        done = child.data.tags.get(_DONE) == record_digest(record, self.parent.info.run_id)
        return not (done and child.info.status == STATUS[record.state])

    def _send_trials(
        self, due: list[TrialRecord], children: Mapping[str, Any], progress: Progress | None
    ) -> None:
        rows: dict[str, pd.DataFrame] = {}
        if due:
            metrics = self.run.metrics.load([record.trial_id for record in due])
            rows = {str(trial_id): part for trial_id, part in metrics.groupby("trial_id")}
        for seen, record in enumerate(due, start=1):
            if self.stop.is_set():
                return
            try:
                mine = rows.get(record.trial_id, _NO_ROWS)
                self._send_trial(record, children.get(record.trial_id), mine)
                self.result.trials += 1
            except Exception as error:
                if not is_about_one_run(error):
                    raise
                self.refusals.append(f"trial {record.trial_id}: {one_line(error)}")
            if progress is not None:
                progress(seen, len(due))

    def _send_trial(self, record: TrialRecord, child: Any, rows: pd.DataFrame) -> None:
        claims = self.claims.get(record.trial_id, [])
        final = record.state in NEVER_AGAIN
        if not final:
            folder = self.run.checkpoint_folder(record.trial_id)
            rows = rows[rows["step"] <= covered_step(folder, claims)]
        if child is not None and not _was_sent(child, rows):
            # Another attempt made these epochs anew, and MLflow cannot take values back.
            self.store.delete_run(child.info.run_id)
            child = None
        if child is None:
            child = self._create_child(record, trial_start(record, claims))
        points = list(epoch_points(rows[rows["epoch"] > _sent(child)[0]]))
        tags = {
            "mlflow.parentRunId": self.parent.info.run_id,
            "state": record.state,
            "reason": record.reason or "",
        }
        if len(rows):
            tags[_SENT] = f"{rows['epoch'].max()}:{rows_digest(rows)}"
        if final:
            points += final_points(record, rows)
        if record.state in ENDED:
            tags[_DONE] = record_digest(record, self.parent.info.run_id)
        self._log(child, points, trial_params(record), tags)
        self.result.metrics_sent += len(points)
        end = milliseconds(record.updated_at) if record.state in ENDED else None
        self._set_status(child, STATUS[record.state], end)

    def _create_child(self, record: TrialRecord, start: int) -> Any:
        tags = {
            "run_uuid": self.run.uuid,
            "trial_id": record.trial_id,
            "mlflow.parentRunId": self.parent.info.run_id,
            "study": self.run.study,
            "state": record.state,
        }
        return self.store.create_run(trial_name(record), tags, start)

    def _send_summary(self) -> None:
        self._log(self.parent, self._news(summary(self.records)))
        self._set_status(self.parent, *run_status(self.records))

    def _send_files(self) -> None:
        run_id = self.parent.info.run_id
        for name in run_files(self.run):
            path = self.run.out / name
            digest = file_digest(path)
            tag = safe_key(_FILE + name)
            if self.parent.data.tags.get(tag) == digest:
                continue
            self.store.upload(run_id, path, name.rpartition("/")[0] or None)
            points = []
            if path.name == "matrix.parquet":
                key = safe_key(f"mean_distance_{path.parent.name}")
                points = self._news({key: mean_distance(path)})
            self.store.log(run_id, points, tags={tag: digest})
            self.result.artifacts += 1

    def _news(self, values: Mapping[str, float]) -> list[Point]:
        """The parent's metrics that changed, stamped now: their history is the sweep's course."""
        known = self.parent.data.metrics
        now = int(time.time() * 1000)
        return [
            Point(key, value, now, 0)
            for key, value in values.items()
            if math.isfinite(value) and known.get(key) != value
        ]

    def _log(
        self,
        target: Any,
        points: list[Point],
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send points, and of params and tags what MLflow does not have."""
        known_params, known_tags = target.data.params, target.data.tags
        self.store.log(
            target.info.run_id,
            points,
            {key: text for key, text in (params or {}).items() if key not in known_params},
            {k: v for k, v in (tags or {}).items() if known_tags.get(k, "") != v[:MAX_TAG]},
        )

    def _set_status(self, target: Any, status: str, end_time: int | None) -> None:
        same_end = end_time is None or target.info.end_time == end_time
        if target.info.status != status or not same_end:
            self.store.set_status(target.info.run_id, status, end_time)


_NO_ROWS = pd.DataFrame(
    {
        "epoch": pd.Series(dtype="int64"),
        "step": pd.Series(dtype="int64"),
        "attempt": pd.Series(dtype="int64"),
        "written_at": pd.Series(dtype="datetime64[us, UTC]"),
    }
)


def _sent(found: Any) -> tuple[int, str]:
    """How far a child's epochs were sent (-1: none), and the digest of those rows."""
    epoch, _, digest = found.data.tags.get(_SENT, "-1:").partition(":")
    return int(epoch), digest


def _was_sent(child: Any, rows: pd.DataFrame) -> bool:
    """Whether what a child holds is still a part of OUT's history."""
    epoch, digest = _sent(child)
    return epoch < 0 or rows_digest(rows[rows["epoch"] <= epoch]) == digest
