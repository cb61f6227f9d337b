"""Where a round plays: hosts, a driver, an OUT; what a fault may do something to."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage import Run
from tests.chaos.hosts import Host, Hosts
from tests.chaos.invariants import Shown, assert_shows_nothing_else
from tests.chaos.processes import Command

STUDY = """
name: disturbed
data: {name: digits}
model: {name: mlp, hidden: [32, 32]}
method: {name: set, density: 0.2}
optimizer: {name: sgd, lr: 0.02, batch_size: 16}
epochs: 12
snapshot_every: 100it
checkpoint_every: 130it
space:
  - {method.name: [static, set], seed: [0, 1]}
distances:
  final: {steps: last, method: joint}
  evolution: {steps: all}
"""
FAILING = "  - {optimizer.lr: [1.0e+30], seed: [0]}\n"
# Of a traceback that reached the user; Ray logs some of its own when processes die.
SUSPICIOUS = 'sweeps/cli.py", line'
INTERRUPTED = "go on with: toposweep resume"
IN_USE = "is in use by"


def study_text(failing_trial: bool) -> str:
    """The study of a round, with or without a trial that always fails."""
    head, mark, tail = STUDY.partition("distances:")
    return head + (FAILING if failing_trial else "") + mark + tail


class Stuck(AssertionError):
    """Nothing has come to an end in time."""


@dataclass
class Scene:
    """One round's run.

    Attributes:
        hosts: all hosts, dead ones too.
        head, workers: those of the cluster that is in use.
        out, study, database: OUT, the study file, MLflow's SQLite file.
        logs: where the drivers' output goes.
        patience: seconds that anything may take.
        peace: the masks of the undisturbed run; None: this is that run.
        events: what has happened, for people.
    """

    hosts: Hosts
    head: Host
    workers: list[Host]
    out: Path
    study: Path
    database: Path
    logs: Path
    patience: float
    failing_trial: bool
    driver_on_head: bool
    peace: Shown | None = None
    events: list[str] = field(default_factory=list)
    driver: Command | None = None
    drivers: int = 0
    begun: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """Remember what has happened."""
        event = f"{time.monotonic() - self.begun:.1f} {text}"
        self.events.append(event)
        print(f"  {event}", flush=True)

    def driver_host(self) -> Host:
        """Where drivers start."""
        return self.head if self.driver_on_head or not self.workers else self.workers[0]

    def start_driver(self, host: Host | None = None) -> Command:
        """Begin or go on with the run."""
        self.drivers += 1
        resume = (self.out / "study.yaml").exists()
        words = (
            ["resume", str(self.out)]
            if resume
            else ["run", str(self.study), "--out", str(self.out)]
        )
        words += ["--address", self.hosts.address, "--tracking-uri", f"sqlite:///{self.database}"]
        command = [sys.executable, "-m", "tests.chaos.toposweep", *words]
        with self._log(self.drivers).open("wb") as log:
            return self.hosts.popen(host or self.driver_host(), command, stdout=log)

    def output(self, number: int | None = None) -> str:
        """What a driver has printed, by default the newest."""
        return self._log(number or self.drivers).read_text(errors="replace")

    def _log(self, number: int) -> Path:
        return self.logs / f"driver-{number}.log"

    def look(self) -> Shown:
        """What readers see now, checked against the undisturbed run."""
        if not (self.out / "run.json").exists():
            return {}
        assert self.peace is not None
        return assert_shows_nothing_else(Run.open(self.out), self.peace)

    def committed(self, counted: str) -> int:
        """How many snapshots or tiles are there; all snapshots, once they are compacted."""
        if counted == "tiles":
            return sum(1 for _ in self.out.glob("distances/*/tiles/*.parquet"))
        if any(self.out.glob("masks/compact/part-*")):
            return sys.maxsize
        return sum(1 for _ in self.out.glob("masks/staging/*/*.parquet"))

    def wait_until_committed(self, counted: str, n: int) -> bool:
        """Until so many are there and a driver is at work, through as many as it takes; False: the
        run is over."""
        assert self.driver is not None
        deadline = time.monotonic() + self.patience
        while self.committed(counted) < n or self.driver.returncode is not None:
            if self.driver.returncode is not None and not self.go_on():
                return False
            if time.monotonic() > deadline:
                raise Stuck(f"not {n} {counted} after {self.patience:g} s")
            time.sleep(0.005)
        return True

    def go_on(self) -> bool:
        """Start another driver when the last one has ended early; False: it was the last."""
        assert self.driver is not None
        code = self.driver.process.wait()
        text = self.output()
        self.note(f"driver {self.drivers} ended with {code}: {last_line(text)}")
        assert SUSPICIOUS not in text, f"driver {self.drivers} printed a traceback"
        if self._is_over(code, text):
            return False
        if IN_USE in text:
            time.sleep(1)  # until the lock of a driver on another host has expired
        elif self.drivers >= 12:
            raise Stuck(f"{self.drivers} drivers were not enough")
        self.driver = self.start_driver()
        return True

    def _is_over(self, code: int, text: str) -> bool:
        if code not in ((1,) if self.failing_trial else (0,)) or INTERRUPTED in text:
            return False
        matrices = list(self.out.glob("distances/*/matrix.parquet"))
        states = {record.state for record in Run.open(self.out).records().values()}
        return len(matrices) == 2 and states <= {"completed", "failed"}

    def finish(self) -> None:
        """Until the run is over, through as many drivers as it takes."""
        assert self.driver is not None
        while True:
            try:
                self.driver.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                raise Stuck(f"driver {self.drivers} works for {self.patience:g} s") from None
            if not self.go_on():
                return

    def living_workers(self) -> list[Host]:
        """The workers that are part of the cluster."""
        return [host for host in self.workers if host.alive]

    def replace_worker(self, host: Host) -> None:
        """Take a host out of the cluster, dead or not, and start another one."""
        self.workers.remove(host)
        self.workers.append(self.hosts.start_worker())

    def processes(self, words: Sequence[str]) -> list[int]:
        """Processes of the cluster's hosts whose command lines hold any of these words."""
        hosts = [self.head, *self.living_workers()]
        return sorted(
            {pid for host in hosts for word in words for pid in self.hosts.find(host, word)}
        )


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
