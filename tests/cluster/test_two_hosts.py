"""Real clusters of two hosts: what reaches the nodes, and what is refused before anything runs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import Run
from tests.chaos.hosts import permitted

pytestmark = pytest.mark.skipif(
    not permitted(), reason="hosts with files of their own need namespaces"
)

STUDY = """
name: tiny
data: {name: mnist, path: DATA}
model: {name: mlp, hidden: [12]}
method: {name: set, density: 0.3}
optimizer: {name: sgd, lr: 0.02, batch_size: 64}
epochs: 2
snapshot_every: 1ep
space: {seed: [0, 1, 2, 3]}
"""


def idx(array: Any) -> bytes:
    """An array as an IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set in MNIST's format."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for part, count in (("train", 320), ("t10k", 64)):
        labels = generator.integers(0, 10, count)
        images = generator.integers(0, 20, (count, 8, 8)) + 20 * labels[:, None, None]
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture
def study(tmp_path: Path, two_hosts: Any) -> Path:
    """A study file whose data lie in a folder that every host has for itself."""
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY.replace("DATA", str(two_hosts.head.home / "data")))
    return path


@pytest.fixture(scope="module", autouse=True)
def data_on_the_head_only(two_hosts: Any, files: Path) -> None:
    """What the worker lacks."""
    two_hosts.shell(two_hosts.head, 'mkdir -p ~/data; cp "$1"/* ~/data', files)


def test_a_worker_without_the_packages_and_the_data_trains_as_the_driver_would(
    two_hosts: Any, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = two_hosts.toposweep("run", study, "--out", out, "--address", two_hosts.hosts.address)
    assert done.returncode == 0, done.stdout
    assert "2 nodes, 2 CPU; 4 trials of 1 CPU, 2 at once" in done.stdout
    assert re.search(rf"data mnist copied .* node {two_hosts.worker.ip} ", done.stdout)
    run = Run.open(out)
    assert sorted(run.trials()["state"]) == ["completed"] * 4
    alone = tmp_path / "alone"
    assert two_hosts.toposweep("run", study, "--out", alone).returncode == 0
    columns = ["trial_id", "epoch", "train_loss", "test_loss"]
    both = [Run.open(folder).metrics.load()[columns].to_numpy() for folder in (out, alone)]
    assert (both[0] == both[1]).all()
    assert not list(out.glob(".preflight*"))
