"""Jobs that end before their time: why, how to go on, and with which exit code."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cluster.errors import ClusterFailed
from sweeps.faults import FULL, describe_os_error
from sweeps.leaving import Leave, LeaveRequest, leaving

FAILED = 1
INTERRUPTED = 130  # what a shell gives for a program that Ctrl-C ended


class CutShort(Exception):
    """A job was cut short: the line that says why and how to go on, and the exit code.

    No KeyboardInterrupt: click would swallow that, and the line with it.
    """

    def __init__(self, line: str, code: int, at_once: bool = False) -> None:
        super().__init__(line)
        self.code = code
        self.at_once = at_once  # no time for what libraries wait for


@contextmanager
def resumable(out: str, say: Callable[[str], Any]) -> Iterator[LeaveRequest]:
    """Around a job: whatever cuts it short leaves what is committed; `say` how to go on.

    Raises:
        CutShort: it was.
    """

    def how(why: str) -> str:
        return f"{why}; go on with: toposweep resume {out}"

    with leaving(lambda why: say(how(why))) as request:
        try:
            yield request
        except KeyboardInterrupt:
            why, code = "interrupted", INTERRUPTED
        except Leave as left:
            why, code = left.why, left.code
        except ClusterFailed as error:
            why, code = f"error: {error}", FAILED
        except OSError as error:
            if not request.begun or isinstance(error, BrokenPipeError):
                raise
            why, code = f"error: {_storage_error(error, out)}", FAILED
        else:
            return
        line = how(why) if request.begun else f"{why}; nothing had begun"
        raise CutShort(line, code, at_once=request.asked) from None


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM is a KeyboardInterrupt, as Ctrl-C is."""

    def terminate(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _storage_error(error: OSError, out: str) -> str:
    """One line that names the folder."""
    text = describe_os_error(error)
    if error.errno not in FULL:
        return text if error.filename else f"{out}: {text}"
    return f"{out}: {error.strerror}: make room there first"
