"""Processes as /proc shows them, and commands that run inside a host."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Command:
    """A command that runs on a host.

    Args:
        process: what was started here.
        entered: whether that is `nsenter`, whose only child is the command.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", entered: bool) -> None:
        self.process = process
        self._entered = entered
        self._pid = 0

    @property
    def pid(self) -> int:
        """The command's own process, numbered as this machine sees it; 0 when it has ended."""
        if not self._entered:
            return self.process.pid
        while not self._pid and self.process.poll() is None:
            self._pid = next(iter(children_of(self.process.pid)), 0)
            time.sleep(0.002)
        return self._pid

    @property
    def returncode(self) -> int | None:
        """How it ended, as `Popen` has it; None: it runs."""
        return self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it has ended."""
        if self.returncode is None and self.pid:
            send(self.pid, number)
            if number == signal.SIGCONT and self._entered:
                send(self.process.pid, number)  # nsenter stops together with its child

    def communicate(self, timeout: float | None = None) -> str:
        """What it printed, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not; it is then killed.
        """
        try:
            output = self.process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            raise
        return output.decode(errors="replace") if output else ""

    def check(self, timeout: float | None = None) -> str:
        """What it printed.

        Raises:
            AssertionError: it ended badly.
        """
        output = self.communicate(timeout)
        if self.returncode != 0:
            raise AssertionError(f"{self.process.args}: {self.returncode}\n{output}")
        return output


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; nothing when the process has ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def pids_where(holds: Callable[[int], bool]) -> list[int]:
    """The processes of which something holds; what ends meanwhile is left out."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                if holds(int(entry.name)):
                    found.append(int(entry.name))
    return sorted(found)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, or inherited from one that did and ended."""
    return pids_where(lambda other: parent_of(other) == pid)


def parent_of(pid: int) -> int:
    """The process that started a process; OSError when it has ended."""
    return int(_after_name(pid)[1])


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not one that waits to be buried."""
    with suppress(OSError):
        return _after_name(pid)[0] not in "ZX"
    return False


def command_line(pid: int) -> str:
    """A process's words; empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return ""


def environment_of(pid: int) -> bytes:
    """The variables that a process was started with; some overwrite them."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def _after_name(pid: int) -> list[str]:
    # The second field, the name, may hold anything, spaces and brackets included.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
