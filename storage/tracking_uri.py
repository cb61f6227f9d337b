"""The address of an MLflow store: which one, whether it can be right, whether it answers.

Nothing here imports MLflow, so that a wrong address costs one line before anything starts.
"""

import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import yaml

from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, Location, cannot_be_read, run_folder

HIDDEN = "***"
ANSWER_SECONDS = 2.0  # how long a server may take to show that it is there

# Database schemes of MLflow: the drivers that a bare scheme may mean, and the server's port.
_DATABASES: dict[str, tuple[tuple[str, ...], int | None]] = {
    "sqlite": (("pysqlite",), None),
    "postgresql": (("psycopg2", "psycopg"), 5432),
    "mysql": (("mysqldb",), 3306),
    "mssql": (("pyodbc",), 1433),
}
_DRIVER_MODULES = {"mysqldb": "MySQLdb", "mysqlconnector": "mysql", "pysqlite": "sqlite3"}
_ALLOWED = "sqlite:///FILE, http(s)://HOST[:PORT], or a database MLflow knows (postgresql://...)"

# Up to the last @, since a password may hold unescaped signs. A path of a file may hold an @, too.
_USERINFO = re.compile(r"\b((?!sqlite|file)[a-zA-Z][\w+.-]*://)[^\s'\"]*@")
_SECRET_QUERY = re.compile(
    r"([?&][^=&\s]*(?:password|passwd|token|secret|key)[^=&\s]*=)[^&\s#'\"]+", re.IGNORECASE
)


def redacted(text: str) -> str:
    """`text` with user names, passwords and secret query values in its URIs replaced by ***."""
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", _USERINFO.sub(rf"\1{HIDDEN}@", text))


def default_uri(out: Location) -> str:
    """The SQLite store beside OUT, `<parent of OUT>/mlflow.db`, shared by the runs of a folder.

    Raises:
        InputError: OUT is not a local folder, or its path holds a character that a database
            address gives another meaning.
    """
    folder = run_folder(out)
    if not isinstance(folder, Path):
        raise InputError(
            f"MLflow's default database cannot lie in {folder}: give an address with "
            "--tracking-uri, the study's tracking.uri or MLFLOW_TRACKING_URI"
        )
    parent = folder.parent
    if any(sign in str(parent) for sign in "%?"):
        raise InputError(
            f"MLflow's default database cannot lie in {parent} (a % or ? in the path): "
            "give another address with --tracking-uri"
        )
    return f"sqlite:///{parent / 'mlflow.db'}"


def resolve_uri(out: Location, explicit: str | None = None, study_uri: str | None = None) -> str:
    """The first that is given: `explicit`, the study's, MLFLOW_TRACKING_URI, the default.

    Raises:
        InputError: what is left is a stored address whose credentials were left out.
    """
    surrounding = os.environ.get("MLFLOW_TRACKING_URI")
    if study_uri and HIDDEN in study_uri:
        study_uri, surrounding = None, surrounding or study_uri
    uri = explicit or study_uri or surrounding or default_uri(out)
    if HIDDEN in uri:
        raise _wrong(
            uri,
            "its credentials were left out of what is stored: give it whole with --tracking-uri "
            "or MLFLOW_TRACKING_URI",
        )
    return uri


def study_tracking(out: AnyPath) -> dict[str, Any]:
    """The `tracking` section of OUT/study.yaml ({} when there is none).

    Raises:
        CorruptFile: the study file is not YAML.
    """
    path = out / "study.yaml"
    try:
        study = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise cannot_be_read(path, error) from None
    except Exception:  # PyYAML's constructors trust a tag such as !!int or !!map
        raise CorruptFile(path, "is not a YAML file") from None
    section = study.get("tracking") if isinstance(study, dict) else None
    return section if isinstance(section, dict) else {}


def check_uri(uri: str) -> None:
    """Refuse an address that MLflow could never use; asks no server.

    Raises:
        InputError: naming what is wrong and what is allowed; credentials are not repeated.
    """
    parts = _split(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme in ("http", "https"):
        if not parts.hostname:
            raise _wrong(uri, f"there is no host after {parts.scheme}://")
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme in _DATABASES:
        given = parts.scheme.partition("+")[2]
        drivers = (given,) if given else _DATABASES[scheme][0]
        if not any(map(_is_installed, drivers)):
            hint = " (pip install 'toposweep[postgresql]')" if "psycopg2" in drivers else ""
            raise _wrong(
                uri, f"the Python package of its driver {drivers[0][:40]!r} is not installed{hint}"
            )
    elif scheme in ("", "file"):
        raise _wrong(uri, f"MLflow 3 refuses folders of files; allowed: {_ALLOWED}")
    else:
        raise _wrong(uri, f"unknown scheme {parts.scheme[:40]!r}; allowed: {_ALLOWED}")


def is_server(uri: str) -> bool:
    """Whether an MLflow server is behind the address, and not a database."""
    return uri.startswith(("http://", "https://"))


def is_network_database(uri: str) -> bool:
    """Whether this process itself talks to a database server."""
    return not is_server(uri) and sqlite_file(uri) is None


def with_driver(uri: str) -> str:
    """A bare postgresql:// with the driver that is installed.

    SQLAlchemy takes psycopg2 for it up to 2.0 and psycopg from 2.1 on, whichever is there.
    """
    scheme, separator, rest = uri.partition("://")
    if scheme != "postgresql":
        return uri
    installed = [driver for driver in _DATABASES[scheme][0] if _is_installed(driver)]
    return f"{scheme}+{installed[0]}{separator}{rest}" if installed else uri


def why_silent(uri: str) -> str | None:
    """None when the server of `uri` answers within about two seconds, else what happened.

    Any answer counts, an HTTP error too: then MLflow itself can say what is wrong. HTTP goes
    through the proxies of the environment, as MLflow's requests do.
    """
    parts = _split(uri)
    try:
        if parts.scheme in ("http", "https"):
            host = parts.netloc.rpartition("@")[2]  # urllib takes no credentials in an address
            health = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health"
            with urllib.request.urlopen(health, timeout=ANSWER_SECONDS):
                return None
        scheme = parts.scheme.partition("+")[0]
        port = parts.port or _DATABASES[scheme][1]
        if parts.hostname and port:
            socket.create_connection((parts.hostname, port), timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        return None if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS:g} s"
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:  # http.client's protocol errors: something else listens there
        return f"does not speak HTTP ({type(error).__name__})"
    return None


def sqlite_file(uri: str) -> Path | None:
    """The database file of a SQLite address; None for every other address."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]*)", uri)
    return Path(unquote(match[1])).absolute() if match else None


def _is_installed(driver: str) -> bool:
    return find_spec(_DRIVER_MODULES.get(driver, driver)) is not None


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # parsed only when asked for
    except ValueError:  # its text would repeat a part of the address
        raise _wrong(uri, "host or port cannot be read; the port is a number up to 65535") from None
    if uri != uri.strip() or any(sign.isspace() for sign in parts.netloc):
        raise _wrong(uri, "it has a blank in it")
    return parts


def _check_sqlite(uri: str) -> None:
    path = sqlite_file(uri)
    if path is None or path == Path.cwd() or ":memory:" in uri:
        raise _wrong(uri, "names no file: sqlite:///relative.db or sqlite:////absolute.db")
    if path.is_dir():
        raise _wrong(uri, "is a folder, not a database file")
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(16)
        if head and head != b"SQLite format 3\0":
            raise _wrong(uri, "the file there is not a SQLite database")


def _wrong(uri: str, why: str) -> InputError:
    return InputError(f"MLflow address {redacted(uri)[:200]!r}: {why}")
