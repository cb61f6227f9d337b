"""Storage that fails between one call and the next: nothing is lost or undone by it."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage import InputError, MaskStore, Run, filesystem, retrying
from storage.lock import RunLock
from sweeps import record_keeper
from sweeps.faults import StorageFailed
from sweeps.progress import Counts
from sweeps.record_keeper import RecordKeeper
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


def test_a_driver_whose_write_had_to_wait_does_not_undo_its_successors(
    small: Small, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, (task,) = begin(small())
    record = run.record(task.trial_id)
    write, tries = filesystem.write_file, 0

    def cut_off(path: Path, data: Any) -> None:
        nonlocal tries
        tries += path.parent.name == "trials"
        if tries == 1:
            tries += 1
            held = run.out / "lock" / f"{lock.generation}.json"
            held.write_text("{}")  # of a host that nobody can look at, and not renewed
            os.utime(held, (0, 0))
            with RunLock(run.out, "run"):
                run.write_record(replace(record, state="completed"))
            raise OSError(errno.EIO, "Input/output error", str(path))
        write(path, data)

    monkeypatch.setattr(filesystem, "write_file", cut_off)
    with (
        RunLock(run.out, "run") as lock,
        retrying.checking(lock.check),
        pytest.raises(InputError, match="taken over"),
    ):
        run.write_record(replace(record, state="running"))
    assert run.record(task.trial_id).state == "completed"


def test_a_trial_is_completed_although_its_checkpoints_cannot_be_removed(
    small: Small, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small()
    run, (task,) = begin(study)
    row = run_trial(task)

    def away(*arguments: Any) -> None:
        raise retrying.StorageUnavailable(errno.EIO, "no answer", "checkpoints")

    monkeypatch.setattr(record_keeper, "drop_checkpoints", away)
    with RunLock(run.out, "run") as lock:
        keeper = RecordKeeper(study, run, lock, run.records(), Counts(1), lambda counts: None)
        result = {"epoch": study.epochs, "row": row, "completed": True}
        trial = SimpleNamespace(config={"task": {"trial_id": task.trial_id}}, last_result=result)
        keeper.on_trial_complete(0, [], trial)
    assert keeper.error is None
    assert run.record(task.trial_id).state == "completed"
