"""What travels to a worker, and the record of it that stays with the driver."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from storage.filesystem import names_in
from storage.lock import RunLock
from storage.runs import Run, TrialRecord
from sweeps.plan import PlannedTrial
from sweeps.study import Study
from sweeps.training.compute import Compute
from sweeps.training.imports import folders_of


@dataclass(frozen=True)
class TrialTask:
    """All that a trial needs to run anywhere that OUT can be reached."""

    trial_id: str
    study: str
    out: str
    config: dict[str, Any]
    snapshot_every: str
    checkpoint_every: str
    data_path: str | None = None
    threads: int = 1
    device: str = "cpu"
    compute: Compute = "auto"
    lock_generation: int = 0  # of the driver that it is for; 0: there is none
    # Packages of the user's own that may be imported, and the folder where the driver has each.
    imports: dict[str, str | None] = field(default_factory=dict)


def make_task(
    study: Study, run: Run, trial: PlannedTrial, lock: RunLock | None = None
) -> TrialTask:
    """What a worker needs to run a planned trial for a driver that holds `lock`."""
    return TrialTask(
        trial_id=trial.trial_id,
        study=study.name,
        out=str(run.out),
        config=trial.config,
        snapshot_every=study.snapshot_every,
        checkpoint_every=study.checkpoint_every,
        data_path=trial.data_path,
        threads=study.resources.threads,
        device=study.resources.device,
        compute=study.resources.compute,
        lock_generation=lock.generation if lock else 0,
        imports=folders_of(study.imports),
    )


def pending_record(study: Study, trial: PlannedTrial) -> TrialRecord:
    """The record of a trial that has not begun."""
    return TrialRecord(
        trial_id=trial.trial_id,
        study=study.name,
        config=trial.described(),
        state="pending",
        steps_per_epoch=trial.steps_per_epoch,
        total_steps=trial.total_steps,
        updated_at=now(),
    )


def drop_checkpoints(run: Run, trial_id: str) -> None:
    """Delete a completed trial's checkpoints: its final weights stay, nothing goes on from it."""
    folder = run.checkpoint_folder(trial_id)
    for name in names_in(folder):
        if name.endswith(".pt"):
            (folder / name).unlink(missing_ok=True)


def now() -> str:
    """The time as it stands in records: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
