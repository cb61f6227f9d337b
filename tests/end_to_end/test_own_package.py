"""A study of nothing but its user's own code, in the current folder of the console script."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage import Run
from sweeps.plan import plan_trials
from sweeps.study_file import load_study, study_yaml
from sweeps.task import make_task, pending_record
from sweeps.trial import run_trial
from tests.chaos.invariants import shown
from tests.sweeps.own_package import write_package

ROOT = Path(__file__).parents[2]

STUDY = """
name: own
imports: [own_package_on_ray]
data: {name: "own_package_on_ray.kit:Iris", held_out: 5}
model: {name: "own_package_on_ray.kit:Tanh", hidden: [12]}
method: {name: "own_package_on_ray.kit:Lowest", density: 0.4}
optimizer: {name: "own_package_on_ray.kit:Signed", lr: 0.001, batch_size: 2}
epochs: 200
snapshot_every: 1ep
"""


def toposweep(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The program as the console script starts it: the current folder is not on its path."""
    code = "import sys; from sweeps.cli import main; sys.argv[0] = 'toposweep'; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *words],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def undisturbed(folder: Path) -> Run:
    """The same study, run in this process."""
    study = load_study(folder / "study.yaml")
    run = Run.create(folder / "undisturbed", study.name, study_yaml(study), {})
    (trial,) = plan_trials(study)
    run.write_record(pending_record(study, trial))
    run_trial(make_task(study, run, trial))
    return run


def test_own_code_runs_on_ray_and_goes_on_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_package(tmp_path, "own_package_on_ray")
    (tmp_path / "study.yaml").write_text(STUDY)
    out = tmp_path / "runs" / "own"
    process = toposweep(tmp_path, "run", "study.yaml")
    while len(list(out.glob("masks/staging/*/*.parquet"))) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, complaint = process.communicate()
    assert process.returncode == 130, complaint
    assert f"importing own_package_on_ray, which the study lists, from {tmp_path}" in printed

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = toposweep(elsewhere, "resume", str(out))
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert complaint.startswith("error: imports: 'own_package_on_ray' is not allowed")
    assert complaint.count("\n") == 1

    process = toposweep(tmp_path, "resume", str(out))
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    resumed = Run.open(out)
    (record,) = resumed.records().values()
    assert record.state == "completed"
    assert len(list((out / "attempts").glob("*/*.json"))) == 2

    process = toposweep(elsewhere, "report", str(out))
    assert process.wait() == 0, process.communicate()

    monkeypatch.chdir(tmp_path)
    assert shown(resumed) == shown(undisturbed(tmp_path))
