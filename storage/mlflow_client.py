"""Talking to MLflow: quietly, within bounded time, and so that doing it again adds nothing.

MLflow is imported inside the functions: it takes two seconds that most commands need not spend.
No global tracking state is changed; every call names its store.
"""

import logging
import os
import re
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from storage.filesystem import AnyPath, create_exclusive, read_bytes
from storage.tracking_uri import redacted, sqlite_file

# Limits of MLflow 3.17 (mlflow.utils.validation).
MAX_BATCH = 1000  # metrics, params and tags of one call together
MAX_PARAMS = MAX_TAGS = 100  # of one call
MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 8000  # characters

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it would print credentials of the address
}
# MLflow waits two minutes for an answer, seven times over, and obeys any Retry-After.
PATIENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
}
IMPATIENT = PATIENT | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_UPLOAD = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "120", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}

# The environment belongs to the whole process, so one conversation at a time.
_CONVERSATION = threading.Lock()
CONVERSATION_SECONDS = 15.0

# Errors about one run; with any other the store itself is in trouble.
_ABOUT_ONE_RUN = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}


class Refused(Exception):
    """The store is there, but will not take this; the message is one line."""


class Point(NamedTuple):
    """One value of one metric. `timestamp` in ms since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


@contextmanager
def conversation(patience: Mapping[str, str]) -> Iterator[None]:
    """Around everything that calls MLflow: bounded waiting (`patience`, where the user's
    environment does not say otherwise), no telemetry, nothing on the console; all put back after.

    Raises:
        Refused: another thread of this process has been talking to MLflow for too long.
    """
    if not _CONVERSATION.acquire(timeout=CONVERSATION_SECONDS):
        raise Refused("an earlier sync is still waiting for the server")
    try:
        unset = {key: value for key, value in patience.items() if key not in os.environ}
        with _environment(_QUIET | unset), _silenced("mlflow", "alembic", "urllib3"):
            yield
    finally:
        _CONVERSATION.release()


def is_about_one_run(error: Exception) -> bool:
    """Whether other runs can still be written after this error."""
    return getattr(error, "error_code", None) in _ABOUT_ONE_RUN


def one_line(error: Exception) -> str:
    """What went wrong, for a person: no line breaks, no credentials, not longer than a warning."""
    text = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
    text = text.partition("[SQL:")[0]  # SQLAlchemy goes on with the statement and its parameters
    return redacted(" ".join(text.split()))[:300]


def safe_key(name: str) -> str:
    """`name` as MLflow takes a key: signs it refuses become _."""
    return re.sub(r"[^\w/.\- :]", "_", name)[:MAX_KEY]


class Experiment:
    """One experiment of one store; made when it is not there.

    `artifacts` is the folder for a new experiment's artifacts when the store is a database. A
    server decides that by itself.

    Raises:
        Refused: the experiment was deleted in MLflow.
    """

    def __init__(self, uri: str, name: str, artifacts: AnyPath) -> None:
        from mlflow import MlflowClient

        database = sqlite_file(uri)
        if database is not None:
            _create_database(database)
            artifacts = database.parent / "mlartifacts"
        self._client = MlflowClient(tracking_uri=uri)
        folder = artifacts.as_uri() if isinstance(artifacts, Path) else str(artifacts)
        location = None if uri.startswith("http") else folder
        self.id = self._find_or_create(name, location)

    def _find_or_create(self, name: str, location: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except Exception:  # another process was faster, perhaps
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise Refused(
                f"the experiment {name!r} was deleted there: restore it or set tracking.experiment"
            )
        return str(found.experiment_id)

    def runs(self, tag: str, value: str) -> list[Any]:
        """All runs (mlflow.entities.Run) of the experiment that carry this tag, a page a call."""
        query = f"tags.{tag} = '{value}'"
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self.id], query, max_results=1000, order_by=["run_id"], page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return found

    def create_run(self, name: str, tags: Mapping[str, str], start_time: int) -> Any:
        """A new run. Sent once only: a retry after a lost answer would make two."""
        with _environment(_ONCE):
            return self._client.create_run(
                self.id, start_time=start_time, tags=_cut_tags(tags), run_name=name
            )

    def delete_run(self, run_id: str) -> None:
        self._client.delete_run(run_id)

    def log(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send in as few calls as the limits allow: params, then metrics, and tags at last, so
        that a tag which says how far metrics were sent is true whenever it is there."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in points]
        items = [Param(k, v[:MAX_PARAM]) for k, v in (params or {}).items()]
        labels = [RunTag(k, v) for k, v in _cut_tags(tags or {}).items()]
        while len(items) > MAX_PARAMS:
            self._client.log_batch(run_id, params=items[:MAX_PARAMS])
            del items[:MAX_PARAMS]
        while len(metrics) + len(items) + min(len(labels), MAX_TAGS) > MAX_BATCH:
            room = MAX_BATCH - len(items)
            self._client.log_batch(run_id, metrics=metrics[:room], params=items)
            del metrics[:room]
            items.clear()
        first = labels[:MAX_TAGS]
        if metrics or items or first:
            self._client.log_batch(run_id, metrics=metrics, params=items, tags=first)
        for start in range(MAX_TAGS, len(labels), MAX_TAGS):
            self._client.log_batch(run_id, tags=labels[start : start + MAX_TAGS])

    def set_status(self, run_id: str, status: str, end_time: int | None) -> None:
        """`end_time` (ms) belongs to a status that is an end; MLflow keeps an old one otherwise."""
        if end_time is None:
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status, end_time=end_time)

    def upload(self, run_id: str, path: AnyPath, folder: str | None) -> None:
        """Put a file beneath the run's artifacts; one of that name is replaced."""
        with _environment(_UPLOAD), tempfile.TemporaryDirectory() as drafts:
            if not isinstance(path, Path):
                draft = Path(drafts) / path.name
                draft.write_bytes(read_bytes(path))
                path = draft
            self._client.log_artifact(run_id, str(path), folder)


def _cut_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:MAX_TAG] for key, value in tags.items()}


def _create_database(path: Path) -> None:
    """Make MLflow's SQLite file appear whole.

    Two processes that migrate one new file ruin it for both, and one that dies in between leaves
    it ruined. So it is made elsewhere, and comes to its place by an exclusive create.
    """
    from mlflow import MlflowClient

    if path.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "mlflow.db"
        MlflowClient(tracking_uri=f"sqlite:///{draft}")
        with closing(sqlite3.connect(draft)) as connection:
            content = connection.serialize()
    path.parent.mkdir(parents=True, exist_ok=True)
    create_exclusive(path, content)


@contextmanager
def _silenced(*names: str) -> Iterator[None]:
    import mlflow  # noqa: F401  (the import sets levels of its own)

    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
