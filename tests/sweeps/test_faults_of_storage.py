"""Storage that fails for a moment, between one call and the next: nothing is lost or undone by it."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from storage import MaskStore, Run
from sweeps.faults import StorageFailed
from sweeps.study import Study
from sweeps.task import TrialTask
from sweeps.trial import run_trial
from sweeps.tune_trial import TuneTrial
from tests.sweeps.test_trial import assert_equal_runs, tune_config

Small = Callable[..., Study]
Begin = Callable[..., tuple[Run, list[TrialTask]]]


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_trial_that_could_not_write_once_goes_on_only_in_another_process(
    small: Small, begin: Begin, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    peace, (task,) = begin(small(), "peace")
    run_trial(task)
    run, (task,) = begin(small(), "hit")
    commit, commits = MaskStore.append, 0

    def append(self: MaskStore, **arguments: Any) -> Any:
        nonlocal commits
        commits += 1
        if commits == failing + 1:
            raise OSError(errno.ENOSPC, "No space left on device", "masks")
        return commit(self, **arguments)

    monkeypatch.setattr(MaskStore, "append", append)
    actor = TuneTrial(tune_config(task))
    answers = [actor.step() for _ in range(8)]
    assert not any(answer["done"] for answer in answers)
    first = next(n for n, answer in enumerate(answers) if answer.get("storage"))
    assert all(answer["storage"]["errno"] == errno.ENOSPC for answer in answers[first:])
    with pytest.raises(StorageFailed, match="masks: No space left"):
        actor.save_checkpoint("")
    actor.cleanup()
    run_trial(task)
    assert_equal_runs(run, peace)
