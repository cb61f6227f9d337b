"""Script: compact or append to copies of a run, each killed before another file operation.

Usage: python crash.py ACTION TEMPLATE FOLDER. Makes FOLDER/0, FOLDER/1, ... until an action comes
to its end; prints its exit status and how many there are. A process that ends by `os._exit` leaves
what kill -9 leaves: nothing is flushed, nothing cleaned up.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from snapshots import append, trial

from storage import MaskStore, MetricStore  # before the forks, which only then use it

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}


def compact(out: Path) -> None:
    MaskStore(out).compact()
    MetricStore(out).compact()


def append_once(out: Path) -> None:
    append(MaskStore(out), trial(9), 70)
    MetricStore(out).append(trial(9), "tiny", 1, [{"step": 70, "epoch": 7, "loss": 0.5}])


ACTIONS = {"compact": compact, "append": append_once}


def act_until(action: Callable[[Path], None], out: Path, last: int) -> None:
    """Act on `out`, and end before file operation number `last`."""
    done = 0

    def count() -> None:
        nonlocal done
        if done == last:
            os._exit(9)
        done += 1

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in CHANGES or writes:
            count()

    fsync = os.fsync

    def counted_fsync(descriptor: int) -> None:
        count()
        fsync(descriptor)

    os.fsync = counted_fsync
    sys.addaudithook(hook)
    action(out)
    os._exit(0)


def main() -> None:
    action, template, folder = ACTIONS[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])
    number = 0
    while True:
        out = folder / str(number)
        shutil.copytree(template, out)
        child = os.fork()
        if child == 0:
            act_until(action, out, number)
        _, status = os.waitpid(child, 0)
        number += 1
        if os.waitstatus_to_exitcode(status) != 9:
            break
    print(os.waitstatus_to_exitcode(status), number)


if __name__ == "__main__":
    main()
