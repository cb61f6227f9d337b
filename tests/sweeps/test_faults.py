"""Deaths and damage, trial by trial: whose fault they are, and what is made good."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cluster import watching
from storage import CorruptFile, InputError, Run
from storage.attempts import read_claims
from storage.lock import RunLock, must_stop
from sweeps.faults import FencedError, GivenUp, Halted, checked_data_error, fault_of, why_died
from sweeps.leaving import Leave, leaving
from sweeps.repair import repair_job
from sweeps.stop_watch import StopWatch
from sweeps.study import Study
from sweeps.task import TrialTask
from sweeps.trial import Trial, run_trial
from sweeps.tune_trial import TuneTrial
from tests.sweeps.test_trial import assert_equal_runs, run_to_end, tune_config

Small = Callable[..., Study]
Begin = Callable[..., tuple[Run, list[TrialTask]]]


# Stopping where they stand


@pytest.mark.parametrize("victim", [1, 7, 12, 13, 20])
def test_a_trial_that_was_asked_to_stop_goes_on_from_that_very_step(
    small: Small, begin: Begin, victim: int
) -> None:
    study = small(checkpoint_every="4ep", snapshot_every="3it")
    peace, (task,) = begin(study, "peace")
    run_trial(task)
    run, (task,) = begin(study, "stopped")
    stop = threading.Event()
    trial = Trial(task, stop)
    committed = trial._on_step

    def on_step(step: int) -> None:
        if step == victim:
            stop.set()
        committed(step)

    trial._on_step = on_step  # type: ignore[method-assign]
    with pytest.raises(Halted):
        run_to_end(trial)
    again = Trial(task)
    assert again.claim.first_step == victim
    while not again.step()["done"]:
        pass
    assert_equal_runs(run, peace)


def test_a_trial_goes_on_in_its_process_when_the_wish_is_withdrawn(
    small: Small, begin: Begin
) -> None:
    study = small(checkpoint_every="4ep")
    peace, (task,) = begin(study, "peace")
    run_trial(task)
    run, (task,) = begin(study, "stopped")
    stop = threading.Event()
    trial = Trial(task, stop)
    trial.step()
    stop.set()
    with pytest.raises(Halted):
        trial.step()
    stop.clear()
    while not trial.step()["done"]:
        pass
    assert_equal_runs(run, peace)
    assert len(read_claims(run.out, task.trial_id)) == 1


def test_what_works_for_a_lock_stops_when_asked_when_released_and_when_replaced(
    tmp_path: Path,
) -> None:
    with RunLock(tmp_path, "run") as lock:
        assert not must_stop(tmp_path, lock.generation)
        lock.ask_to_stop()
        assert must_stop(tmp_path, lock.generation)
    with RunLock(tmp_path, "run") as second:
        assert must_stop(tmp_path, second.generation - 1)  # its file has gone
        assert not must_stop(tmp_path, second.generation)
        generation = second.generation
    assert must_stop(tmp_path, generation)


def test_a_trial_whose_driver_asks_it_to_stop_answers_so_and_claims_nothing_anew(
    small: Small, begin: Begin
) -> None:
    run, (task,) = begin(small())
    with RunLock(run.out, "run") as lock:
        task = replace(task, lock_generation=lock.generation)
        actor = TuneTrial(tune_config(task))
        assert actor.step()["epoch"] == 1
        lock.ask_to_stop()
        actor._watch.look()
        answer = actor.step()
        assert answer["halted"]
        assert not answer["done"]
        assert answer["epoch"] == 1  # a scheduler is told nothing new
        assert actor.reset_config(tune_config(task))
        actor._watch.look()
        assert actor.step()["halted"]
        actor.cleanup()
    assert len(read_claims(run.out, task.trial_id)) == 1


def test_a_watch_on_storage_that_is_away_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock" / "1.json").write_text("no lock")
    watch = StopWatch(str(tmp_path), 1, lambda: False)
    watch.look()
    assert not watch.stop.is_set()
    watch.close()


def test_a_process_whose_node_leaves_stops_and_stays_stopped(tmp_path: Path) -> None:
    answers = iter([True, False])
    watch = StopWatch(str(tmp_path), 0, lambda: next(answers))
    watch.look()
    watch.look()
    assert watch.leaves
    assert watch.stop.is_set()
    watch.close()


# Leaving


def test_sigterm_ends_a_job_at_once_and_waits_where_trials_are_to_halt() -> None:
    def at_once() -> None:
        with leaving(lambda why: None):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)

    reached = []

    def patiently() -> None:
        with leaving(lambda why: None) as request, request.patiently():
            os.kill(os.getpid(), signal.SIGTERM)
            while not request.asked:
                pass
            reached.append(True)

    with pytest.raises(Leave) as left:
        at_once()
    assert left.value.code == 143
    with pytest.raises(Leave):
        patiently()
    assert reached


LEAVES_WITH_NOBODY_READING = """
import os, signal, sys, threading
from sweeps import leaving
leaving.LEAVE_WITHIN_S = leaving.LAST_WORDS_S = 0.1
with leaving.leaving() as request, request.patiently():
    os.set_blocking(2, False)
    try:
        while True:
            os.write(2, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(2, True)
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        threading.Event().wait(1)
"""


def test_a_process_whose_last_words_nobody_reads_ends_all_the_same() -> None:
    command = [sys.executable, "-c", LEAVES_WITH_NOBODY_READING]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(60) == 143
        finally:
            process.kill()


def test_a_lost_cluster_ends_a_job_even_where_it_is_patient() -> None:
    def lost() -> None:
        with leaving(lambda why: None) as request, request.patiently():
            threading.Timer(0.05, request.lose, ["the cluster has gone"]).start()
            threading.Event().wait(60)

    with pytest.raises(Leave) as left:
        lost()
    assert (left.value.why, left.value.code) == ("the cluster has gone", 1)


# Whose fault


def test_only_an_error_that_is_the_trials_own_counts_as_wrong_data() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    away = OSError(errno.ESTALE, "Stale file handle")
    assert checked_data_error(full) is full
    assert checked_data_error(away) is away
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/x")
    assert isinstance(checked_data_error(missing), InputError)
    assert "/data/x" in str(checked_data_error(missing))


@pytest.mark.parametrize(
    ("death", "fault"),
    [
        ("The actor died because its node has died. Node Id: 1", "node"),
        ("ray::TuneTrial.train()\nsweeps.faults.ProcessLeaves: this process", "node"),
        ("ray::TuneTrial.save()\nsweeps.faults.StorageFailed: /out: No space left", "storage"),
        ("ray::TuneTrial.train()\nsweeps.faults.FencedError: attempt 1 has been replaced", "node"),
        ("ray::TuneTrial.train()\nsweeps.faults.EndedAlready: the trial has ended", "trial"),
        ("The actor died unexpectedly\nits worker process has died", "trial"),
        ("", "trial"),
    ],
)
def test_a_death_is_the_trials_own_unless_ray_names_another_reason(death: str, fault: str) -> None:
    assert fault_of(death) == fault


def test_the_line_that_tells_most_of_a_death_is_found() -> None:
    text = "died\nTask was killed due to the node running low on memory.\nsee the docs"
    assert "low on memory" in why_died(text)
    assert why_died("") != ""


def test_storage_that_fails_is_no_failure_of_the_trial(
    small: Small, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, (task,) = begin(small())
    actor = TuneTrial(tune_config(task))
    actor.step()
    # Whatever the user may do: a folder stands where checkpoints are to go.
    folder = run.checkpoint_folder(task.trial_id)
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("a file where a folder must be")
    answer = actor.step()
    assert not answer["failed"]
    assert not answer["done"]
    assert answer["storage"]["errno"] in (errno.ENOTDIR, errno.EEXIST)
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)
    actor.cleanup()


def test_a_trial_that_the_driver_has_given_up_does_not_begin(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small())
    run.write_record(replace(run.record(task.trial_id), state="failed", reason="died"))
    with pytest.raises(GivenUp):
        Trial(task)
    answer = TuneTrial(tune_config(task)).step()
    assert answer["done"]
    assert answer["failed"]
    assert read_claims(run.out, task.trial_id) == []


# Repair


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def newest(run: Run, table: str, trial_id: str) -> Path:
    return max(run.out.glob(f"{table}/staging/{trial_id}/*.parquet"))


@pytest.mark.parametrize("table", ["masks", "metrics"])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_damaged_file_is_put_aside_and_its_trial_comes_out_as_it_was(
    small: Small, begin: Begin, table: str, compacted: bool
) -> None:
    study = small(space={"seed": [0, 1]})
    peace, tasks = begin(study, "peace")
    for task in tasks:
        run_trial(task)
    run, tasks = begin(study, "damaged")
    for task in tasks:
        run_trial(task)
        run.write_record(replace(run.record(task.trial_id), state="completed"))
    store: Any = run.masks if table == "masks" else run.metrics
    if compacted:
        store.compact()
        (path,) = run.out.glob(f"{table}/compact/*.parquet")
        again = {task.trial_id for task in tasks}
    else:
        path = newest(run, table, tasks[0].trial_id)
        again = {tasks[0].trial_id}
    damage(path)
    done = repair_job(run.out)
    assert done.trials == again
    assert not done.beyond
    assert len(list((run.out / "quarantine").iterdir())) == 1
    assert run.verify() == []
    assert {r.trial_id for r in run.records().values() if r.state == "pending"} == again
    for task in tasks:
        if task.trial_id in again:
            run_trial(task)
        run.write_record(replace(run.record(task.trial_id), state="pending"))
    assert_equal_runs(run, peace)
    nothing = repair_job(run.out)
    assert not nothing.put_aside
    assert not nothing.trials


def test_damage_in_a_file_that_does_not_count_costs_no_training(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small())
    zombie = Trial(task)
    zombie.step()
    heir = Trial(task)  # goes on from the end of the first epoch
    with pytest.raises(FencedError):
        zombie.step()
    run_to_end(heir)
    run.write_record(replace(run.record(task.trial_id), state="completed"))
    before = run.masks.index()
    step = 2 * run.record(task.trial_id).steps_per_epoch
    for table in ("masks", "metrics"):
        damage(run.out / table / "staging" / task.trial_id / f"{step:08d}-a1.parquet")
    done = repair_job(run.out)
    assert len(done.put_aside) == 2
    assert done.trials == set()
    assert run.record(task.trial_id).state == "completed"
    pd.testing.assert_frame_equal(run.masks.index(), before)


def test_what_no_training_makes_good_is_named_and_stays(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small())
    run_trial(task)
    claim = run.out / "attempts" / task.trial_id / "1.json"
    claim.write_text("{")
    done = repair_job(run.out)
    assert any(str(claim) in line for line in done.beyond)
    assert claim.read_text() == "{"


def test_a_damaged_checkpoint_is_named_to_the_driver(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small())
    trial = Trial(task)
    trial.step()
    trial.step()
    path = max(run.checkpoint_folder(task.trial_id).glob("*.pt"))
    damage(path)
    actor = TuneTrial(tune_config(task))
    (note,) = actor.step()["notes"]
    assert path.name in note
    assert "older checkpoint" in note
    actor.cleanup()


def test_a_reader_never_passes_over_a_damaged_snapshot(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small())
    run_trial(task)
    path = newest(run, "masks", task.trial_id)
    damage(path)
    with pytest.raises(CorruptFile, match=path.name):
        run.masks.index()
    assert isinstance(run.metrics.load(), pd.DataFrame)


# The cluster


def test_a_head_that_answers_no_more_is_noticed_once_and_a_short_silence_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "POLL_S", 0.01)
    monkeypatch.setattr(watching, "GONE_AFTER_S", 0.2)
    told: list[str] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
        watch = threading.Thread(
            target=watching._watch, args=(f"127.0.0.1:{port}", told.append, over)
        )
        watch.start()
        watch.join(0.5)
        assert watch.is_alive()
        assert told == []
    watch.join(60)
    assert not watch.is_alive()
    (line,) = told
    assert str(port) in line
