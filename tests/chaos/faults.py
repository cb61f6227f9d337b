"""The faults: each does to a scene what its name says, and undoes it where that belongs to it."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from storage import Run
from storage.attempts import read_claims
from storage.checkpoints import covered_step
from storage.lock import RunLock
from tests.chaos.hosts import NamespaceHost
from tests.chaos.processes import send
from tests.chaos.scene import IN_USE, INTERRUPTED, SUSPICIOUS, Scene, Stuck
from tests.chaos.schedule import Fault
from tests.chaos.toposweep import EXPIRES_AFTER_S

T = TypeVar("T")

TRIALS = ["ray::TuneTrial"]
TILES = ["ray::compute_tile", "ray::load_block"]
TAKEN_OVER = "another process has taken over"


def apply(fault: Fault, scene: Scene) -> None:
    """Let it happen.

    Raises:
        AssertionError: toposweep did not behave as it must in such a case.
    """
    FAULTS[fault.kind](fault, scene)


def kill_driver(fault: Fault, scene: Scene) -> None:
    """SIGKILL for the driver."""
    assert scene.driver is not None
    scene.driver.send(signal.SIGKILL)
    scene.driver.process.wait()


def terminate_driver(fault: Fault, scene: Scene) -> None:
    """SIGTERM for the driver: it leaves soon, and says how to go on."""
    assert scene.driver is not None
    began = time.monotonic()
    scene.driver.send(signal.SIGTERM)
    try:
        code = scene.driver.process.wait(scene.patience)
    except subprocess.TimeoutExpired:
        raise Stuck("SIGTERM: the driver stays") from None
    scene.note(f"left {time.monotonic() - began:.1f} s after SIGTERM with {code}")
    if code not in (0, 1):  # it was about to end by itself
        text = scene.output()
        if code == -signal.SIGTERM and not text:
            return  # Python itself was still starting
        assert code in (130, 143), f"SIGTERM: {code}"
        # Before it has anything to go on with, a signal simply ends it.
        assert not text or INTERRUPTED in text or "nothing had begun" in text, text


def suspend_driver(fault: Fault, scene: Scene) -> None:
    """Stop the driver until its lock has expired; another takes over; the first wakes up."""
    first, number = scene.driver, scene.drivers
    assert first is not None
    generation = _generation(scene.out)
    first.send(signal.SIGSTOP)
    if first.returncode is not None:
        return  # it ended by itself
    if RunLock(scene.out, "look").look() is None:
        scene.note("the driver had let go of the lock: all was done but the printing")
        first.send(signal.SIGCONT)
        return
    time.sleep(EXPIRES_AFTER_S + 1)
    scene.driver = scene.start_driver(scene.head)
    deadline = time.monotonic() + scene.patience
    while _generation(scene.out) <= generation and scene.driver.returncode is None:
        if time.monotonic() > deadline:
            raise Stuck("the second driver does not take over")
        time.sleep(0.05)
    time.sleep(fault.seconds)
    scene.look()
    first.send(signal.SIGCONT)
    try:
        code = first.process.wait(scene.patience)
    except subprocess.TimeoutExpired:
        first.send(signal.SIGKILL)
        raise Stuck("the driver that lost its lock stays") from None
    text = scene.output(number)
    scene.note(f"the first driver woke and ended with {code}")
    assert SUSPICIOUS not in text, text
    assert code != 0, text
    assert TAKEN_OVER in text, f"the driver that lost its lock: {code} {text}"


def _generation(out: Path) -> int:
    return max((int(path.stem) for path in out.glob("lock/*.json")), default=0)


def second_driver(fault: Fault, scene: Scene) -> None:
    """Start a second driver on OUT: it is refused, the first goes on."""
    assert scene.driver is not None
    first = scene.driver
    second = scene.start_driver(_picked(fault, [scene.head, *scene.living_workers()]))
    try:
        code = second.process.wait(scene.patience)
    except subprocess.TimeoutExpired:
        second.send(signal.SIGKILL)
        raise Stuck("the second driver stays") from None
    text = scene.output()
    scene.note(f"the second driver ended with {code}")
    if first.returncode is None:
        assert (code, IN_USE in text) == (2, True), f"the second driver: {code} {text}"
    scene.drivers -= 1  # its log is the next driver's


def kill_worker(fault: Fault, scene: Scene) -> None:
    """SIGKILL for one of Ray's worker processes, where one is at work."""
    words = TRIALS if fault.counted == "snapshots" else TILES
    pids = scene.processes(words) or scene.processes(["ray::IDLE"])
    if pids:
        send(_picked(fault, pids), signal.SIGKILL)


def kill_host(fault: Fault, scene: Scene) -> None:
    """The power of a host fails; another comes later."""
    host = _picked(fault, scene.living_workers())
    host.kill()
    time.sleep(fault.seconds)
    scene.replace_worker(host)


def kill_head(fault: Fault, scene: Scene) -> None:
    """The power of the cluster's head fails; its other hosts live on beside a new cluster."""
    scene.head.kill()
    scene.head = scene.hosts.start_head()
    scene.workers = scene.hosts.start_workers(len(scene.workers))


def kill_raylet(fault: Fault, scene: Scene) -> None:
    """A host's raylet dies, its workers do not."""
    host = _picked(fault, scene.living_workers())
    scene.hosts.kill_raylet(host)
    scene.replace_worker(host)


def cut_for_ever(fault: Fault, scene: Scene) -> None:
    """A host loses its link and goes on alone; another one takes its place."""
    host = _picked(fault, scene.living_workers())
    assert isinstance(host, NamespaceHost)
    host.cut()
    scene.replace_worker(host)


def cut_briefly(fault: Fault, scene: Scene) -> None:
    """A host loses its link, so shortly that nobody gives it up."""
    host = _picked(fault, scene.living_workers())
    assert isinstance(host, NamespaceHost)
    host.cut()
    time.sleep(fault.seconds)
    host.mend()


def cut_and_mend(fault: Fault, scene: Scene) -> None:
    """A host loses its link, is given up, and comes back."""
    host = _picked(fault, scene.living_workers())
    cut_briefly(fault, scene)
    scene.replace_worker(host)


def full_disk(fault: Fault, scene: Scene) -> None:
    """Somebody else's file takes all the space where OUT is, for a while."""
    ballast = scene.out.parent / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    time.sleep(fault.seconds)
    ballast.unlink()


def read_only(fault: Fault, scene: Scene) -> None:
    """Every host finds OUT read-only for a while."""
    store = str(scene.out.parent)
    hosts = [scene.head, *scene.living_workers()]
    protect = f"mount --bind {store} {store}; mount -o remount,bind,ro {store}"
    for host in hosts:
        scene.hosts.popen(host, ["sh", "-ec", protect]).check()
    time.sleep(fault.seconds)
    for host in hosts:
        if host.alive:
            scene.hosts.popen(host, ["umount", "-l", store]).check()


def corrupt_tile(fault: Fault, scene: Scene) -> None:
    """A tile's file changes while nobody works: it is computed again."""
    kill_driver(fault, scene)
    tiles = sorted(scene.out.glob("distances/*/tiles/*.parquet"))
    if tiles:
        _flip(_picked(fault, tiles))


def corrupt_mask(fault: Fault, scene: Scene) -> None:
    """A mask's file changes while nobody works: that is told by its name, and all else is done.

    Then the file is restored, as from a backup.
    """
    kill_driver(fault, scene)
    needed = _covered_masks(scene.out)
    if not needed:
        scene.note("no mask that no trial will make again")
        return
    path = _picked(fault, needed)
    before = _flip(path)
    told = 0
    while told == 0:
        scene.driver = scene.start_driver()
        code = scene.driver.process.wait(scene.patience)
        text = scene.output()
        assert SUSPICIOUS not in text, text
        if IN_USE in text or INTERRUPTED in text:
            time.sleep(1)
            continue
        told = text.count(path.name)
        scene.note(f"with {path.name} damaged: {code}, named {told} times")
        assert (code, told > 0) == (1, True), f"a damaged mask file: {code} {text}"
    assert any(path.name in str(problem) for problem in Run.open(scene.out).verify())
    path.write_bytes(before)
    scene.driver = scene.start_driver()


def _covered_masks(out: Path) -> list[Path]:
    """Staged masks of steps that a checkpoint covers: no attempt makes them again."""
    run = Run.open(out)
    covered = []
    for trial_id, record in sorted(run.records().items()):
        claims = read_claims(out, trial_id)
        step = covered_step(run.checkpoint_folder(trial_id), claims)
        if record.state == "completed":
            step = record.total_steps
        for path in sorted(out.glob(f"masks/staging/{trial_id}/*.parquet")):
            if int(path.name[:8]) <= step:
                covered.append(path)
    return covered


def _flip(path: Path) -> bytes:
    """Change some bytes in the middle of a file; returns what it was."""
    before = path.read_bytes()
    middle = len(before) // 2
    path.write_bytes(before[:middle] + bytes(b ^ 0xFF for b in before[middle : middle + 16])
                     + before[middle + 16 :])  # fmt: skip
    return before


def _picked(fault: Fault, choices: Sequence[T]) -> T:
    return choices[min(int(fault.pick * len(choices)), len(choices) - 1)]


FAULTS: dict[str, Callable[[Fault, Scene], None]] = {
    function.__name__: function
    for function in (
        kill_driver, terminate_driver, suspend_driver, second_driver, kill_worker, kill_host,
        kill_head, kill_raylet, cut_for_ever, cut_briefly, cut_and_mend, full_disk, read_only,
        corrupt_tile, corrupt_mask,
    )
}  # fmt: skip
