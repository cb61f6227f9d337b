"""A full disk under OUT: one line, no trial that failed, and gone on with once there is room."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Run
from tests.end_to_end.kill_and_resume import assert_same_results, run_undisturbed, toposweep

SIZE = 24 * 2**20  # bytes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Use up all room; the file that holds it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            os.fsync(file.fileno())
    return ballast


@pytest.mark.cluster
def test_a_full_disk_stops_the_sweep_in_one_line_and_resume_goes_on(
    tmp_path: Path, small_disk: Path
) -> None:
    peace, _ = run_undisturbed(tmp_path)
    study, out = str(tmp_path / "study.yaml"), small_disk / "out"
    process = toposweep("run", study, "--out", str(out), wait=False)
    while len(list(out.glob("masks/staging/*/*.parquet"))) < 20:
        assert process.poll() is None
        time.sleep(0.01)
    ballast = fill(small_disk)
    printed = process.communicate()[0].decode()
    assert process.returncode == 1, printed
    assert "Traceback" not in printed
    *_, last = printed.strip().splitlines()
    assert last.startswith(f"error: {out}: No space left on device")
    assert last.endswith(f"go on with: toposweep resume {out}")
    run = Run.open(out)
    assert "failed" not in {record.state for record in run.records().values()}
    # Distances too: a disk that is still full costs the same line.
    ballast.unlink()
    toposweep("resume", str(out))
    assert_same_results(run, peace)
