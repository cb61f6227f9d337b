"""A program of ours run on a cluster's head, from a machine that reaches only Ray's client port.

A driver cannot run behind `ray://`: Ray Tune's callbacks would run in a client, where every look at
a trial crosses the network. So the program itself runs on the head, and what it prints comes back.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.connect import Cluster
from cluster.nodes import one_line

READ_SECONDS = 1.0  # how long a look at what was printed waits for more

_HEAD = "node:__internal_head__"


@dataclass(frozen=True)
class Printed:
    """What a program has printed since the last look; `code` is its exit code once it has ended."""

    out: bytes
    err: bytes
    code: int | None


class HeadProgram:
    """The program as a Ray actor holds it.

    Args:
        words: what follows `python -m`. The program gets SIGTERM when the actor's process ends.
        files: written to the program's working folder, by name.
        variables: set in its environment, beside those of the head.
        terminal: rows and columns of the terminal that its output is shown on, or None.
    """

    def __init__(
        self,
        words: Sequence[str],
        files: Mapping[str, str],
        variables: Mapping[str, str],
        terminal: tuple[int, int] | None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="toposweep-")
        for name, text in files.items():
            (Path(self._folder.name) / name).write_text(text)
        self._buffers = {"out": bytearray(), "err": bytearray()}
        self._news = threading.Condition()
        out_read, out_write = _terminal(*terminal) if terminal else os.pipe()
        err_read, err_write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cluster.child", *words],
            cwd=self._folder.name,
            env={**_clean_environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            start_new_session=True,  # Ray kills a worker's whole group; this one may checkpoint
        )
        os.close(out_write)
        os.close(err_write)
        self._readers = [
            threading.Thread(target=self._collect, args=(name, descriptor), daemon=True)
            for name, descriptor in (("out", out_read), ("err", err_read))
        ]
        for reader in self._readers:
            reader.start()

    def look(self) -> Printed:
        """What it has printed since the last look; waits a moment for something."""
        with self._news:
            self._news.wait_for(lambda: any(self._buffers.values()), READ_SECONDS)
        # The code first: what was printed before the end is then in the buffers.
        code = self._process.poll()
        if code is not None:
            for reader in self._readers:
                reader.join(READ_SECONDS)
        with self._news:
            out, err = (bytes(self._buffers[name]) for name in ("out", "err"))
            for buffer in self._buffers.values():
                buffer.clear()
        return Printed(out, err, code)

    def signal(self, number: int) -> None:
        """Send it a signal, as the user's terminal would."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _collect(self, name: str, descriptor: int) -> None:
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:  # a terminal whose program has ended
                data = b""
            if not data:
                os.close(descriptor)
                return
            with self._news:
                self._buffers[name] += data
                self._news.notify_all()


def _terminal(rows: int, columns: int) -> tuple[int, int]:
    """Both ends of a terminal of some size."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return ours, theirs


def _clean_environment() -> dict[str, str]:
    """A worker's environment without what makes it one."""
    from ray._private.ray_constants import RAY_INTERNAL_FLAGS

    dropped = {*RAY_INTERNAL_FLAGS, "RAY_ADDRESS", "RAY_CLIENT_MODE"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def run_on_head(
    cluster: Cluster,
    words: Sequence[str],
    files: Mapping[str, str],
    variables: Mapping[str, str],
    terminal: tuple[int, int] | None,
) -> int:
    """Run a program of ours on the head of a cluster and pass on what it prints.

    It gets `--address` and the cluster's own address as its last words.

    A KeyboardInterrupt here is a SIGTERM there; the program has its own time to end. A second one
    kills it.

    Args:
        cluster: connected by its client's address.
        words, files, variables, terminal: as `HeadProgram` takes them.

    Returns:
        Its exit code; 128 and the signal's number where a signal ended it.

    Raises:
        ValueError: the head cannot run it, or was lost on the way.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    heads = [node for node in cluster.nodes if _HEAD in node.resources] or list(cluster.nodes)
    where = NodeAffinitySchedulingStrategy(heads[0].id, soft=False)
    remote: Any = ray.remote(num_cpus=0, max_restarts=0)(HeadProgram)
    program = remote.options(scheduling_strategy=where).remote(
        [*words, "--address", ray.get_runtime_context().gcs_address],
        dict(files),
        dict(variables),
        terminal,
    )
    asked_to_end = False
    try:
        while True:
            try:
                printed: Printed = ray.get(program.look.remote())
                _pass_on(printed)
                if printed.code is not None:
                    return printed.code if printed.code >= 0 else 128 - printed.code
            except KeyboardInterrupt:
                if asked_to_end:
                    raise
                asked_to_end = True
                ray.get(program.signal.remote(int(signal.SIGTERM)))
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ValueError(f"{heads[0]} cannot go on: {one_line(error)}") from None
    finally:
        with suppress(Exception):
            ray.kill(program)


def _pass_on(printed: Printed) -> None:
    for stream, data in ((sys.stdout, printed.out), (sys.stderr, printed.err)):
        if data:
            stream.buffer.write(data)
            stream.flush()
