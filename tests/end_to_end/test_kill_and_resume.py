"""A short version of `kill_and_resume.py`, and the same for Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage import Run
from tests.chaos.invariants import assert_same_results
from tests.end_to_end.kill_and_resume import killed_and_resumed, run_undisturbed, toposweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study file."""
    return tmp_path_factory.mktemp("kill")


@pytest.fixture(scope="module")
def peace(folder: Path) -> Run:
    """The run that nothing disturbed."""
    return run_undisturbed(folder)[0]


def test_a_driver_killed_twice_ends_as_one_never_killed(folder: Path, peace: Run) -> None:
    snapshots = len(peace.masks.index()[["trial_id", "step"]].drop_duplicates())
    run = killed_and_resumed(folder, "killed", [snapshots // 4, snapshots // 2])
    assert len(list((run.out / "attempts").glob("*/*.json"))) > len(run.records())
    assert_same_results(run, peace)


def test_ctrl_c_leaves_a_run_that_resumes_and_says_how(folder: Path, peace: Run) -> None:
    out = folder / "interrupted"
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", "run", str(folder / "study.yaml"), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while len(list(out.glob("masks/staging/*/*.parquet"))) < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate()
    assert process.returncode == 130
    assert f"toposweep resume {out}" in complaint.decode()
    assert "Traceback" not in complaint.decode()
    toposweep("resume", str(out))
    assert_same_results(Run.open(out), peace)


@pytest.mark.cluster
def test_a_trial_whose_process_is_killed_goes_on_in_another(folder: Path, peace: Run) -> None:
    out = folder / "orphaned"
    words = ["run", str(folder / "study.yaml"), "--out", str(out)]
    process = toposweep(*words, wait=False)
    while len(list(out.glob("masks/staging/*/*.parquet"))) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    newest = max(out.glob("attempts/*/1.json"), key=lambda path: path.stat().st_mtime)
    os.kill(json.loads(newest.read_text())["pid"], signal.SIGKILL)
    printed = process.communicate()[0].decode()
    assert process.returncode == 0, printed
    run = Run.open(out)
    assert len(list((out / "attempts").glob("*/*.json"))) > len(run.records())
    assert_same_results(run, peace)
