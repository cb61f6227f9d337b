"""A package of the user's own on a real cluster of two hosts, of which the head alone has it."""

from pathlib import Path
from typing import Any

import pytest

from storage import Run
from tests.chaos.hosts import TOPOSWEEP, permitted
from tests.sweeps.own_package import write_package

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not permitted(), reason="hosts with files of their own need namespaces"),
]

STUDY = """
name: own
imports: [own_on_the_head]
data: {name: "own_on_the_head.kit:Iris", held_out: 5}
model: {name: "own_on_the_head.kit:Tanh", hidden: [12]}
method: {name: "own_on_the_head.kit:Lowest", density: 0.4}
optimizer: {name: "own_on_the_head.kit:Signed", lr: 0.001, batch_size: 20}
epochs: 2
space: {seed: [0, 1, 2, 3]}
"""

IN_FOLDER = 'cd ~/project; exec "$@"'


def run_there(two_hosts: Any, out: Path) -> Any:
    """The study, from the folder that holds the package."""
    words = [*TOPOSWEEP, "run", "own.yaml", "--out", str(out), "--address", two_hosts.hosts.address]
    command = ["sh", "-ec", IN_FOLDER, "sh", *words]
    return two_hosts.hosts.run(two_hosts.head, command, two_hosts.ours, timeout=300)


def test_the_package_is_shipped_and_what_it_lacks_on_a_node_is_named(
    two_hosts: Any, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    write_package(project, "own_on_the_head")
    (project / "own.yaml").write_text(STUDY)
    two_hosts.shell(two_hosts.head, 'cp -r "$1" ~/', project)
    done = run_there(two_hosts, tmp_path / "out")
    assert done.returncode == 0, done.stdout
    assert sorted(Run.open(tmp_path / "out").trials()["state"]) == ["completed"] * 4

    kit = "~/project/own_on_the_head/kit.py"
    lines = "import os; assert os.path.isdir(os.path.expanduser('~/project')), 'no project'"
    two_hosts.shell(two_hosts.head, f'echo "{lines}" >> {kit}')
    done = run_there(two_hosts, tmp_path / "other")
    assert done.returncode == 2
    error = done.stdout.splitlines()[-1]
    assert error.startswith("error: data.name: 'own_on_the_head.kit:Iris' cannot be imported: "
                            "AssertionError: no project (kit.py, line ")  # fmt: skip
    assert two_hosts.worker.ip in error
