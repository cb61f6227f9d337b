"""Real servers on loopback, each started and killed by the tests that need it."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from storage.tracking_uri import with_driver

QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # it is the protocol that is tested, not the disk
    "log_min_messages": "fatal",
    "max_connections": "40",
}


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, or the test has failed."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def why_no_postgresql() -> str | None:
    """None where PostgreSQL can be started, else the reason, for a skip."""
    if _binary("initdb") is None or _binary("postgres") is None:
        return "PostgreSQL is not installed (Debian: postgresql)"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return None


class PostgreSQL:
    """A database server of its own: its folder, its port, one user with a password (SCRAM).

    The clusters of the machine are not touched. As root it runs as another user, as it must.
    """

    USER, DATABASE = "sweeper", "mlflow"

    def __init__(self) -> None:
        self.port, self.password = free_port(), f"pw{secrets.token_hex(8)}"
        # Not beneath pytest's folder, which the other user could not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="toposweep-postgresql-"))
        self._as_user: dict[str, Any] = {"cwd": self.folder}
        user = _unprivileged() if os.geteuid() == 0 else None
        if user is not None:
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._initialise()

    @property
    def uri(self) -> str:
        return f"postgresql://{self.USER}:{self.password}@127.0.0.1:{self.port}/{self.DATABASE}"

    def start(self) -> None:
        settings = [f"--{key}={value}" for key, value in _SETTINGS.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(_binary("postgres")), "-D", str(self.folder / "data"),
                 f"--port={self.port}", *settings],
                stdout=log, stderr=log, start_new_session=True, **self._as_user,
            )  # fmt: skip
        wait_for(lambda: self._alive() and self.answers())

    def _alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return True

    def answers(self) -> bool:
        import psycopg2

        try:
            self.query("select 1", database="postgres")
        except psycopg2.OperationalError:
            return False
        return True

    def suspend(self, number: int) -> None:
        """Send SIGSTOP or SIGCONT to the server and to the processes of its connections."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, number)

    def stop(self) -> None:
        """Break every connection and leave, as after a crash: what was committed stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def create_database(self, name: str = DATABASE) -> str:
        """An empty database; its address."""
        self.query(f'create database "{name}"', database="postgres")
        return self.uri.removesuffix(self.DATABASE) + name

    def query(self, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
        import psycopg2

        uri = self.uri.removesuffix(self.DATABASE) + (database or self.DATABASE)
        with closing(psycopg2.connect(uri, connect_timeout=5)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return [] if cursor.description is None else cursor.fetchall()

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)  # the folder itself is closed to others
        done = subprocess.run(
            [str(_binary("initdb")), "-D", str(self.folder / "data"), "-U", self.USER,
             "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--no-instructions",
             "--encoding=UTF8", "--locale=C.UTF-8"],
            capture_output=True, text=True, check=False, **self._as_user,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


class MlflowServer:
    """A real `mlflow server`, in a process group of its own.

    Args:
        folder: its log and its artifacts.
        store: the address of its database; None: SQLite in the folder.
    """

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.database = folder / "server.db"
        self.store = with_driver(store) if store else f"sqlite:///{self.database}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if self.process is not None:
            return
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
                 "--port", str(self.port), "--workers", "1",
                 "--backend-store-uri", self.store,
                 "--artifacts-destination", str(self.folder / "artifacts")],
                env=os.environ | QUIET, start_new_session=True, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(lambda: self._alive() and self.answers())

    def _alive(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        return True

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def _binary(name: str) -> Path | None:
    """Of the newest version that Debian's packages have put there; else the one in PATH."""
    found = [p for p in Path("/usr/lib/postgresql").glob(f"*/bin/{name}") if p.is_file()]
    if found:
        return max(found, key=lambda path: float(path.parts[4]))
    elsewhere = shutil.which(name)
    return Path(elsewhere) if elsewhere else None


def _unprivileged() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None
