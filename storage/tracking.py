"""MLflow, written from Parquet: a projection of OUT that can be made again at any time.

A parent run for OUT, a nested child for every trial that has started, found by their tags
`run_uuid` and `trial_id`. What was sent stands in tags beside it, written after it: a sync that is
cut off is completed by the next one, and one with nothing new writes nothing. Runs that share both
tags (a request made again after its answer was lost) are reduced to one.

Values that are not finite are left out: MLflow would show NaN as 0 and infinity as 1.8e308.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from storage.errors import InputError
from storage.mlflow_client import IMPATIENT, PATIENT, Refused, conversation, one_line
from storage.mlflow_experiment import Experiment, Pulse
from storage.projection import Progress, Projection, SyncResult
from storage.runs import Run
from storage.tracking_memory import Memory
from storage.tracking_uri import (
    check_uri,
    default_uri,
    is_network_database,
    redacted,
    resolve_uri,
    study_tracking,
    why_silent,
)

__all__ = ["SyncResult", "Tracker", "check_uri", "default_uri", "redacted", "resolve_uri", "sync"]

SILENCE_SECONDS = 60.0  # a database that owes an answer for so long is away
POLL_SECONDS = 0.5


def sync(
    run: Run,
    uri: str | None = None,
    experiment: str | None = None,
    artifacts: bool = True,
    progress: Progress | None = None,
) -> SyncResult:
    """Bring MLflow up to date with OUT. The caller holds OUT's lock.

    Args:
        run: the run to project.
        uri: the store; by default the study's tracking.uri, MLFLOW_TRACKING_URI, or SQLite beside
            OUT, whichever is given first.
        experiment: by default the study's tracking.experiment, or else its name.
        artifacts: whether to upload the study file, matrices and report, too.
        progress: called with (trials seen to, trials with news) after each trial.

    A store that does not answer, or fails midway, is no error: the result says so.

    Raises:
        InputError: the address is malformed, or OUT itself cannot be read.
    """
    return _sync(Memory(run), uri, experiment, artifacts, progress, PATIENT, threading.Event())


class Tracker:
    """Keeps MLflow up to date while a sweep runs: `with Tracker(run): ...`.

    A daemon thread syncs everything but artifacts every `every` seconds, less often while that
    fails. It never raises into the sweep and never holds it up; leaving the block takes a few
    seconds at most. `result` is the last sync's, `warning` what went wrong in it, if anything.
    What it has read or sent once it keeps in mind: a look costs what has happened since the last.
    Call `sync` after the block for what the thread did not get to; that one looks at everything.

    Raises:
        InputError: the address is malformed (when made, before any thread runs).
    """

    LEAVE_SECONDS = 6.0  # more than one request of an impatient conversation
    RAREST_SECONDS = 300.0

    def __init__(
        self,
        run: Run,
        uri: str | None = None,
        experiment: str | None = None,
        every: float = 15.0,
    ) -> None:
        self.result: SyncResult | None = None
        self.warning: str | None = None
        self._memory, self._experiment, self._every = Memory(run), experiment, every
        self._uri = _address(run, uri)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow-tracker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join(self.LEAVE_SECONDS)

    def look(self) -> None:
        """One sync, of what is new since the last."""
        try:
            self.result = _sync(
                self._memory, self._uri, self._experiment, False, None, IMPATIENT, self._left
            )
            self.warning = self.result.warning
        except Exception as error:  # OUT cannot be read, say: for the sweep itself to tell
            self.warning = one_line(error)
        if self.warning is not None:
            self._memory.forget_mlflow()

    def _follow(self) -> None:
        delay = self._every
        while not self._left.wait(delay):
            start = time.monotonic()
            self.look()
            if self.warning is None:  # the first look at a large run takes seconds of the driver's
                delay = max(self._every, 10 * (time.monotonic() - start))
            else:
                delay = min(2 * delay, self.RAREST_SECONDS)


def _address(run: Run, uri: str | None) -> str:
    address = resolve_uri(run.out, uri, study_tracking(run.out).get("uri"))
    check_uri(address)
    return address


def _sync(
    memory: Memory,
    uri: str | None,
    experiment: str | None,
    artifacts: bool,
    progress: Progress | None,
    patience: Mapping[str, str],
    stop: threading.Event,
) -> SyncResult:
    run = memory.run
    address = _address(run, uri)
    name = experiment or study_tracking(run.out).get("experiment") or run.study
    result = SyncResult(redacted(address))
    pulse = Pulse()

    def send() -> None:
        with conversation(patience):
            store = Experiment(address, str(name), run.out.parent / "mlartifacts", pulse)
            Projection(memory, store, result, stop).send(artifacts, progress)

    try:
        silence = why_silent(address)
        if silence is not None:
            raise Refused(silence)
        if is_network_database(address):
            _within(send, pulse, stop)
        else:
            send()
    except InputError:
        raise
    except Exception as error:  # MLflow, requests and SQLAlchemy share no class of errors
        result = replace(result, complete=False)
        result.warning = f"MLflow at {result.uri} is not up to date: {one_line(error)}"
    return result


def _within(send: Callable[[], None], pulse: Pulse, stop: threading.Event) -> None:
    """Call `send`, but leave it to itself when the store keeps silent.

    A driver of a database waits without end for a server that has stopped or is cut off.
    """
    errors: list[Exception] = []

    def guarded() -> None:
        try:
            send()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, name="mlflow-database", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            if pulse.waiting_s() > SILENCE_SECONDS:
                raise Refused(f"no answer within {SILENCE_SECONDS:g} s")
    finally:
        if thread.is_alive():
            stop.set()  # should the answer come after all, it sends no more
    if errors:
        raise errors[0]
