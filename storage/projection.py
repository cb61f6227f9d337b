"""One sync: what OUT holds, what MLflow holds, and the difference on its way.

What was sent stands in tags beside it, written after it: a sync that is cut off is completed by the
next one, and one with nothing new writes nothing. Runs that share their tags (a request made again
after its answer was lost) are reduced to one.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import pandas as pd

from storage.attempts import Claim, read_claims
from storage.filesystem import for_each
from storage.mlflow_client import Point, Refused, is_about_one_run, one_line, safe_key
from storage.mlflow_experiment import Experiment, NewRun, StoredRun
from storage.parallel_calls import outcomes
from storage.records import TrialRecord
from storage.tracking_memory import Memory
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

_TRIALS_AT_ONCE = 200  # bounds the memory that their rows take


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
        self, memory: Memory, store: Experiment, result: SyncResult, stop: threading.Event
    ) -> None:
        self.memory, self.run, self.store = memory, memory.run, store
        self.result, self.stop = result, stop
        self.records = memory.records()
        self.refusals: list[str] = []
        self.parent = memory.parent or self._find_runs()

    def send(self, artifacts: bool, progress: Progress | None) -> None:
        children = self.memory.children
        self.result.experiment_id = self.store.id
        self.result.parent_run_id = self.parent.run_id
        due = [r for r in self.records.values() if self._is_due(r)]
        self.result.trials = sum(trial_id in children for trial_id in self.records)
        self.result.trials -= sum(record.trial_id in children for record in due)
        seen = 0
        for start in range(0, len(due), _TRIALS_AT_ONCE):
            for refusal in self._send_trials(due[start : start + _TRIALS_AT_ONCE]):
                seen += 1
                if refusal is None:
                    self.result.trials += 1
                else:
                    self.refusals.append(refusal)
                if self.stop.is_set():
                    return
                if progress is not None:
                    progress(seen, len(due))
        self._send_summary()
        if artifacts and not self._send_files():
            return
        if self.refusals:
            raise Refused(f"{self.refusals[0]} ({len(self.refusals)} refused)")
        self.result.complete = True

    def _find_runs(self) -> StoredRun:
        found: dict[str, list[StoredRun]] = {}
        for stored in self.store.runs("run_uuid", self.run.uuid):
            found.setdefault(stored.tags.get("trial_id", ""), []).append(stored)
        parents = found.pop("", [])
        parent = self._one_of(parents) if parents else self._create_parent()
        self.memory.children = {trial_id: self._one_of(same) for trial_id, same in found.items()}
        self.memory.parent = parent
        return parent

    def _one_of(self, same: list[StoredRun]) -> StoredRun:
        """The one that got furthest of runs with the same tags; the others are deleted."""
        ranked = sorted(same, key=lambda run: (-_sent(run)[0], -len(run.tags), run.run_id))
        for spare in ranked[1:]:
            self.store.delete_run(spare)
        return ranked[0]

    def _create_parent(self) -> StoredRun:
        tags = {"run_uuid": self.run.uuid, "study": self.run.study}
        start = milliseconds(self.run.info["created_at"])
        (made,) = self.store.create_runs([NewRun(self.run.out.name, tags, start)])
        if isinstance(made, Exception):
            raise made
        return made

    def _is_due(self, record: TrialRecord) -> bool:
        child = self.memory.children.get(record.trial_id)
        if child is None:
            return record.state != "pending"
        done = child.tags.get(_DONE) == record_digest(record, self.parent.run_id)
        return not (done and child.status == STATUS[record.state])

    def _send_trials(self, records: Sequence[TrialRecord]) -> Iterator[str | None]:
        """Bring some trials up to date; for each None, or why MLflow does not take it."""
        looks, files = self.memory.look(records, self.parent.run_id)
        news = [r for r in records if self.memory.sent.get(r.trial_id) != looks[r.trial_id]]
        yield from [None] * (len(records) - len(news))
        trial_ids = [record.trial_id for record in news]
        rows = self.memory.metrics.load(trial_ids, files)
        for trial_id in trial_ids:
            covered = looks[trial_id].covered
            if covered is not None:
                rows[trial_id] = rows[trial_id][rows[trial_id]["step"] <= covered]

        refused = self._prepare_children(news, rows)
        yield from refused.values()
        ready = [record for record in news if record.trial_id not in refused]
        calls = outcomes(
            lambda record: self._send_trial(record, rows[record.trial_id]),
            ready,
            self.store.at_once,
            self.stop,
        )
        with closing(calls):
            for record, sent, error in calls:
                if error is None:
                    self.result.metrics_sent += sent or 0
                    if record.state in ENDED:
                        self.memory.metrics.forget([record.trial_id])
                    else:
                        self.memory.sent[record.trial_id] = looks[record.trial_id]
                    yield None
                elif is_about_one_run(error):
                    yield _refusal(record, error)
                else:
                    raise error

    def _prepare_children(
        self, records: Sequence[TrialRecord], rows: Mapping[str, pd.DataFrame]
    ) -> dict[str, str]:
        """See that each trial has a run that its rows can be added to; by trial_id why not."""
        children = self.memory.children
        for record in records:
            child = children.get(record.trial_id)
            if child is not None and not _was_sent(child, rows[record.trial_id]):
                # Another attempt made these epochs anew, and MLflow cannot take values back.
                self.store.delete_run(child)
                del children[record.trial_id]
        homeless = [record for record in records if record.trial_id not in children]
        claims = for_each(lambda r: read_claims(self.run.out, r.trial_id), homeless, self.run.out)
        wanted = [self._new_child(r, own) for r, own in zip(homeless, claims, strict=True)]
        refused = {}
        for record, made in zip(homeless, self.store.create_runs(wanted), strict=True):
            if isinstance(made, Exception):
                refused[record.trial_id] = _refusal(record, made)
            else:
                children[record.trial_id] = made
        return refused

    def _new_child(self, record: TrialRecord, claims: Sequence[Claim]) -> NewRun:
        tags = {
            "run_uuid": self.run.uuid,
            "trial_id": record.trial_id,
            "mlflow.parentRunId": self.parent.run_id,
            "study": self.run.study,
            "state": record.state,
        }
        return NewRun(trial_name(record), tags, trial_start(record, claims))

    def _send_trial(self, record: TrialRecord, rows: pd.DataFrame) -> int:
        """Send what a trial's run has not yet; the number of values."""
        child = self.memory.children[record.trial_id]
        points = list(epoch_points(rows[rows["epoch"] > _sent(child)[0]]))
        tags = {
            "mlflow.parentRunId": self.parent.run_id,
            "state": record.state,
            "reason": record.reason or "",
        }
        if len(rows):
            tags[_SENT] = f"{rows['epoch'].max()}:{rows_digest(rows)}"
        if record.state in NEVER_AGAIN:
            points += final_points(record, rows)
        if record.state in ENDED:
            tags[_DONE] = record_digest(record, self.parent.run_id)
        self.store.log(child, points, trial_params(record), tags)
        end = milliseconds(record.updated_at) if record.state in ENDED else None
        self.store.set_status(child, STATUS[record.state], end)
        return len(points)

    def _send_summary(self) -> None:
        self.store.log(self.parent, self._news(summary(self.records)))
        self.store.set_status(self.parent, *run_status(self.records))

    def _send_files(self) -> bool:
        """Upload what has changed; False when it was told to stop."""
        for name in run_files(self.run):
            if self.stop.is_set():
                return False
            path = self.run.out / name
            digest = file_digest(path)
            tag = safe_key(_FILE + name)
            if self.parent.tags.get(tag) == digest:
                continue
            self.store.upload(self.parent, path, name.rpartition("/")[0] or None)
            points = []
            if path.name == "matrix.parquet":
                key = safe_key(f"mean_distance_{path.parent.name}")
                points = self._news({key: mean_distance(path)})
            self.store.log(self.parent, points, tags={tag: digest})
            self.result.artifacts += 1
        return True

    def _news(self, values: Mapping[str, float]) -> list[Point]:
        """The parent's metrics that changed, stamped now: their history is the sweep's course."""
        now = int(time.time() * 1000)
        return [
            Point(key, value, now, 0)
            for key, value in values.items()
            if math.isfinite(value) and self.parent.metrics.get(key) != value
        ]


def _refusal(record: TrialRecord, error: Exception) -> str:
    return f"trial {record.trial_id}: {one_line(error)}"


def _sent(run: StoredRun) -> tuple[int, str]:
    """How far a child's epochs were sent (-1: none), and the digest of those rows."""
    epoch, _, digest = run.tags.get(_SENT, "-1:").partition(":")
    return int(epoch), digest


def _was_sent(child: StoredRun, rows: pd.DataFrame) -> bool:
    """Whether what a child holds is still a part of OUT's history."""
    epoch, digest = _sent(child)
    return epoch < 0 or rows_digest(rows[rows["epoch"] <= epoch]) == digest
