"""A stand-in for Slurm on one machine: it knows of Slurm what the batch script uses.

    with Slurm(shared_folder, environment) as slurm:
        job = slurm.start("job.sh")   # on as many hosts as its #SBATCH lines ask for
        job.tell()                    # the time is nearly up
        code, again = job.wait()      # and whether it wants another turn

Hosts are namespaces, as in `tests/chaos`. The script runs on the first one; its `srun` asks this
process for a task on every host.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
JOB_ID = 4217
_KEY = b"no secret"


class Slurm:
    """A queue of one job.

    Args:
        folder: what hosts share; nothing is in it.
        environment: whose the job inherits.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self._turns = 0
        for name in ("srun", "scontrol"):
            command = folder / "bin" / name
            command.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"#!{sys.executable}", "import sys", f"sys.path.insert(0, {str(ROOT)!r})",
                     f"from tests.cluster.slurm_stand_in import {name}",
                     f"sys.exit({name}(sys.argv[1:]))", ""]  # fmt: skip
            command.write_text("\n".join(lines))
            command.chmod(0o755)

    def start(self, script: Path, log: Path) -> "Job":
        """Give the job its next turn; what it says goes to the end of `log`."""
        job = Job(self.folder, script, log, self._environment, self._turns)
        self._turns += 1
        return job


class Job:
    """One turn of a job, inside a `with`: its hosts, and the script on the first of them."""

    def __init__(
        self, folder: Path, script: Path, log: Path, environment: Mapping[str, str], turn: int
    ) -> None:
        from tests.chaos.host import NamespaceHost, Switch, permitted

        options = directives(script.read_text())
        nodes = int(options["nodes"])
        self.signal = options["signal"]
        self._requeued = folder / f"requeue-{turn}"
        # On a cluster every host has a /tmp of its own.
        self._private = Path(f"/tmp/toposweep-{JOB_ID}-{turn}")
        self._private.mkdir()
        self._log = log.open("a")
        self._switch = Switch(permitted(), "10.77.0.254")
        self.hosts = []
        for number in range(1, nodes + 1):
            disk = folder / f"disk-{turn}-{number}"
            disk.mkdir()
            host = NamespaceHost(
                f"host{number}", f"10.77.0.{number}", None, self._switch, disk, self._private
            )
            self.hosts.append(host)
            others = [f"10.77.0.{n} host{n}" for n in range(1, nodes + 1) if n != number]
            names = folder / f"names-{turn}-{number}"
            # As Debian has it: to itself a host is a loopback address.
            names.write_text("\n".join(["127.0.0.1 localhost", f"127.0.1.1 {host.name}", *others]))
            mount = ["mount", "--bind", str(names), "/etc/hosts"]
            subprocess.run(host.enter(mount), check=True)
        self._listener = Listener(str(folder / f"slurm-{turn}"), authkey=_KEY)
        threading.Thread(target=self._serve, daemon=True).start()
        self.environment = {
            **environment,
            "PATH": f"{folder / 'bin'}:{environment['PATH']}",
            "STAND_IN": str(self._listener.address),
            "STAND_IN_REQUEUED": str(self._requeued),
            "SLURM_JOB_ID": str(JOB_ID),
            "SLURM_JOB_NODELIST": f"host[1-{nodes}]",
            "SLURM_JOB_NUM_NODES": str(nodes),
            **({"SLURM_RESTART_COUNT": str(turn)} if turn else {}),
        }
        self._batch = self._start(0, ["bash", str(script)], self.environment)

    def __enter__(self) -> "Job":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self.hosts:
            host.kill()
        self._switch.remove()
        self._listener.close()
        self._log.close()
        self._private.rmdir()

    @property
    def running(self) -> bool:
        """Whether the script is."""
        return self._batch.poll() is None

    def tell(self) -> None:
        """Send the signal that the script asked for, to its shell alone."""
        name = re.fullmatch(r"B:(\w+)@\d+", self.signal)
        assert name
        _send(self._batch, int(getattr(signal, f"SIG{name[1]}")))

    def wait(self) -> tuple[int, bool]:
        """Wait for the script's end: its exit code, and whether it asked for another turn."""
        return self._batch.wait(), self._requeued.exists()

    def _start(
        self, host: int, command: list[str], environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.hosts[host].enter(command),
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _serve(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._step, args=(connection,), daemon=True).start()

    def _step(self, connection: "Connection[object, object]") -> None:
        """A task on every host for one srun; they end when it does."""
        command, environment = connection.recv()
        tasks = [self._start(host, command, environment) for host in range(len(self.hosts))]
        while any(task.poll() is None for task in tasks):
            if connection.poll(0.1):  # srun has ended
                for task in tasks:
                    _send(task, signal.SIGTERM)
                return
        connection.send(max(task.wait() for task in tasks))


def directives(script: str) -> dict[str, str]:
    """The options of the #SBATCH lines, which end at the first command, as for sbatch."""
    found = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH "):
            for word in shlex.split(line.removeprefix("#SBATCH ")):
                name, _, value = word.removeprefix("--").partition("=")
                found[name] = value
        elif line.strip() and not line.startswith("#"):
            break
    return found


def srun(arguments: list[str]) -> int:
    """`srun`: a task on every host; the highest exit code."""
    command = arguments[:]
    while command[0].startswith("--"):
        command.pop(0)
    with Client(os.environ["STAND_IN"], authkey=_KEY) as slurm:
        slurm.send((command, dict(os.environ)))
        return int(slurm.recv())


def scontrol(arguments: list[str]) -> int:
    """`scontrol`: the names of the hosts; the job back into the queue."""
    if arguments == ["requeue", str(JOB_ID)]:
        Path(os.environ["STAND_IN_REQUEUED"]).touch()
        return 0
    assert arguments[:2] == ["show", "hostnames"]
    nodes = re.fullmatch(r"host\[1-(\d+)\]", arguments[2])
    assert nodes
    print(*(f"host{number}" for number in range(1, int(nodes[1]) + 1)), sep="\n")
    return 0


def _send(entered: "subprocess.Popen[bytes]", number: int) -> None:
    """A signal to the process behind `nsenter`, which passes none on."""
    from tests.chaos.processes import children_of, send

    for pid in children_of(entered.pid):
        send(pid, number)
