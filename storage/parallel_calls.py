"""Calls that mostly wait, several at once; none of them outlives whoever asked for them."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Outcome(NamedTuple, Generic[T, R]):
    """What a call gave for an item, or the error that it raised."""

    item: T
    value: R | None
    error: Exception | None


def outcomes(
    work: Callable[[T], R],
    items: Sequence[T],
    at_once: int,
    stop: threading.Event | None = None,
) -> Generator[Outcome[T, R], None, None]:
    """Call `work` on every item, on at most `at_once` of them at a time.

    Args:
        work: safe to call from several threads when `at_once` is above 1.
        items: in this order they begin; they end in any.
        at_once: 1: in the caller's own thread.
        stop: once it is set, no further call begins.

    Yields:
        The outcomes as they come. When it is closed, what has not begun is left, and what has is
        waited for.
    """
    if at_once == 1:
        for item in items:
            if stop and stop.is_set():
                return
            yield _outcome(work, item)
        return

    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    done: queue.SimpleQueue[Outcome[T, R] | None] = queue.SimpleQueue()
    left = threading.Event()

    def serve() -> None:
        while not (left.is_set() or (stop and stop.is_set())):
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                break
            done.put(_outcome(work, item))
        done.put(None)

    # Daemons, so that a server which answers a byte a minute cannot keep the process.
    threads = [
        threading.Thread(target=serve, name=f"call-{number}", daemon=True)
        for number in range(min(at_once, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        at_work = len(threads)
        while at_work:
            outcome = done.get()
            if outcome is None:
                at_work -= 1
            else:
                yield outcome
    finally:
        left.set()
        for thread in threads:
            thread.join()


def _outcome(work: Callable[[T], R], item: T) -> Outcome[T, R]:
    try:
        return Outcome(item, work(item), None)
    except Exception as error:
        return Outcome(item, None, error)
