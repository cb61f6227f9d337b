"""Leaving a job before its end, because a signal asks for it or the cluster has gone.

SIGTERM is how Slurm and Kubernetes announce SIGKILL, 30 seconds ahead. While trials run it is only
noted: they are asked for a last checkpoint first. Everywhere else it ends the job at once, since
all that is done has been committed. Whatever hangs meanwhile, the process is gone in time.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

TERMINATED = 143  # what a shell gives for a program that SIGTERM ended
CUT_SHORT = 1  # for any other reason

LEAVE_WITHIN_S = 25.0
LAST_WORDS_S = 1.0
LEAVE_LOST_WITHIN_S = 10.0  # Ray itself ends a process that has lost its cluster, without a word


class Leave(SystemExit):
    """The job leaves before its end.

    No `Exception`: nothing on the way out is to take it for a failure of its own.

    Attributes:
        why: for the user, a few words.
    """

    def __init__(self, why: str, code: int) -> None:
        super().__init__(code)
        self.why = why
        self.code: int = code


class LeaveRequest:
    """Whether this process is to leave, and why.

    Args:
        last_words: called with `why` when the time is up and the process ends where it stands.

    Attributes:
        why, code: the reason in a few words, and the exit code; empty and 0 where there is none.
        begun: whether there is a run that can be gone on with; the job says so.
    """

    def __init__(self, last_words: Callable[[str], None]) -> None:
        self.why = ""
        self.code = 0
        self.begun = False
        self._last_words = last_words
        self._patient = False
        self._raised = False
        self._timer: threading.Timer | None = None
        self._over = False
        self._ending = threading.Lock()  # else a signal could come after its handler has gone

    @property
    def asked(self) -> bool:
        """Whether it is to leave."""
        return self.why != ""

    def check(self) -> None:
        """Raise Leave where it has been asked for."""
        if self.asked:
            self._raised = True
            raise Leave(self.why, self.code)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Inside, SIGTERM is only noted; the code inside looks at `asked` and leaves by itself."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
        self.check()

    def lose(self, why: str) -> None:
        """Leave at once, from any thread: what the job needs is gone."""
        with self._ending:
            if self._over:
                return  # it has found out by itself
            self._ask(why, CUT_SHORT, LEAVE_LOST_WITHIN_S)
            self._patient = False
            main = threading.main_thread().ident
            if main is not None and signal.getsignal(signal.SIGTERM) == self._on_signal:
                signal.pthread_kill(main, signal.SIGTERM)

    def listen(self) -> None:
        """Have SIGTERM ask; once more after whatever takes signals for itself, as `ray.init`."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)

    def forget(self) -> None:
        """The job has been left in time."""
        try:
            with self._ending:  # which the signal that is on its way may interrupt
                self._over = True
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if not self.asked:
            self._ask("terminated", TERMINATED, LEAVE_WITHIN_S)
        if not self._patient and not self._raised:
            self.check()

    def _ask(self, why: str, code: int, within_s: float) -> None:
        if self.asked:
            return
        self.why, self.code = why, code
        self._timer = threading.Timer(within_s, self._leave_now)
        self._timer.daemon = True
        self._timer.start()

    def _leave_now(self) -> None:
        # In a thread: whoever reads stderr may stand still.
        last_words = threading.Thread(target=self._last_words, args=(self.why,), daemon=True)
        last_words.start()
        last_words.join(LAST_WORDS_S)
        os._exit(self.code)


@contextmanager
def leaving(last_words: Callable[[str], None] | None = None) -> Iterator[LeaveRequest]:
    """A request that SIGTERM makes, for as long as the `with` lasts.

    Args:
        last_words: see `LeaveRequest`; None: a line on stderr.
    """
    request = LeaveRequest(last_words or _complain)
    before: Any = signal.getsignal(signal.SIGTERM)
    request.listen()
    try:
        yield request
    finally:
        request.forget()
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _complain(why: str) -> None:
    print(f"toposweep: {why}", file=sys.stderr, flush=True)
