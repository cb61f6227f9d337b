"""A few rounds of the chaos script; the seeds are such that they have faults of every part."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.cluster
def test_disturbed_runs_equal_the_undisturbed_one(tmp_path: Path) -> None:
    kinds = ["kill_driver", "kill_host", "kill_raylet", "second_driver"]
    words = ["--rounds", "2", "--seed", "4", "--keep", str(tmp_path / "kept"), "--kinds", *kinds]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.chaos", *words],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
