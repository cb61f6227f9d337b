"""A real S3 server on loopback, in a process of its own, and a way to cut the link to it."""

import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

SECRET = "not-to-be-found-anywhere"


class S3Server:
    """moto's server behind a relay, so that a test can cut it off and mend it."""

    def __init__(self) -> None:
        self._port = _free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._relay = _Relay(self._port)
        self.environment = {
            "AWS_ACCESS_KEY_ID": "toposweep",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._relay.port}",
        }
        deadline = time.monotonic() + 120
        while not _answers(self._port):
            assert self._process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.1)

    def make_bucket(self) -> str:
        """A new bucket's URI."""
        import boto3

        name = f"toposweep-{uuid.uuid4().hex[:12]}"
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self._port}")
        client.create_bucket(Bucket=name)
        return f"s3://{name}"

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Refuse and break all connections for as long as the block lasts."""
        self._relay.cut()
        try:
            yield
        finally:
            self._relay.mend()

    def close(self) -> None:
        """End the server."""
        self._relay.cut()
        self._process.kill()
        self._process.wait()


@contextmanager
def s3_environment() -> Iterator[S3Server]:
    """A server, with what finds it in the environment of this process and its children."""
    server = S3Server()
    before = {name: os.environ.get(name) for name in server.environment}
    os.environ.update(server.environment)
    try:
        yield server
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        server.close()


class _Relay:
    """Passes bytes on between a port of its own and the server's."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        if self._listener is not None:
            with suppress(OSError):  # wakes the thread that waits in accept
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            for one, other in ((near, far), (far, near)):
                self._open.add(one)
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while block := one.recv(65536):
                other.sendall(block)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.discard(one)
        one.close()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
