"""The sweep: trials as Ray Tune runs them, their states kept in OUT.

Nothing of Ray Tune's own state is needed to go on: every start plans anew from OUT, with a fresh
Tuner for what is left to do.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from storage.filesystem import remove_folder
from storage.lock import RunLock
from storage.records import ENDED
from storage.runs import Run, TrialRecord
from sweeps.faults import storage_error_in
from sweeps.leaving import LeaveRequest
from sweeps.plan import PlannedTrial
from sweeps.progress import Counts
from sweeps.record_keeper import RecordKeeper, trial_name
from sweeps.searcher import StudySearcher
from sweeps.study import Study
from sweeps.task import make_task
from sweeps.tune_trial import TuneTrial

# How long trials may take to see that they are to stop, and to write a checkpoint. Tune then waits
# for their processes for ten seconds at most.
HALT_WITHIN_S = 12.0


def run_sweep(
    study: Study,
    run: Run,
    lock: RunLock,
    trials: Sequence[PlannedTrial],
    request: LeaveRequest,
    on_progress: Callable[[Counts], None] = lambda counts: None,
) -> list[str]:
    """Run trials to their end with Ray Tune; Ray is connected already.

    Args:
        study: how they are searched, scheduled and what each takes.
        run: where everything goes; the caller holds `lock`.
        trials: what is left of a grid or random search. An Optuna search plans its own.
        request: whether the driver is to leave; trials then stop where they are.
        on_progress: called on the driver after every change.

    Returns:
        What the user should know although no trial failed for it, a line each.

    Raises:
        OSError, InputError: OUT cannot be written, its lock is lost: the sweep has stopped, and
            trials that were running are so by their records.
        Leave: `request` was made.
    """
    records = run.records()
    searcher: Searcher | None = None
    space: dict[str, Any] = {}
    num_samples = 1
    if study.search.algorithm == "optuna":
        searcher = StudySearcher(study, run, lock, records)
        num_samples = searcher.left
        counts = Counts(num_samples, epochs_total=num_samples * study.epochs)
        if num_samples == 0:
            return []
    else:
        tasks = [asdict(make_task(study, run, trial, lock)) for trial in trials]
        space = {"task": tune.grid_search(tasks)}
        counts = Counts(len(trials), epochs_total=sum(t.config["epochs"] for t in trials))
        if not tasks:
            return []

    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is in the records
    keeper = RecordKeeper(study, run, lock, records, counts, on_progress)
    asha = study.scheduler.name == "asha"
    resources = tune.PlacementGroupFactory([study.resources.bundle()])
    tuner = tune.Tuner(
        tune.with_resources(TuneTrial, resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=num_samples,
            search_alg=searcher,
            scheduler=make_scheduler(study, run, records),
            reuse_actors=True,
            trial_name_creator=trial_name,
            trial_dirname_creator=trial_name,
        ),
        run_config=tune.RunConfig(
            name=datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f"),
            storage_path=str(run.out / "tune"),
            verbose=0,
            callbacks=[keeper],
            stop=StopSweep(keeper, lock, request),
            # One more than is allowed: `RecordKeeper` counts deaths, and not those of nodes.
            failure_config=tune.FailureConfig(max_failures=study.resources.max_failures + 1),
            # The state of a trial is kept in OUT by the trial itself. Tune asks for a checkpoint
            # only where a scheduler may stop a trial: that is how the trial learns of it.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=asha, num_to_keep=1),
        ),
    )
    with request.patiently():
        try:
            tuner.fit()
        except Exception as error:
            raise keeper.error or storage_error_in(error) or error from None
    if keeper.error is not None:
        raise keeper.error
    ours = [records[trial.trial_id] for trial in trials] or records.values()
    if any(record.state not in ENDED for record in ours):
        raise KeyboardInterrupt  # a signal made Tune leave before the end
    remove_folder(run.out / "tune")  # Tune's own state has served
    return keeper.notes


@dataclass(frozen=True)
class _FinishedTrial:
    """Enough of a trial for ASHA to count its results."""

    trial_id: str


def make_scheduler(study: Study, run: Run, records: Mapping[str, TrialRecord]) -> TrialScheduler:
    """The study's scheduler; ASHA starts with the results that OUT already holds."""
    settings = study.scheduler
    if settings.name == "fifo":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=settings.metric,
        mode=settings.direction,
        max_t=max(study.epochs, settings.grace_period,
                  *(r.config["epochs"] for r in records.values()), 1),
        grace_period=settings.grace_period,
        reduction_factor=settings.reduction_factor,
        stop_last_trials=False,
    )  # fmt: skip
    done = [r.trial_id for r in records.values() if r.state in ("completed", "stopped")]
    nobody: Any = None  # ASHA does not look at the controller
    if done:
        for trial_id, rows in run.metrics.load(done).groupby("trial_id"):
            finished: Any = _FinishedTrial(str(trial_id))
            scheduler.on_trial_add(nobody, finished)
            for row in rows.to_dict("records"):
                if math.isfinite(row[settings.metric]):
                    scheduler.on_trial_result(nobody, finished, row)
    return scheduler


class StopSweep(tune.Stopper):
    """Ends the sweep when its records can no longer be kept (a full disk, a lost lock), and when
    the driver is to leave: then trials are given a while to halt, each at a checkpoint."""

    def __init__(self, keeper: "RecordKeeper", lock: RunLock, request: LeaveRequest) -> None:
        self._keeper, self._lock, self._request = keeper, lock, request
        self._asked_at = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as for the keeper

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial is ended by its result."""
        return False

    def stop_all(self) -> bool:
        """Whether nothing is to go on."""
        if self._keeper.error is not None:
            return True
        if not self._request.asked:
            return False
        if not self._asked_at:
            self._asked_at = time.monotonic()
            # In a thread: storage that does not answer must not keep the driver.
            threading.Thread(target=self._ask, name="ask-to-stop", daemon=True).start()
        return self._keeper.all_halted() or time.monotonic() - self._asked_at > HALT_WITHIN_S

    def _ask(self) -> None:
        with suppress(OSError):  # then trials go on from their last checkpoints
            self._lock.ask_to_stop()
