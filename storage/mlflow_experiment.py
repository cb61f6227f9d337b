"""One experiment of an MLflow store: finding, making and filling its runs.

A server is asked by several threads at once: of a call most is waiting, for the network and for
the server's own workers. A database is written by this process itself, one call after the other.
"""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from storage.filesystem import AnyPath, create_exclusive, open_input
from storage.mlflow_client import (
    MAX_BATCH,
    MAX_PARAM,
    MAX_PARAMS,
    MAX_TAG,
    MAX_TAGS,
    ONCE,
    UPLOAD,
    Point,
    Refused,
    environment,
    is_about_one_run,
)
from storage.parallel_calls import outcomes
from storage.tracking_uri import is_network_database, is_server, sqlite_file, with_driver

AT_ONCE = 8  # requests; MLflow's client keeps ten connections
_COPY_BYTES = 4 * 2**20


@dataclass
class StoredRun:
    """One of MLflow's runs, as it was found or made, and kept up with what was sent since."""

    run_id: str
    status: str
    end_time: int | None  # ms
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]  # latest values


class NewRun(NamedTuple):
    """A run to be made. `start_time` in ms."""

    name: str
    tags: Mapping[str, str]
    start_time: int


class Pulse:
    """For how long the store has been owing an answer."""

    def __init__(self) -> None:
        self._since: float | None = None

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around one call. Of several at once only the last to begin is timed."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def waiting_s(self) -> float:
        """Seconds since the call that has no answer yet; 0 when there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since


class Experiment:
    """One experiment of one store; made when it is not there.

    `artifacts` is the folder for a new experiment's artifacts when the store is a database. A
    server decides that by itself.

    Attributes:
        id: MLflow's.
        at_once: how many calls may be under way at a time.

    Raises:
        Refused: the experiment was deleted in MLflow.
    """

    def __init__(self, uri: str, name: str, artifacts: AnyPath, pulse: Pulse | None = None) -> None:
        from mlflow import MlflowClient

        database = sqlite_file(uri)
        if database is not None:
            _create_database(database)
            artifacts = database.parent / "mlartifacts"
        folder = artifacts.as_uri() if isinstance(artifacts, Path) else str(artifacts)
        self.at_once = AT_ONCE if is_server(uri) else 1
        self._pulse = pulse or Pulse()
        with self._pulse.asking():
            if is_network_database(uri):
                _connect_once(with_driver(uri))
            self._client = MlflowClient(tracking_uri=with_driver(uri))
            self.id = self._find_or_create(name, None if is_server(uri) else folder)

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

    def runs(self, tag: str, value: str) -> list[StoredRun]:
        """All runs of the experiment that carry this tag, a page a call."""
        query = f"tags.{tag} = '{value}'"
        found: list[StoredRun] = []
        token = None
        while True:
            with self._pulse.asking():
                page = self._client.search_runs(
                    [self.id], query, max_results=1000, order_by=["run_id"], page_token=token
                )
            found.extend(_stored(run) for run in page)
            token = page.token
            if not token:
                return found

    def create_runs(self, wanted: Sequence[NewRun]) -> list[StoredRun | Exception]:
        """Make runs; in the place of one that the store refused, why.

        Each is sent once only: a retry after a lost answer would make two.
        """
        made: dict[int, StoredRun | Exception] = {}
        places = range(len(wanted))
        create = outcomes(lambda place: self._create_run(wanted[place]), places, self.at_once)
        with environment(ONCE), closing(create):
            for place, run, error in create:
                if error is not None and not is_about_one_run(error):
                    raise error
                made[place] = run or error or Refused("no answer")
        return [made[place] for place in places]

    def _create_run(self, run: NewRun) -> StoredRun:
        with self._pulse.asking():
            made = self._client.create_run(
                self.id, start_time=run.start_time, tags=_cut_tags(run.tags), run_name=run.name
            )
        return _stored(made)

    def delete_run(self, run: StoredRun) -> None:
        with self._pulse.asking():
            self._client.delete_run(run.run_id)

    def log(
        self,
        run: StoredRun,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send points, and of params and tags what the run has not, in as few calls as the limits
        allow: params, then metrics, and tags at last, so that a tag which says how far metrics
        were sent is true whenever it is there."""
        from mlflow.entities import Metric, Param, RunTag

        new_params = {k: v[:MAX_PARAM] for k, v in (params or {}).items() if k not in run.params}
        new_tags = {k: v for k, v in _cut_tags(tags or {}).items() if run.tags.get(k, "") != v}
        metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in points]
        items = [Param(key, value) for key, value in new_params.items()]
        labels = [RunTag(key, value) for key, value in new_tags.items()]
        while len(items) > MAX_PARAMS:
            self._log_batch(run, params=items[:MAX_PARAMS])
            del items[:MAX_PARAMS]
        while len(metrics) + len(items) + min(len(labels), MAX_TAGS) > MAX_BATCH:
            room = MAX_BATCH - len(items)
            self._log_batch(run, metrics=metrics[:room], params=items)
            del metrics[:room]
            items.clear()
        first = labels[:MAX_TAGS]
        if metrics or items or first:
            self._log_batch(run, metrics=metrics, params=items, tags=first)
        for start in range(MAX_TAGS, len(labels), MAX_TAGS):
            self._log_batch(run, tags=labels[start : start + MAX_TAGS])
        run.params |= new_params
        run.tags |= new_tags
        run.metrics |= {point.key: point.value for point in points}

    def _log_batch(self, run: StoredRun, **content: Any) -> None:
        with self._pulse.asking():
            self._client.log_batch(run.run_id, **content)

    def set_status(self, run: StoredRun, status: str, end_time: int | None) -> None:
        """`end_time` (ms) belongs to a status that is an end; MLflow keeps an old one otherwise."""
        if run.status == status and end_time in (None, run.end_time):
            return
        with self._pulse.asking():
            if end_time is None:
                self._client.update_run(run.run_id, status=status)
            else:
                self._client.set_terminated(run.run_id, status=status, end_time=end_time)
        run.status, run.end_time = status, end_time or run.end_time

    def upload(self, run: StoredRun, path: AnyPath, folder: str | None) -> None:
        """Put a file beneath the run's artifacts; one of that name is replaced."""
        with environment(UPLOAD), tempfile.TemporaryDirectory() as drafts:
            if not isinstance(path, Path):
                draft = Path(drafts) / path.name
                with open_input(path) as source, draft.open("wb") as target:
                    shutil.copyfileobj(source, target, _COPY_BYTES)
                path = draft
            self._client.log_artifact(run.run_id, str(path), folder)


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        info.run_id,
        info.status,
        info.end_time,
        dict(data.tags),
        dict(data.params),
        dict(data.metrics),
    )


def _cut_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:MAX_TAG] for key, value in tags.items()}


def _connect_once(uri: str) -> None:
    """Raise what is wrong with a database at once: MLflow tries ten times, for 100 s, first."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    engine.connect().close()


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
