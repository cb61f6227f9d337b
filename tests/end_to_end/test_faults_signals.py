"""SIGTERM to the driver and to a trial's process: a last checkpoint, and nothing done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage import Run
from storage.attempts import read_claims
from storage.checkpoints import list_checkpoints
from tests.end_to_end.kill_and_resume import assert_same_results, toposweep

# One long epoch, and no checkpoint within it but the one that a signal brings about.
STUDY = """
name: terminated
data: {name: digits}
model: {name: mlp, hidden: [500, 500]}
method: {name: set, density: 0.3, update_every: 100it}
optimizer: {name: sgd, lr: 0.001, batch_size: 1}
epochs: 1
snapshot_every: 200it
checkpoint_every: 1ep
space: {seed: [0, 1]}
distances: {final: {steps: last}}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study file."""
    path = tmp_path_factory.mktemp("terminated") / "study.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def peace(study: Path) -> Run:
    """The run that nothing disturbed."""
    toposweep("run", str(study), "--out", str(study.parent / "peace"))
    return Run.open(study.parent / "peace")


def started(study: Path, out: Path) -> subprocess.Popen[bytes]:
    """A run whose two trials have begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", "run", str(study), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while len(list(out.glob("masks/staging/*/*.parquet"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    return process


def test_sigterm_to_the_driver_leaves_checkpoints_in_mid_epoch_and_says_how_to_go_on(
    study: Path, peace: Run
) -> None:
    out = study.parent / "driver"
    process = started(study, out)
    process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 143
    assert complaint.decode().strip() == f"terminated; go on with: toposweep resume {out}"
    run = Run.open(out)
    kept = {
        trial_id: list_checkpoints(run.checkpoint_folder(trial_id), read_claims(out, trial_id))
        for trial_id in run.records()
    }
    assert any(kept.values())
    toposweep("resume", str(out))
    for trial_id, checkpoints in kept.items():
        if checkpoints:
            assert 0 < checkpoints[0].step < run.record(trial_id).steps_per_epoch
            assert read_claims(out, trial_id)[1].first_step == checkpoints[0].step
    assert_same_results(run, peace)


def test_sigterm_to_a_trials_process_is_no_failure_and_it_goes_on_where_it_stood(
    study: Path, peace: Run
) -> None:
    out = study.parent / "worker"
    once = study.with_name("once.yaml")
    once.write_text(STUDY + "resources: {max_failures: 0}\n")
    process = started(once, out)
    (claim, *_) = sorted(out.glob("attempts/*/1.json"))
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGTERM)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint.decode()
    _, second = read_claims(out, claim.parent.name)
    assert 0 < second.first_step < Run.open(out).record(claim.parent.name).steps_per_epoch
    assert_same_results(Run.open(out), peace)
