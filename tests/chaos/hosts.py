"""Several hosts on one machine, each a Ray node that can be killed or cut off from the others.

    with Hosts() as hosts:
        head = hosts.start_head(cpus=1)
        worker = hosts.start_worker(cpus=1)
        hosts.wait_for_nodes(2)
        hosts.run(head, [*TOPOSWEEP, "run", "quickstart", "--out", out, "--address", hosts.address])
        worker.cut()             # its processes live on, nobody hears of them
        worker.mend()
        worker.kill()            # the power is off; start another one

Where the kernel permits namespaces, to root or to anybody, a host has a network, processes, a host
name, a HOME, a /dev/shm and Ray's files of its own, and its cable goes to a switch that nothing
else is plugged into. All else of the file system is shared, so any folder may be OUT. Elsewhere
hosts are addresses 127.x.y.z, which can be killed but not cut off. Hosts with namespaces end with
the process that made them, however that ends.
"""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.chaos.host import MARK, AddressHost, NamespaceHost, Switch, permitted
from tests.chaos.processes import Command, command_line, send

__all__ = [
    "TOPOSWEEP", "AddressHost", "Host", "Hosts", "NamespaceHost", "NoHost", "permitted",
]  # fmt: skip

Host = NamespaceHost | AddressHost

ROOT = Path(__file__).parents[2]
TOPOSWEEP = [sys.executable, "-m", "sweeps.cli"]
START_S = 180.0  # how long a busy machine may take to start a node,
START_ATTEMPTS = 2  # and how often that is tried
OBJECT_STORE = 100_000_000  # bytes; Ray would take a third of the memory

# Ray takes a minute to give up a node that does not answer; here it is about ten seconds. With much
# less, a busy machine would lose nodes that live.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "3000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
NOTICED_S = 15.0  # after so long a node that does not answer has been given up


class NoHost(Exception):
    """Ray did not start on a host; that says nothing of what was to run there."""


class Hosts:
    """The hosts of one cluster, inside a `with`.

    Args:
        environment: variables for every process, beside this process's own.
        namespaces: False: addresses of this machine, even where namespaces are permitted.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, namespaces: bool = True
    ) -> None:
        self.how = permitted() if namespaces else ""
        self.hosts: list[Host] = []
        # Ray's sockets lie below, and their paths may have 107 bytes.
        self._base = Path(tempfile.mkdtemp(prefix=f"ts-{os.getpid()}-", dir="/tmp"))
        self._home = self._base / "home"  # where every host with namespaces sees its own files
        self._net = f"{random.randrange(256)}.{random.randrange(1, 255)}"
        # Nothing else is on a host with namespaces; elsewhere only luck keeps ports apart.
        self._port, self._client_port = (
            (6379, 10001) if self.how else random.sample(range(20000, 30000), 2)
        )
        self._switch: Switch | None = None
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        self._environment = {
            **inherited,
            **HEALTH,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # what else runs here must not slow the trials alone
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }

    def __enter__(self) -> "Hosts":
        self._home.mkdir()
        if self.how:
            self._switch = Switch(self.how, f"10.{self._net}.254")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self.hosts:
            host.kill()
        if self._switch is not None:
            self._switch.remove()
        shutil.rmtree(self._base, ignore_errors=True)

    @property
    def address(self) -> str:
        """The newest cluster's, for `--address`."""
        return f"{self._head.ip}:{self._port}"

    @property
    def _head(self) -> Host:
        return [host for host in self.hosts if host.name.startswith("head")][-1]

    def start_head(self, cpus: int = 1, pin: str | None = None, more: Sequence[str] = ()) -> Host:
        """Start a cluster with its first host; an earlier head's hosts are no part of it.

        Args:
            cpus: how many Ray has there.
            pin: which of the machine's CPUs it is held to, as taskset has it.
            more: words for `ray start`.

        Raises:
            NoHost: Ray does not start there.
        """
        words = [
            "--head", f"--port={self._port}", f"--ray-client-server-port={self._client_port}",
            "--include-dashboard=false",
        ]  # fmt: skip
        return self._start("head", cpus, [pin], [*words, *more])[0]

    def start_worker(self, cpus: int = 1, pin: str | None = None, more: Sequence[str] = ()) -> Host:
        """Add a host to the newest cluster; arguments as of `start_head`."""
        return self.start_workers(1, cpus, [pin], more)[0]

    def start_workers(
        self, n: int, cpus: int = 1, pins: Sequence[str | None] = (), more: Sequence[str] = ()
    ) -> list[Host]:
        """Add `n` hosts at the same time; `pins` are theirs, if any are held to CPUs."""
        words = [f"--address={self.address}", *more]
        return self._start("worker", cpus, pins or [None] * n, words)

    def popen(
        self,
        host: Host,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stdout: int | IO[bytes] = subprocess.PIPE,
    ) -> Command:
        """Start a command on a host, in this process's folder; errors go where its output goes."""
        process = subprocess.Popen(
            host.enter(command),
            env={
                **self._environment,
                "HOME": str(host.home),
                MARK: str(host.home),
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return Command(process, entered=isinstance(host, NamespaceHost))

    def run(
        self,
        host: Host,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on a host to its end.

        Raises:
            subprocess.TimeoutExpired: it did not come to one.
        """
        started = self.popen(host, command, environment)
        output = started.communicate(timeout)
        return subprocess.CompletedProcess(command, started.process.wait(), output)

    def wait_for_nodes(self, n: int, timeout: float = START_S) -> None:
        """Until exactly `n` nodes of the newest cluster are alive, as its head sees it.

        Raises:
            AssertionError: it was another number to the end.
        """
        asked = [sys.executable, "-m", "tests.chaos.wait_for_nodes", self.address, str(n)]
        self.popen(self._head, [*asked, str(timeout)]).check(timeout + START_S)

    def find(self, host: Host, words: str) -> list[int]:
        """A host's processes whose command line holds these words, such as `ray::TuneTrial`."""
        return [pid for pid in host.pids() if words in command_line(pid)]

    def kill_raylet(self, host: Host) -> None:
        """Kill a host's raylet alone; its workers may live on."""
        host.pids()  # a host without namespaces takes note of whose they are
        for pid in self.find(host, "/raylet/raylet "):
            send(pid, signal.SIGKILL)

    def _add(self, role: str, pin: str | None) -> Host:
        number = len(self.hosts) + 1
        name = f"{role}{number}"
        folder = self._base / name
        folder.mkdir()
        if self._switch is None:
            host: Host = AddressHost(name, f"127.{self._net}.{number}", pin, folder)
        else:
            address = f"10.{self._net}.{number}"
            host = NamespaceHost(name, address, pin, self._switch, folder, self._home)
        self.hosts.append(host)
        return host

    def _start(
        self, role: str, cpus: int, pins: Sequence[str | None], words: Sequence[str]
    ) -> list[Host]:
        hosts: dict[int, Host] = {}
        for left in reversed(range(START_ATTEMPTS)):
            new = {k: self._add(role, pin) for k, pin in enumerate(pins) if k not in hosts}
            started = {k: self._start_ray(host, cpus, words) for k, host in new.items()}
            for k, command in started.items():
                try:
                    command.check(START_S)
                    hosts[k] = new[k]
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    new[k].kill()
                    if not left:
                        raise NoHost(f"{new[k].name}: {error}") from None
        return [hosts[k] for k in sorted(hosts)]

    def _start_ray(self, host: Host, cpus: int, words: Sequence[str]) -> Command:
        any_port = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        ports = [] if isinstance(host, NamespaceHost) else any_port
        ray = [sys.executable, "-m", "tests.chaos.start_ray", str(START_S / 2)]
        return self.popen(
            host,
            [
                *ray, *words, *ports, f"--node-ip-address={host.ip}", f"--num-cpus={cpus}",
                f"--object-store-memory={OBJECT_STORE}", f"--temp-dir={host.home / 'ray'}",
                "--disable-usage-stats", "--no-monitor", "--include-log-monitor=false",
            ],
        )  # fmt: skip
