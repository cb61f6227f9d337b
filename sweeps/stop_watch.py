"""How a trial's process learns, in the middle of an epoch, that it is to stop training."""

import threading
from collections.abc import Callable

from storage.errors import CorruptFile
from storage.lock import must_stop

POLL_S = 2.0  # of the 30 s that there are; one small read of OUT each


class StopWatch:
    """Asks every two seconds, in a thread of its own, whether to go on.

    Training stops when the driver has asked for it, or holds OUT's lock no more; and when this
    process or its node is about to end.

    Args:
        out: the run's folder.
        generation: of the lock that the driver holds; 0: there is no driver.
        node_is_leaving: asked as often.

    Attributes:
        stop: set while no trial is to train here.
        leaves: whether that is because this process is about to end.
    """

    def __init__(self, out: str, generation: int, node_is_leaving: Callable[[], bool]) -> None:
        self.stop = threading.Event()
        self.leaves = False
        self._out, self._generation = out, generation
        self._node_is_leaving = node_is_leaving
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-watch", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """This process is about to end; safe to call from a signal's handler."""
        self.leaves = True
        self.stop.set()

    def close(self) -> None:
        """Watch no longer; the thread ends by itself."""
        self._over.set()

    def look(self) -> None:
        """Ask now."""
        if self.leaves:
            return
        if self._node_is_leaving():
            self.leave()
            return
        try:
            stop = self._generation > 0 and must_stop(self._out, self._generation)
        except (OSError, CorruptFile):
            return  # storage that is away has not asked for anything
        if stop:
            self.stop.set()
        elif not self.leaves:
            self.stop.clear()

    def _watch(self) -> None:
        while not self._over.wait(POLL_S):
            self.look()
