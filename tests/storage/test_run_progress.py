"""How far a run is, by its listings alone: what reading everything would give, and how fast."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import append, keys, trial

from storage import MaskStore, Run
from storage.attempts import claim_attempt
from storage.checkpoints import write_checkpoint
from storage.distance_sets import BEGUN, BegunDistances
from storage.distance_store import DistanceStore
from storage.lock import RunLock
from storage.records import TrialRecord
from storage.run_progress import read_progress
from storage.snapshot_census import take_census

STEPS_PER_EPOCH = 10
MINUTE = 60.0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of nothing."""
    return Run.create(tmp_path / "out", "tiny", "name: tiny\n", {})


def record(run: Run, number: int, state: str, epochs: int = 10) -> TrialRecord:
    made = TrialRecord(
        trial_id=trial(number), study="tiny", config={"seed": number}, state=state,
        steps_per_epoch=STEPS_PER_EPOCH, total_steps=epochs * STEPS_PER_EPOCH,
        updated_at="2025-01-02T03:04:05+00:00",
    )  # fmt: skip
    run.write_record(made)
    return made


def stamp(path: Path, ago_s: float) -> None:
    """Let a file be as old as this."""
    then = time.time() - ago_s
    os.utime(path, (then, then))


def staged(run: Run, number: int, step: int) -> Path:
    """A snapshot's file: its name and time are all that is looked at."""
    path = run.out / "masks" / "staging" / trial(number) / f"{step:08d}-a1.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 2), st.integers(0, 4), st.integers(1, 3)),
    st.tuples(st.just("claim"), st.integers(1, 2), st.integers(-1, 4), st.just(0)),
    st.tuples(st.just("compact"), st.just(0), st.just(0), st.just(0)),
)


@settings(deadline=None, max_examples=25)
@given(st.lists(OPERATIONS, max_size=12))
def test_the_census_counts_what_the_index_has(tmp_path_factory, operations):
    """Whatever attempts wrote, in whatever order, staged, compacted or both."""
    store = MaskStore(tmp_path_factory.mktemp("census"))
    for what, number, step, attempt in operations:
        if what == "append":
            append(store, trial(number), 10 * step, attempt)
        elif what == "claim":
            claim_attempt(store.out, trial(number), 10 * step if step >= 0 else -1)
        else:
            store.compact()
    census = take_census(store.out)
    counted = {(trial_id, step) for trial_id, found in census.snapshots.items() for step in found}
    assert counted == {(trial_id, step) for trial_id, step, _ in keys(store)}
    assert (census.files, census.bytes) == store.usage()
    assert census.problems == ()


def test_no_staged_file_is_opened(run):
    append(run.masks, trial(1), 0).write_bytes(b"not Parquet at all")
    assert take_census(run.out).n_snapshots == 1


def test_damaged_parts_claims_and_records_are_named_and_the_rest_is_counted(run):
    for number in (1, 2):
        append(run.masks, trial(number), 0)
    run.masks.compact()
    (part,) = (run.out / "masks" / "compact").iterdir()
    part.write_bytes(b"PAR1")
    append(run.masks, trial(3), 0)
    for _ in range(2):
        claim_attempt(run.out, trial(3), -1)
    append(run.masks, trial(3), 10, attempt=2)
    (run.out / "attempts" / trial(3) / "2.json").write_text("{")
    record(run, 1, "completed")
    record(run, 2, "completed")
    (run.out / "trials" / f"{trial(2)}.json").write_text("[]")
    progress = read_progress(run.out)
    assert progress.census.snapshots.keys() == {trial(3)}
    assert progress.states == {"completed": 1}
    for name in (part.name, "/2.json", f"{trial(2)}.json"):
        assert sum(name in problem for problem in progress.problems) == 1, name


def test_epochs_are_those_of_snapshots_and_checkpoints_whichever_is_later(run):
    record(run, 1, "completed")
    record(run, 2, "running")
    record(run, 3, "running")
    record(run, 4, "pending")
    record(run, 5, "failed")
    append(run.masks, trial(2), 40)
    append(run.masks, trial(3), 20)
    write_checkpoint(run.checkpoint_folder(trial(3)), 30, 1, b"")
    append(run.masks, trial(5), 10)
    progress = read_progress(run.out)
    assert progress.epochs_done == 10 + 4 + 3 + 0 + 1
    assert progress.epochs_total == 10 + 10 + 10 + 10 + 1
    assert (progress.driver, progress.rate, progress.seconds_left) == (None, None, None)
    assert read_progress(run.out, planned=10).epochs_total == 2 * 41


def test_a_trial_that_ended_early_has_nothing_left_to_do(run):
    run.write_record(replace(record(run, 1, "completed"), metrics={"epoch": 4, "step": 40}))
    record(run, 2, "running")
    progress = read_progress(run.out)
    assert progress.epochs_done == 4
    assert progress.epochs_total == 4 + 10


def driver(run: Run, minutes_ago: float) -> RunLock:
    """A lock as a driver holds it that started so long ago and renews it just now."""
    lock = RunLock(run.out, "run")
    lock.__enter__()
    path = lock._path(lock.generation)
    holder = lock.look().holder
    began = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 60 * minutes_ago))
    path.write_bytes(replace(holder, since=began).to_json())
    return lock


@pytest.mark.parametrize("clock_off_by_s", [0.0, 1000.0, -1000.0])
def test_the_rate_is_that_of_the_last_minutes_whatever_the_readers_clock(
    run, clock_off_by_s, monkeypatch
):
    """20 trials one after the other, each of 10 epochs in 2 minutes with 11 snapshots."""
    for number in range(20):
        ended_ago = 2 * MINUTE * (19 - number)
        for epoch in range(11):
            path = staged(run, number, STEPS_PER_EPOCH * epoch)
            stamp(path, ended_ago + 2 * MINUTE * (10 - epoch) / 10)
        ended = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - ended_ago))
        run.write_record(replace(record(run, number, "completed"), updated_at=ended))
    for number in range(20, 30):
        record(run, number, "pending")
    lock = driver(run, minutes_ago=60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + clock_off_by_s)
    progress = read_progress(run.out)
    monkeypatch.undo()
    lock.__exit__(None, None, None)
    assert progress.driver is not None
    assert progress.rate.minutes == 5
    assert progress.rate.epochs == pytest.approx(5, rel=0.1)  # of the clocks' and this test's slack
    assert progress.rate.snapshots == pytest.approx(5.5, rel=0.1)
    assert 1 / 3 <= progress.rate.trials <= 1
    assert progress.seconds_left == pytest.approx(100 / 5 * 60, rel=0.1)


def test_few_commits_are_looked_at_over_a_longer_time(run):
    """An epoch takes half an hour: the last five minutes would say nothing, or far too much."""
    record(run, 1, "running", epochs=100)
    for epoch in range(7):
        stamp(staged(run, 1, STEPS_PER_EPOCH * epoch), (6 - epoch) * 30 * MINUTE + 1)
    lock = driver(run, minutes_ago=180)
    progress = read_progress(run.out)
    lock.__exit__(None, None, None)
    assert progress.rate.minutes == pytest.approx(180, rel=0.02)
    assert progress.rate.epochs == pytest.approx(1 / 30, rel=0.02)


def test_what_earlier_drivers_did_is_no_part_of_the_rate(run):
    record(run, 1, "running", epochs=100)
    for epoch in range(0, 40, 13):
        append(run.masks, trial(1), STEPS_PER_EPOCH * epoch)
    run.masks.compact()
    record(run, 2, "running", epochs=100)
    for epoch in range(40):
        stamp(staged(run, 2, STEPS_PER_EPOCH * epoch), 86400 - MINUTE * epoch)
    for epoch in (40, 41, 42):
        for number in (1, 2):
            stamp(staged(run, number, STEPS_PER_EPOCH * epoch), MINUTE * (42 - epoch))
    lock = driver(run, minutes_ago=3)
    progress = read_progress(run.out)
    lock.__exit__(None, None, None)
    assert progress.rate.epochs == pytest.approx(2, rel=0.1)


def test_a_lock_is_seen_without_a_write(run):
    lock = RunLock(run.out, "run")
    assert lock.look() is None
    with lock:
        before = (run.out / "lock").stat().st_mtime_ns
        assert lock.look().holder.purpose == "run"
        assert (run.out / "lock").stat().st_mtime_ns == before
    assert lock.look() is None


def test_tiles_of_a_set_in_progress_are_those_of_its_own_plan(run):
    store = DistanceStore(run.out, "final")

    def tile(name: str, ago_s: float) -> None:
        store.write_tile(
            name, "digest", i=np.array([0], np.int32), j=np.array([1], np.int32),
            values=np.zeros((1, 1)), canonical=np.array([True]), layers=[],
        )  # fmt: skip
        stamp(store.tile_path(name), ago_s)

    for number in range(5):
        tile(f"0-{number}", 1000)  # three are of another plan
    BegunDistances(tiles=10, there=2, pairs=45, options={"steps": "all"}).write(store.folder)
    stamp(store.folder / BEGUN, 100)
    for number in range(4, 8):
        tile(f"0-{number}", 50)
    (interrupted,) = read_progress(run.out).unfinished
    assert (interrupted.name, interrupted.done, interrupted.begun.tiles) == ("final", 6, 10)
    assert interrupted.seconds_left is None
    with RunLock(run.out, "run"):  # goes on with the run, and has not come to this set
        (waiting,) = read_progress(run.out).unfinished
    assert (waiting.done, waiting.seconds_left) == (6, None)
    lock = driver(run, minutes_ago=10)
    (running,) = read_progress(run.out).unfinished
    lock.__exit__(None, None, None)
    assert running.seconds_left == pytest.approx(100, rel=0.1)  # 4 tiles in 100 s, 4 to come


def test_a_damaged_file_of_a_set_is_named(run):
    folder = DistanceStore(run.out, "final").folder
    BegunDistances(10, 0, 45, {}).write(folder)
    (folder / BEGUN).write_text('{"tiles": 1}')
    progress = read_progress(run.out)
    assert progress.unfinished == ()
    assert BEGUN in progress.problems[0]
