"""Script: compact copies of a run, each killed before another one of its file operations.

Usage: python crash_compaction.py TEMPLATE FOLDER. Makes FOLDER/0, FOLDER/1, ... until a compaction
comes to its end; prints how many there are. A process that ends by `os._exit` leaves what kill -9
leaves: nothing is flushed, nothing cleaned up.
"""

import os
import shutil
import sys
from pathlib import Path

from storage import MaskStore, MetricStore  # before the forks, which only then use it

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}


def compact_until(out: Path, last: int) -> None:
    """Compact `out`, and end before file operation number `last`."""
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
    MaskStore(out).compact()
    MetricStore(out).compact()
    os._exit(0)


def main() -> None:
    template, folder = Path(sys.argv[1]), Path(sys.argv[2])
    number = 0
    while True:
        out = folder / str(number)
        shutil.copytree(template, out)
        child = os.fork()
        if child == 0:
            compact_until(out, number)
        _, status = os.waitpid(child, 0)
        number += 1
        if os.waitstatus_to_exitcode(status) != 9:
            break
    print(os.waitstatus_to_exitcode(status), number)


if __name__ == "__main__":
    main()
