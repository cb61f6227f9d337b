"""One host: where its processes are, how a command gets there, how it dies.

`NamespaceHost` has a network, processes, a host name and a /dev/shm of its own; `AddressHost` is an
address of this machine's loopback device, for where the kernel permits no more.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.chaos.processes import (
    children_of,
    command_line,
    environment_of,
    is_alive,
    pids_where,
    send,
)

MARK = "TOPOSWEEP_TEST_HOST"  # in the environment of a host's processes

_USER = ["--user", "--map-root-user"]
_WITH_US = ["setpriv", "--pdeathsig", "KILL"]  # ends when the process that starts it does
_OWN = ["--net", "--pid", "--mount", "--uts"]

# A host's first process, whose death ends all others. It leaves the dead unburied, as containers
# without an init do: workers then take a raylet that was killed for alive.
_FIRST = """
mount -t tmpfs -o size=2g tmpfs /dev/shm
mount --bind "$1" "$2"
mount -t proc proc /proc
ip link set lo up
hostname "$3"
echo up
exec sleep infinity
"""


@cache
def permitted() -> str:
    """How namespaces may be made here: `root`; `user`: within a user namespace; empty: not."""
    if any(shutil.which(name) is None for name in ("ip", "unshare", "nsenter", "setpriv")):
        return ""
    attempt = "mount -t tmpfs tmpfs /dev/shm; ip link add br0 type bridge; hostname toposweep"
    for how, user in (("root", []), ("user", _USER)):
        command = ["unshare", *user, *_OWN, "--fork", "sh", "-ec", attempt]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return how
    return ""


class Switch:
    """A switch with no link to the outside, for the hosts' cables.

    It lives in a network namespace of its own, which goes when this process does.

    Args:
        how: as `permitted` says.
        ip: its own address; the hosts' differ from it in the last number.
    """

    def __init__(self, how: str, ip: str) -> None:
        user = _USER if how == "user" else []
        # The way to everywhere else ends at the switch, which says so at once.
        plug = "ip link add br0 type bridge; ip addr add $1/24 dev br0; ip link set br0 up"
        self._process = _first_process(
            ["unshare", *user, "--net", "--fork"],
            [f"{plug}; echo up; exec sleep infinity", "switch", ip],
        )
        self.gateway = ip
        pid = children_of(self._process.pid)[0]
        self.entered = ["nsenter", f"--target={pid}", "--net"]
        if how == "user":
            self.entered += ["--user", "--preserve-credentials"]
        self._cables = 0

    def connect(self, pid: int, ip: str) -> str:
        """Lay a cable to the network that a process has; returns its name at the switch."""
        self._cables += 1
        cable = f"cable{self._cables}"
        self.ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self.ip("link", "set", cable, "master", "br0", "up")
        return cable

    def ip(self, *words: str) -> None:
        """`ip` at the switch."""
        subprocess.run([*self.entered, "ip", *words], check=True)

    def remove(self) -> None:
        """Take it away."""
        self._process.kill()
        self._process.wait()


class NamespaceHost:
    """A host with namespaces of its own, plugged into a switch.

    Args:
        name: its host name.
        ip: its address, of the switch's /24.
        pin: to which of the machine's CPUs it is held, as taskset has it; None: to none.
        switch: where its cable goes.
        folder: the files that only it has.
        seen_as: where it sees them, an existing folder; the same for every host.
    """

    def __init__(
        self, name: str, ip: str, pin: str | None, switch: Switch, folder: Path, seen_as: Path
    ) -> None:
        self.name, self.ip, self.pin, self.switch = name, ip, pin, switch
        self.home = seen_as
        self._process: subprocess.Popen[str] | None = _first_process(
            [*switch.entered, "unshare", *_OWN, "--fork"],
            [_FIRST, "host", str(folder), str(seen_as), name],
        )
        self._first = children_of(self._process.pid)[0]
        self.cable = switch.connect(self._first, ip)
        plug = f"ip addr add {ip}/24 dev eth0; ip link set eth0 up; "
        plug += f"ip route add default via {switch.gateway}"
        subprocess.run(self.enter(["sh", "-ec", plug]), check=True)

    @property
    def alive(self) -> bool:
        """Whether its power is on."""
        return self._process is not None

    def enter(self, command: Sequence[str]) -> list[str]:
        """The command that runs a command there."""
        pinned = ["taskset", "-c", self.pin] if self.pin is not None else []
        own = ["--net", "--pid", "--mount", "--uts", f"--wd={os.getcwd()}"]
        user = [
            word for word in self.switch.entered if word in ("--user", "--preserve-credentials")
        ]
        return ["nsenter", f"--target={self._first}", *user, *own, "--", *pinned, *command]

    def pids(self) -> list[int]:
        """Its processes, numbered as this machine sees them."""
        if not self.alive:
            return []
        own = os.readlink(f"/proc/{self._first}/ns/pid")
        return pids_where(lambda pid: os.readlink(f"/proc/{pid}/ns/pid") == own and is_alive(pid))

    def kill(self) -> None:
        """End all its processes at once."""
        if self._process is not None:
            send(self._first, signal.SIGKILL)  # the kernel ends the others of its namespace
            self._process.wait()
            self._process = None

    def cut(self) -> None:
        """Pull its cable: nothing comes or goes, and nobody is told."""
        self.switch.ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        """Plug its cable in again."""
        self.switch.ip("link", "set", self.cable, "up")


class AddressHost:
    """A host that is only an address 127.x.y.z; its cable cannot be cut.

    Args:
        name: what to call it; no other host of this machine is called so.
        ip, pin: as for `NamespaceHost`.
        folder: the files that only it has.
    """

    def __init__(self, name: str, ip: str, pin: str | None, folder: Path) -> None:
        self.name, self.ip, self.pin = name, ip, pin
        self.home = folder
        self.alive = True
        self._mark = f"{MARK}={folder}".encode()
        self._seen: set[int] = set()

    def enter(self, command: Sequence[str]) -> list[str]:
        """The command that runs a command there."""
        return ["taskset", "-c", self.pin, *command] if self.pin is not None else [*command]

    def pids(self) -> list[int]:
        """Its processes: those that its mark is on, and what they have started."""
        # Some of Ray's processes overwrite their environment, but a parent of theirs has its own.
        marked = set(pids_where(lambda pid: self._mark in environment_of(pid)))
        marked |= {pid for pid in self._seen if "ray::" in command_line(pid)}
        found = marked
        while found:
            found = {child for pid in found for child in children_of(pid)} - marked
            marked |= found
        self._seen = {pid for pid in marked if is_alive(pid)}
        return sorted(self._seen)

    def kill(self) -> None:
        """End all its processes."""
        self.alive = False
        while pids := self.pids():
            for pid in pids:
                send(pid, signal.SIGKILL)


def _first_process(entered: Sequence[str], script: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a shell script that says `up` and then sleeps; it ends when this process does."""
    process = subprocess.Popen(
        [*_WITH_US, *entered, *_WITH_US, "sh", "-ec", f"exec 2>&1; {script[0]}", *script[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # some versions of unshare complain when they are killed
        text=True,
        start_new_session=True,  # Ctrl-C goes to whoever waits for the hosts, not to them
    )
    assert process.stdout is not None
    if (said := process.stdout.readline()) != "up\n":
        raise AssertionError(f"{process.args}: {process.wait()} {said}{process.stdout.read()}")
    return process
