"""Processes that die: a trial's each time it begins, a tile's; and nodes that go."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster import ClusterFailed
from storage import LayerMask, MaskStore, Run
from tests.end_to_end.kill_and_resume import toposweep
from topology import DistanceSpec, run_distances

pairwise_module = sys.modules["topology.pairwise"]

STUDY = """
name: deadly
data: {name: digits}
model: {name: mlp, hidden: [200, 200]}
method: {name: set, density: 0.1}
optimizer: {name: sgd, lr: 0.001, batch_size: 2}
epochs: 2
snapshot_every: 50it
space: {seed: [0, 1]}
resources: {max_failures: 1}
"""


@pytest.mark.cluster
def test_a_trial_whose_process_dies_each_time_fails_with_its_reason_and_the_rest_completes(
    tmp_path: Path,
) -> None:
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(STUDY)
    process = toposweep("run", str(study), "--out", str(out), wait=False)
    while not (claims := sorted(out.glob("attempts/*/1.json"))):
        assert process.poll() is None
        time.sleep(0.01)
    victim = claims[0].parent
    for attempt in (1, 2):
        while not (claim := victim / f"{attempt}.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    printed = process.communicate()[0].decode()
    assert process.returncode == 1, printed
    assert "1 completed, 1 failed" in printed
    assert f"{victim.name}: its process died 2 times" in printed
    assert "Traceback" not in printed
    record = Run.open(out).record(victim.name)
    assert record.state == "failed"
    assert "died" in (record.traceback or "")
    assert {p.name for p in victim.iterdir()} == {"1.json", "2.json"}  # no third was begun
    status = toposweep("status", str(out), wait=False).communicate()[0].decode()
    assert f"{victim.name}: its process died 2 times" in status


@pytest.mark.cluster
def test_nodes_that_go_do_not_count_against_their_trials(tmp_path: Path) -> None:
    script = Path(__file__).with_name("lose_a_node.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = [line.split() for line in ended.stdout.splitlines() if "completed" in line]
    assert len(told) == 2, ended.stdout
    begun = [int(step) for _, _, first, *steps in told for step in steps]
    assert len(begun) >= 2
    # The drained node's trial went on in mid-epoch, where it stood; the other began anew.
    assert any(step > 0 for step in begun)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A run's folder with the snapshots of a few trials."""
    rng = np.random.default_rng(0)
    store = MaskStore(tmp_path / "out")
    for trial in range(60):
        layers = [
            LayerMask("first", rng.random((300, 200)) < 0.05, "hidden", 1),
            LayerMask("last", rng.random((10, 300)) < 0.3, "output", 1),
        ]
        store.append(f"{trial:012x}", "s", 0, 0, 1, layers)
    return tmp_path / "out"


def _children(pid: int) -> Iterator[tuple[int, str]]:
    """Processes that descend from one, with what they call themselves."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
            name = (folder / "cmdline").read_text().split("\0")[0]
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == pid:
            yield int(folder.name), name
            yield from _children(int(folder.name))


class Killer(threading.Thread):
    """Kills the first process that computes a tile for this one."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.killed = threading.Event()

    def run(self) -> None:
        while not self.killed.is_set():
            for pid, name in _children(os.getpid()):
                if name.startswith("ray::compute_tile"):
                    os.kill(pid, signal.SIGKILL)
                    self.killed.set()
                    return


@pytest.mark.usefixtures("ray_here")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_a_tiles_process_that_is_killed_costs_a_line_without_retries_and_nothing_with_them(
    masks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DistanceSpec(steps="all")
    monkeypatch.setattr(pairwise_module, "_RETRIES", 0)
    killer = Killer()
    killer.start()
    with pytest.raises(ClusterFailed, match="gave a task up") as failed:
        run_distances(masks, "killed", spec)
    assert killer.killed.is_set()
    assert "\n" not in str(failed.value)
    monkeypatch.undo()
    killer = Killer()
    killer.start()
    stage = run_distances(masks, "killed", spec)
    assert killer.killed.wait(60)
    here = run_distances(masks, "peace", spec, in_process=True)
    for name in ("matrix", "labels"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(stage.path / f"{name}.parquet"),
            pd.read_parquet(here.path / f"{name}.parquet"),
            check_exact=True,
        )
