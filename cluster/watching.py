"""Noticing that the cluster has gone. Ray itself ends a process that has not reached the head for a
minute, without a word to anybody."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL_S = 5.0
GONE_AFTER_S = 45.0  # before Ray's own minute; a link that is cut for less is waited for


@contextmanager
def watched(on_gone: Callable[[str], None]) -> Iterator[None]:
    """Call `on_gone` with a few words, once, when the head has not answered for three quarters of
    a minute. Ray is connected already; its client notices by itself."""
    import ray

    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        yield
        return
    address = ray.get_runtime_context().gcs_address
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(address, on_gone, over), name="cluster-watch",
                              daemon=True)  # fmt: skip
    thread.start()
    try:
        yield
    finally:
        over.set()


def _watch(address: str, on_gone: Callable[[str], None], over: threading.Event) -> None:
    host, _, port = address.rpartition(":")
    answered = time.monotonic()
    while not over.wait(POLL_S):
        try:
            socket.create_connection((host.strip("[]"), int(port)), POLL_S).close()
            answered = time.monotonic()
        except OSError as error:
            if time.monotonic() - answered > GONE_AFTER_S:
                on_gone(f"the cluster's head at {address} does not answer any more ({error})")
                return
