"""Real clusters of two hosts: what reaches the nodes, and what is refused before anything runs."""

import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import Run
from storage.lock import RunLock
from tests.chaos.hosts import TOPOSWEEP, permitted

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not permitted(), reason="hosts with files of their own need namespaces"),
]

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


def until(holds: Callable[[], bool], seconds: float = 180.0) -> None:
    """Wait for something that must come to hold."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.1)


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


def test_a_folder_that_only_the_driver_sees_is_refused_with_the_node_and_the_reason(
    two_hosts: Any, study: Path
) -> None:
    own = two_hosts.head.home / "out"  # each host sees files of its own there
    done = two_hosts.toposweep("run", study, "--out", own, "--address", two_hosts.hosts.address)
    assert done.returncode == 2
    error = done.stdout.splitlines()[-1]
    assert error.startswith(f"error: --out {own}: node {two_hosts.worker.ip} (")
    assert "does not see the run there" in error
    assert "s3://" in error
    assert two_hosts.shell(two_hosts.head, 'ls -A "$1" | grep -c preflight || true', own) == "0\n"


def test_another_version_on_a_node_is_named_before_anything_is_trained(
    two_hosts: Any, study: Path, tmp_path: Path
) -> None:
    installed = "~/libraries/torch-2.0.1.dist-info"
    two_hosts.shell(
        two_hosts.worker,
        f"mkdir -p {installed}; printf 'Name: torch\\nVersion: 2.0.1\\n' > {installed}/METADATA",
    )
    try:
        out = tmp_path / "out"
        done = two_hosts.toposweep("run", study, "--out", out, "--address", two_hosts.hosts.address)
    finally:
        two_hosts.shell(two_hosts.worker, "rm -r ~/libraries")
    assert done.returncode == 2
    error = done.stdout.splitlines()[-1]
    assert error.startswith(f"error: node {two_hosts.worker.ip} (")
    assert "has torch 2.0.1 (here: 2." in error
    assert set(Run.open(out).trials()["state"]) == {"pending"}


def test_what_no_node_has_is_refused_before_anything_is_trained(
    two_hosts: Any, study: Path, tmp_path: Path
) -> None:
    asked = ["--set", "resources.cpu=2", "--address", two_hosts.hosts.address]
    done = two_hosts.toposweep("run", study, "--out", tmp_path / "out", *asked)
    assert done.returncode == 2
    error = done.stdout.splitlines()[-1]
    assert error.startswith("error: resources: 2 CPU is not allowed: no node of ")
    assert error.endswith("has that much (the most of each: 1 CPU)")


@pytest.mark.parametrize("how", ["HOST:PORT", "ray://"])
def test_a_wrong_token_costs_one_line(
    two_hosts: Any, study: Path, tmp_path: Path, how: str
) -> None:
    address = two_hosts.hosts.address if how == "HOST:PORT" else two_hosts.client_address
    asked = ["--out", tmp_path / "out", "--address", address]
    done = two_hosts.toposweep("run", study, *asked, RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode == 2
    errors = [line for line in done.stdout.splitlines() if not line.startswith("connecting to")]
    assert len(errors) == 1, done.stdout
    assert "token" in errors[0]


def test_a_client_gets_the_lines_and_the_exit_code_of_the_run_on_the_head(
    two_hosts: Any, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    one_fails = "space={optimizer.lr: [0.02, 1e30]}"
    asked = ["--set", one_fails, "--out", out, "--address", two_hosts.client_address]
    done = two_hosts.toposweep("run", study, *asked, host=two_hosts.worker)
    assert done.returncode == 1, done.stdout
    assert "2 nodes, 2 CPU; 2 trials" in done.stdout
    assert "1 completed, 1 failed" in done.stdout
    assert f"masks      {out}/masks" in done.stdout
    assert sorted(Run.open(out).trials()["state"]) == ["completed", "failed"]


def test_a_client_that_is_ended_ends_the_run_on_the_head_which_can_go_on(
    two_hosts: Any, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    endless = ["--set", "epochs=1000000", "--set", "snapshot_every=500000ep"]
    words = ["run", study, *endless, "--out", out, "--address", two_hosts.client_address]
    command = two_hosts.hosts.popen(
        two_hosts.worker, [*TOPOSWEEP, *map(str, words)], environment=two_hosts.ours
    )
    until(lambda: (out / "metrics").is_dir() or command.returncode is not None)
    command.send(signal.SIGTERM)
    printed = command.communicate(120)
    assert f"go on with: toposweep resume {out}" in printed, printed
    assert f"from here: toposweep resume {out} --address ray://" in printed
    assert command.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert two_hosts.hosts.find(two_hosts.head, "cluster.child") == []
    with RunLock(out, "test"):
        pass  # nobody holds it any more


def test_a_run_dies_with_its_client(two_hosts: Any, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    endless = ["--set", "epochs=1000000", "--set", "snapshot_every=500000ep"]
    words = ["run", study, *endless, "--out", out, "--address", two_hosts.client_address]
    command = two_hosts.hosts.popen(
        two_hosts.worker,
        [*TOPOSWEEP, *map(str, words)],
        environment={**two_hosts.ours, "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "2"},
    )
    until(lambda: (out / "metrics").is_dir() or command.returncode is not None)
    assert two_hosts.hosts.find(two_hosts.head, "cluster.child")
    command.send(signal.SIGKILL)
    until(lambda: not two_hosts.hosts.find(two_hosts.head, "cluster.child"))


def test_a_ray_job_joins_the_cluster_that_it_was_submitted_to_and_keeps_its_own_folder(
    two_hosts: Any, study: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    study.rename(folder / study.name)
    program = ["env", *(f"{name}={value}" for name, value in two_hosts.ours.items()), *TOPOSWEEP]
    out = tmp_path / "out"
    printed = two_hosts.shell(
        two_hosts.head,
        '"$@"',
        *[sys.executable, "-c", "from ray.scripts.scripts import main; main()", "job", "submit"],
        *["--address=http://127.0.0.1:8265", f"--working-dir={folder}", "--", *program],
        *["run", study.name, "--out", out, "--set", "space.seed=[0,1]"],
    )
    assert "in a Ray job: joining the cluster that it was submitted to" in printed
    assert "2 nodes, 2 CPU; 2 trials of 1 CPU, 2 at once" in printed
    assert sorted(Run.open(out).trials()["state"]) == ["completed"] * 2
