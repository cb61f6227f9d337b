"""Talking to MLflow: quietly, within bounded time, and so that doing it again adds nothing.

MLflow is imported inside the functions: it takes two seconds that most commands need not spend.
No global tracking state is changed; every call names its store.
"""

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from storage.tracking_uri import redacted

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
UPLOAD = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "120", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
ONCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}

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
        with environment(_QUIET | unset), _silenced("mlflow", "alembic", "urllib3"):
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
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables, within a conversation, and put them back."""
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
