"""The Slurm script: what it asks for; and whole, on two hosts with real Ray, told to leave."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from storage import Run
from storage.attempts import read_claims
from sweeps.cli import cli
from tests.chaos.host import permitted
from tests.cluster.launched import Files, launched
from tests.cluster.slurm_stand_in import JOB_ID, ROOT, Job, Slurm

STUDY = """\
name: overnight
data: digits
model: {name: mlp, hidden: [16]}
method: {name: set, density: 0.3}
epochs: 150
snapshot_every: 50ep
checkpoint_every: 1ep
space: {seed: [0, 1]}
"""


def test_shellcheck_finds_nothing_in_the_batch_script(
    files: Files, own: Path, tmp_path: Path
) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck is not installed")
    for platform, text in files:
        if platform == "slurm":
            script = tmp_path / "job.sh"
            script.write_text(text)
            # It cannot read the environment's script, nor see that `bash -c sweep` is a call.
            done = subprocess.run([shellcheck, "--exclude=SC1091,SC2329", script],
                                  capture_output=True, text=True, check=False)  # fmt: skip
            assert done.returncode == 0, done.stdout


def test_the_batch_script_asks_slurm_for_what_the_study_takes(own: Path) -> None:
    text = launched("slurm", own, "--nodes", 3, "--gpus-per-node", 2, "--out", "/shared/a run")
    options = re.findall(r"^#SBATCH --(\S+?)(?:=(\S+))?$", text, re.MULTILINE)
    assert len(options) == text.count("#SBATCH")
    asked = dict(options)
    assert (asked["nodes"], asked["gpus-per-node"], asked["cpus-per-task"]) == ("3", "2", "8")
    assert asked["job-name"] == "My_Study.v2"
    assert "requeue" in asked
    told = re.fullmatch(r"B:USR1@(\d+)", asked["signal"])  # the shell alone, in time to leave
    assert told
    assert int(told[1]) >= 120
    assert f"STUDY='{own}'" in text
    assert "OUT='/shared/a run'" in text
    assert "up to 12 trials at once" in text


def test_slurm_gets_no_gpu_option_where_there_is_no_gpu() -> None:
    text = launched("slurm", "quickstart", "--nodes", 2, "--gpus-per-node", 0)
    assert "#SBATCH --gpus" not in text
    assert f"OUT={Path.cwd() / 'runs' / 'quickstart'}" in text


def test_a_default_folder_that_nodes_seldom_share_costs_a_warning() -> None:
    words = ["launch", "slurm", "quickstart", "--gpus-per-node", "0", "--out", "/tmp/x"]
    assert "seldom share" in CliRunner().invoke(cli, [*words, "--nodes", "2"]).stderr
    assert CliRunner().invoke(cli, [*words, "--nodes", "1"]).stderr == ""


@pytest.mark.skipif(not permitted(), reason="no namespaces of one's own are permitted here")
@pytest.mark.skipif(not (Path(sys.prefix) / "bin" / "activate").exists(), reason="needs a venv")
@pytest.mark.cluster
def test_a_job_whose_time_is_up_queues_again_and_goes_on(tmp_path: Path) -> None:
    study, out, log = tmp_path / "overnight.yaml", tmp_path / "shared" / "run", tmp_path / "log"
    study.write_text(STUDY)
    words = ["slurm", str(study), "--nodes", "2", "--gpus-per-node", "0", "--cpus-per-node", "1"]
    script = tmp_path / "job.sh"
    script.write_text(launched(*words, "--out", out))
    (tmp_path / "home").mkdir()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    slurm = Slurm(
        tmp_path / "slurm",
        {**inherited, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
    )

    with slurm.start(script, log) as first:
        answer = ask_without_a_token(first)
        while first.running and not list(out.glob("checkpoints/*/*.pt")):
            time.sleep(0.1)
        first.tell()
        code, again = first.wait()
        assert code >= 128, log.read_text()
        assert again, log.read_text()
    with slurm.start(script, log) as second:
        assert second.wait() == (0, False), log.read_text()

    said = log.read_text()
    assert said.count("2 nodes, 2 CPU") == 2, said
    run = Run.open(out)
    assert [record.state for record in run.records().values()] == ["completed"] * 2
    assert max(claim.first_step for trial in run.records() for claim in read_claims(out, trial)) > 0
    index = run.masks.index(with_config=False)
    for _, rows in index.groupby("trial_id"):
        assert sorted(rows["epoch"]) == [0, 0, 50, 50, 100, 100, 150, 150]  # two layers each
    assert run.verify() == []

    # The token was made for its owner alone, is nowhere else, and nobody is let in without it.
    token = tmp_path / "home" / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert answer.startswith("AuthenticationError")
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != token:
            assert token.read_bytes() not in path.read_bytes(), path


def ask_without_a_token(job: Job) -> str:
    """What Ray answers to a stranger on the job's network, once it runs."""
    address = f"{job.hosts[0].ip}:{20000 + JOB_ID % 10000}"
    stranger = [sys.executable, str(Path(__file__).with_name("stranger.py")), address]
    done = subprocess.run(
        job.hosts[1].enter(stranger), capture_output=True, text=True, check=True, timeout=600
    )
    return done.stdout
