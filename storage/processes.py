"""Processes: enough to say whether one still lives, for those on its machine who can see it."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, by what tells it from all others.

    Attributes:
        host: its host name.
        boot: the machine's boot; with the pid namespace, since containers have pids of their own.
        pid: its number.
        started: when it started, in the system's own terms: numbers are used again.
    """

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> "Process":
        """This process."""
        return cls(platform.node(), _boot(), os.getpid(), _started(os.getpid()) or "")

    @property
    def is_near(self) -> bool:
        """Whether it can be told from here if it has ended."""
        return (self.host, self.boot) == (platform.node(), _boot())

    def is_gone(self) -> bool:
        """Whether it surely has ended; False where that cannot be told from here."""
        return self.is_near and not _is_hidden(self.pid) and _started(self.pid) != self.started


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started; None when it has ended."""
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The second field, the name, may hold anything, spaces and brackets included.
        state, *fields = text.rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def _is_hidden(pid: int) -> bool:
    """Whether a process lives of which nothing can be read: another user's, with hidepid."""
    if os.access(f"/proc/{pid}/stat", os.R_OK):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False
