"""`toposweep status`: what it prints, what it hints at, and how it watches."""

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic_run import add_trial, configuration, new_run

from storage import Run
from storage.attempts import claim_attempt
from storage.distance_sets import BEGUN
from storage.distance_store import DistanceStore
from storage.filesystem import names_in
from storage.lock import RunLock
from sweeps.cli import cli
from sweeps.status import MOST_FAILURES, look, status_command, status_lines, watch_status
from sweeps.trial import Trial
from topology.pairwise import DistanceSpec, run_distances


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two trials completed, one running, one that has not begun."""
    run = new_run(tmp_path / "my out")
    for seed in range(2):
        add_trial(run, configuration("set", 0.2, seed))
    add_trial(run, configuration("set", 0.2, 2), state="running", until=8)
    add_trial(run, configuration("set", 0.2, 3), state="pending", until=-1)
    return run


def status(out: object, *options: str) -> list[str]:
    done = CliRunner().invoke(status_command, [str(out), *options], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output.splitlines()


def line_of(lines: list[str], name: str) -> str:
    (line,) = [line for line in lines if line.split()[0] == name]
    return line.strip()


def test_a_dead_drivers_run_says_what_is_there_and_how_to_go_on(run: Run) -> None:
    lines = status(run.out)
    assert line_of(lines, "trials").endswith("4: 2 completed, 1 running, 1 pending")
    assert line_of(lines, "epochs").endswith("32 of 48")
    assert "11 snapshots, 11 file(s)" in line_of(lines, "masks")
    assert line_of(lines, "driver") == (
        f"driver     none; 1 trials were cut off; go on with: toposweep resume '{run.out}'"
    )
    assert not any(line.split()[0] in ("rate", "left", "failed", "damaged") for line in lines)


def test_a_live_driver_is_named_with_rate_and_time_left(run: Run) -> None:
    lock = RunLock(run.out, "run")
    with lock:
        path = lock._path(lock.generation)
        began = path.read_text().replace(lock._since, "2025-01-01T00:00:00+00:00", 1)
        path.write_text(began)
        lines = status(run.out)
    assert re.search(r"trials, .* epochs, .* snapshots a minute, over", line_of(lines, "rate"))
    assert "of training" in line_of(lines, "left")
    assert f"run, pid {os.getpid()} on " in line_of(lines, "driver")


def test_failures_are_told_by_reason_with_the_log_of_one(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    for seed in range(MOST_FAILURES + 4):
        reason = "the loss is nan\nand more" if seed < 3 else f"reason {seed}"
        add_trial(run, configuration("set", 0.2, seed), "failed", reason, until=-1)
    first, *_ = (r.trial_id for r in run.records().values() if "nan" in (r.reason or ""))
    run.log_path(first).parent.mkdir()
    run.log_path(first).touch()
    lines = [line.strip() for line in status(run.out) if line.split()[0] == "failed"]
    assert len(lines) == MOST_FAILURES + 1
    told = [line for line in lines if "nan" in line]
    assert told == [f"failed     {first} and 2 more: the loss is nan ({run.log_path(first)})"]
    others = [line for line in lines if "reason" in line and "nan" not in line]
    assert all(line.endswith(".json)") for line in others[:-1])  # these left no log
    assert lines[-1] == "failed     and 2 more, for 2 other reasons"
    assert "--retry-failed" in line_of(status(run.out), "again")


@pytest.mark.usefixtures("ray_here")
def test_an_interrupted_set_shows_its_tiles_and_the_command_that_completes_it(run: Run) -> None:
    spec = DistanceSpec(steps=["0ep", "8ep"], where="method_density < 0.9", method="reference")

    run.study_path.write_text("name: synthetic\nimported: true\n")

    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_distances(run.out, "custom", spec, progress=interrupt, in_process=True)
    lines = [line.strip() for line in status(run.out)]
    assert "distances  custom: 1 of 3 tiles, 15 pairs in all" in lines
    (hint,) = [line for line in lines if "toposweep distances" in line]
    words = shlex.split(hint.partition("toposweep ")[2])
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    stored = DistanceStore(run.out, "custom")
    asked = {key: stored.read_spec()[key] for key in ("steps", "where", "method", "pairs")}
    assert asked == {
        "steps": "0ep,8ep", "where": spec.where, "method": "reference", "pairs": 15
    }  # fmt: skip
    assert not (stored.folder / BEGUN).exists()
    assert any("custom: 6 snapshots, 15 pairs (reference" in line for line in status(run.out))


def test_watching_a_run_without_a_driver_ends_at_once(run: Run) -> None:
    assert status(run.out, "--watch") == status(run.out)
    assert status("--watch", str(run.out)) == status(run.out)
    assert status(run.out, "--watch", "0.5") == status(run.out)


def test_watching_survives_a_file_that_cannot_be_read_and_ends_with_the_run(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = RunLock(run.out, "run")
    lock.__enter__()
    path = lock._path(lock.generation)
    whole = path.read_bytes()
    watching = threading.Thread(target=watch_status, args=(run, str(run.out), 0.05))
    printed = ""

    def until(condition: Callable[[], bool]) -> None:
        nonlocal printed
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, printed
            time.sleep(0.02)
            printed += capsys.readouterr().out

    watching.start()
    until(lambda: "11 snapshots" in printed)
    path.write_bytes(b"{")
    until(lambda: "no answer: " in printed)
    path.write_bytes(whole)
    printed = ""
    until(lambda: "11 snapshots" in printed)
    lock.__exit__(None, None, None)
    until(lambda: not watching.is_alive())
    printed += capsys.readouterr().out
    assert printed.splitlines()[-1].strip().startswith("driver     none; ")


def test_on_a_terminal_it_draws_in_place_until_ctrl_c(run: Run) -> None:
    ours, theirs = pty.openpty()
    code = "import sys; from sweeps.cli import main; sys.argv[0] = 'toposweep'; main()"
    with RunLock(run.out, "run"):
        process = subprocess.Popen(
            [sys.executable, "-c", code, "status", str(run.out), "--watch", "0.1"],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
        )  # fmt: skip
        os.close(theirs)
        shown, sent = b"", False
        deadline = time.monotonic() + 120
        while process.poll() is None:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
            if shown.count(b"11 snapshots") >= 3 and not sent:
                sent = True
                process.send_signal(2)
        assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"\x1b[1A" in shown  # the cursor goes up again
    assert b"Traceback" not in shown


def test_a_failed_trial_leaves_its_log_in_an_object_store(small, bucket: str) -> None:  # type: ignore[no-untyped-def]
    from sweeps.plan import plan_trials
    from sweeps.study_file import study_yaml
    from sweeps.task import make_task, pending_record
    from sweeps.training import TrainingFailed

    study = small(optimizer={"name": "sgd", "lr": 1e30, "batch_size": 128})
    run = Run.create(f"{bucket}/failing", study.name, study_yaml(study), {})
    (planned,) = plan_trials(study)
    record = pending_record(study, planned)
    run.write_record(record)
    trial = Trial(make_task(study, run, planned))
    with pytest.raises(TrainingFailed) as failed:  # within its four epochs
        list(iter(trial.step, None))
    trial.log_failure(failed.value)
    trial.close()
    record.state, record.reason = "failed", str(failed.value)
    run.write_record(record)
    assert names_in(run.out / "logs") == [f"{record.trial_id}.log"]
    log = run.log_path(record.trial_id).read_text()
    assert "attempt 1 begins from scratch" in log
    assert "Traceback" in log
    lines = status_lines(run, str(run.out), look(run))
    assert any(f"({run.log_path(record.trial_id)})" in line for line in lines)
    claim_attempt(run.out, record.trial_id, -1)  # fences the snapshots of the first attempt
    assert look(run).census.n_snapshots == 0


def test_an_optuna_search_counts_the_trials_to_come(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    add_trial(run, configuration("set", 0.2, 0))
    add_trial(run, configuration("set", 0.2, 1), state="running", until=0)
    text = "name: x\nsearch: {algorithm: optuna, num_samples: 10}\n"
    run.study_path.write_text(text)
    assert line_of(status(run.out), "epochs").endswith("12 of 120")
