"""Launch files to look at, and clusters of several hosts whose workers lack toposweep."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sweeps.launch_command import PLATFORMS
from tests.chaos.hosts import ROOT, TOPOSWEEP, Host, Hosts
from tests.chaos.processes import command_line
from tests.cluster.launched import OUTS, OWN, Files, launched


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one's own, in a folder with a blank in its name."""
    path = tmp_path_factory.mktemp("my studies") / "own.yaml"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="session")
def files(own: Path) -> Files:
    """(platform, file) for a built-in study and one's own, small and large, GPUs and none."""
    made = []
    sizes = (("quickstart", 1, 0), ("quickstart", 3, 1), (own, 2, 1), (own, 8, 4))
    for platform in PLATFORMS:
        for study, nodes, gpus in sizes:
            words = (platform, study, "--nodes", nodes, "--gpus-per-node", gpus)
            made.append((platform, launched(*words, "--out", OUTS[platform])))
            if platform == "kuberay":
                made.append((platform, launched(*words, "--out", OUTS[platform], "--stay")))
    return made


# Read by every Python of a host at its start. The packages count as not installed there, unless Ray
# has unpacked what a driver shipped; and a host may have other versions of libraries in its HOME.
HIDING = """
import os, sys
from importlib.machinery import PathFinder

OURS = ("sweeps", "topology", "storage", "cluster")

class Shipped:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in OURS:
            return None
        places = [place for place in sys.path if "runtime_resources" in place]
        spec = PathFinder.find_spec(name, places)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec

if os.environ.get("HIDE_TOPOSWEEP") != "0":
    sys.meta_path.insert(0, Shipped)
sys.path.insert(0, os.path.expanduser("~/libraries"))
"""


class Cluster:
    """A head and a worker of one CPU each that have no toposweep, and commands on them that do."""

    def __init__(self, hosts: Hosts, head: Host, worker: Host, hiding: Path) -> None:
        self.hosts, self.head, self.worker = hosts, head, worker
        self.ours = {"HIDE_TOPOSWEEP": "0", "PYTHONPATH": f"{ROOT}{os.pathsep}{hiding}"}

    @property
    def client_address(self) -> str:
        """What reaches the head from any host."""
        return f"ray://{self.head.ip}:10001"

    def toposweep(
        self, *words: object, host: Host | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the program on a host, the head unless told otherwise."""
        command = [*TOPOSWEEP, *map(str, words)]
        return self.hosts.run(host or self.head, command, {**self.ours, **environment}, timeout=300)

    def shell(self, host: Host, script: str, *words: object) -> str:
        """Run a shell script on a host, where `$1` and so on are words."""
        command: Sequence[str] = ["sh", "-ec", script, "sh", *map(str, words)]
        done = self.hosts.run(host, command, self.ours, timeout=300)
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="session")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two hosts without toposweep."""
    hiding = tmp_path_factory.mktemp("hiding")
    (hiding / "sitecustomize.py").write_text(HIDING)
    with Hosts({"PYTHONPATH": str(hiding)}) as hosts:
        head = hosts.start_head(cpus=1, more=["--include-dashboard=true", "--dashboard-port=8265"])
        worker = hosts.start_worker(cpus=1)
        have_client_server(hosts, head)
        yield Cluster(hosts, head, worker, hiding)


WAIT_FOR_PORT = """
import socket, sys, time
for _ in range(int(sys.argv[2])):
    try:
        socket.create_connection((sys.argv[1], 10001), 5).close()
        break
    except OSError:
        time.sleep(0.2)
else:
    sys.exit(1)
"""


def have_client_server(hosts: Hosts, head: Host) -> None:
    """Ray starts one with the head, but it gives up for good where the head takes half a minute."""
    listens = [sys.executable, "-c", WAIT_FOR_PORT, head.ip]
    if hosts.run(head, [*listens, "20"]).returncode == 0:
        return
    (raylet, *_) = hosts.find(head, "/raylet/raylet ")
    (node, *_) = re.findall(r"--node[-_]id=([0-9a-f]{56})", command_line(raylet))
    server = [sys.executable, "-m", "ray.util.client.server", "--mode=proxy", "--port=10001"]
    hosts.popen(
        head,
        [*server, f"--address={hosts.address}", f"--host={head.ip}", f"--node-id={node}",
         f"--runtime-env-agent-address=http://{head.ip}:0"],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    hosts.popen(head, [*listens, "600"]).check()
