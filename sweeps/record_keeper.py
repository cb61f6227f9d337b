"""What the driver writes down of each trial as Ray Tune's events come in."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray import tune

from storage.lock import RunLock
from storage.runs import Run, TrialRecord
from sweeps.faults import fault_of, last_death, unpack_error, why_died
from sweeps.progress import Counts
from sweeps.study import Study
from sweeps.task import drop_checkpoints, now


def trial_name(trial: Any) -> str:
    """The trial_id of one of Tune's trials."""
    return str(trial.config["task"]["trial_id"])


class RecordKeeper(tune.Callback):
    """Keeps each trial's record in OUT as Tune's events come in; the only writer of records."""

    def __init__(
        self,
        study: Study,
        run: Run,
        lock: RunLock,
        records: dict[str, TrialRecord],
        counts: Counts,
        on_progress: Callable[[Counts], None],
    ) -> None:
        self._study = study
        self._run = run
        self._lock = lock
        self._records = records
        self._counts = counts
        self._epochs: dict[str, int] = {}
        self._on_progress = on_progress
        self._halted: set[str] = set()
        self.notes: list[str] = []
        self._deaths: Counter[str] = Counter()  # of trials' own making
        self.error: Exception | None = None  # the first; Tune would blame the trial for it

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into OUT/tune; nothing ever reads them back.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has a process: it is running, perhaps again."""
        trial_id = trial_name(trial)
        self._counts.restarts += trial_id in self._counts.running
        self._counts.running.add(trial_id)
        self._halted.discard(trial_id)
        if not self._has_given_up(trial_id):
            self._settle(trial, state="running", reason=None, traceback=None)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch is done and committed; or the trial says why it goes no further."""
        self.notes += [note for note in result.get("notes", ()) if note not in self.notes]
        if result.get("storage"):
            self.error = self.error or unpack_error(result["storage"])
        if result.get("halted") or result.get("storage"):
            self._halted.add(trial_name(trial))
            return
        self._halted.discard(trial_name(trial))
        self._epochs[trial_name(trial)] = int(result.get("epoch", 0))
        self._report()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial came to an end that it or the scheduler chose."""
        result = trial.last_result or {}
        self._end(trial)
        failure = result.get("failure")
        metrics = {k: v for k, v in (result.get("row") or {}).items() if _is_number(v)}
        if failure:
            self._counts.failed += 1
            if self._has_given_up(trial_name(trial)):
                return
            self._settle(trial, state="failed", reason=failure["reason"],
                         traceback=failure["traceback"])  # fmt: skip
            return
        self._counts.done += 1
        completed = bool(result.get("completed"))  # by itself, early stopping included
        self._settle(trial, state="completed" if completed else "stopped", metrics=metrics)
        if completed and self.error is None:
            drop_checkpoints(self._run, trial_name(trial))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process died and Tune starts another; only its own deaths are to count."""
        trial_id, death = trial_name(trial), last_death(trial)
        fault = fault_of(death)
        if fault == "storage":
            self.error = self.error or OSError(why_died(death))
        if fault != "trial":
            trial.max_failures += 1
            return
        self._deaths[trial_id] += 1
        if self._has_given_up(trial_id):
            self._give_up(trial, death)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has no process that could even say that it has failed."""
        self._end(trial)
        self._counts.failed += 1
        if not self._has_given_up(trial_name(trial)):
            self._give_up(trial, last_death(trial))

    def _has_given_up(self, trial_id: str) -> bool:
        return self._deaths[trial_id] > self._study.resources.max_failures

    def _give_up(self, trial: Any, death: str) -> None:
        """From now on the record says that the trial has failed; its next process reads that."""
        self._settle(
            trial,
            state="failed",
            traceback=death or None,
            reason=f"its process died {self._deaths[trial_name(trial)]} times: {why_died(death)}",
        )

    def _end(self, trial: Any) -> None:
        """A trial is over; epochs that it leaves undone are not to come any more."""
        trial_id = trial_name(trial)
        self._counts.running.discard(trial_id)
        planned = int(self._record(trial).config["epochs"])
        self._counts.epochs_total -= max(0, planned - self._epochs.get(trial_id, 0))

    def all_halted(self) -> bool:
        """Whether no trial trains."""
        return self._counts.running <= self._halted

    def _settle(self, trial: Any, **changes: Any) -> None:
        if self._record(trial).state in ("completed", "stopped"):
            return  # what has ended well stays so, whatever a late process says
        try:
            self._write(trial, changes)
        except Exception as error:
            self.error = self.error or error

    def _write(self, trial: Any, changes: dict[str, Any]) -> None:
        self._lock.check()
        record = replace(self._record(trial), updated_at=now(), **changes)
        self._records[record.trial_id] = record
        self._run.write_record(record)
        self._report()

    def _record(self, trial: Any) -> TrialRecord:
        return self._records[trial_name(trial)]

    def _report(self) -> None:
        self._counts.epochs_done = sum(self._epochs.values())
        self._on_progress(self._counts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
