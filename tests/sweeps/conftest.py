"""Small trials and studies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import Run
from sweeps.plan import PlannedTrial, plan_trials
from sweeps.study import Study, check_study
from sweeps.study_file import study_yaml
from sweeps.task import TrialTask, make_task, pending_record

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [16, 12]},
    "method": {"name": "set", "density": 0.3},
    "optimizer": {"name": "sgd", "lr": 0.02, "batch_size": 128},
    "epochs": 4,
    "snapshot_every": "1ep",
    "checkpoint_every": "1ep",
}


@pytest.fixture
def small() -> Callable[..., Study]:
    """A study of one trial that takes a fraction of a second; keys may be changed."""

    def make(**changes: Any) -> Study:
        return check_study({**SMALL, **changes})

    return make


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., tuple[Run, list[TrialTask]]]:
    """A new run of a study, with the tasks of its trials."""

    def make(study: Study, name: str = "out") -> tuple[Run, list[TrialTask]]:
        run = Run.create(tmp_path / name, study.name, study_yaml(study), {})
        trials: list[PlannedTrial] = plan_trials(study)
        for trial in trials:
            run.write_record(pending_record(study, trial))
        return run, [make_task(study, run, trial) for trial in trials]

    return make
