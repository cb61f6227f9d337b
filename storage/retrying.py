"""Waiting for storage that does not answer for a moment: a server restarted, a link cut."""

import errno
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

GIVE_UP_AFTER_S = 150.0  # longer than the minute that a restart or a failover takes
LONGEST_PAUSE_S = 8.0
_FIRST_PAUSE_S = 0.1

# Not a full disk, and nothing that the same call would only meet again.
_PASSING = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EREMOTEIO, errno.ENOTCONN,
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENETDOWN,
    errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH,
}  # fmt: skip

_log = logging.getLogger("toposweep.storage")


class StorageUnavailable(OSError):
    """An object store does not answer, or answers with an error of its own."""


def may_pass(error: OSError) -> bool:
    """Whether the same call may well succeed a moment later."""
    return isinstance(error, StorageUnavailable) or error.errno in _PASSING


class _ThisThread(threading.local):
    check: Callable[[], object] | None = None


_this_thread = _ThisThread()


@contextmanager
def checking(check: Callable[[], object]) -> Iterator[None]:
    """Inside, this thread calls nothing again before `check`, which raises if it must not.

    A call may be waited for longer than a lock outlives its last renewal: what its holder was about
    to write is not to land over its successor's work.
    """
    before, _this_thread.check = _this_thread.check, check
    try:
        yield
    finally:
        _this_thread.check = before


def retried(action: Callable[[], T]) -> T:
    """What `action` gives, called again with growing pauses while its error may pass.

    Args:
        action: safe to repeat also when an earlier call went through unnoticed.

    Raises:
        OSError: it has not passed for `GIVE_UP_AFTER_S`, or is of another kind.
        Exception: what the `checking` around it raises.
    """
    give_up = time.monotonic() + GIVE_UP_AFTER_S
    pause = _FIRST_PAUSE_S
    while True:
        try:
            return action()
        except OSError as error:
            if not may_pass(error) or time.monotonic() >= give_up:
                raise
            if pause == _FIRST_PAUSE_S:  # once an outage
                _log.warning("storage does not answer: %s; trying again", error)
        # Jitter: a thousand trials that lost the same server are not to come back as one.
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE_S)
        if check := _this_thread.check:
            with checking(lambda: None):  # it asks the storage itself
                check()
