"""Tracking in PostgreSQL, behind a real server and directly; SQL says what has arrived."""

import logging
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import STEPS, make_run, metric_rows, start_trial, trial_record

from storage import tracking
from storage.checkpoints import write_checkpoint
from storage.filesystem import walk_files, write_atomic
from storage.runs import Run
from storage.tracking import Tracker, sync
from tests.tracking_servers import MlflowServer, PostgreSQL, wait_for

pytestmark = pytest.mark.cluster

TRIALS = 40
NOT_METRICS = {"study", "trial_id", "attempt", "epoch", "step", "written_at"}
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics", "experiments")


def held(postgresql: PostgreSQL, run: Run, database: str | None = None) -> list[tuple[Any, ...]]:
    """(trial_id, metric, epoch, value) of a run's children, a repeated one as often as it is."""
    return postgresql.query(
        "select t.value, m.key, m.step, m.value from metrics m join runs r using (run_uuid) "
        "join tags t using (run_uuid) join tags o using (run_uuid) where t.key = 'trial_id' and "
        f"o.key = 'run_uuid' and o.value = '{run.uuid}' and r.lifecycle_stage = 'active' "
        "order by 1, 2, 3, 4",
        database,
    )


def expected(run: Run) -> list[tuple[Any, ...]]:
    return sorted(
        (row["trial_id"], key, row["epoch"], row[key])
        for row in run.metrics.load().to_dict("records")
        for key in row.keys() - NOT_METRICS
    )


def runs_of(postgresql: PostgreSQL, run: Run, database: str | None = None) -> list[tuple[Any, ...]]:
    """(trial_id or None, status, how many) of a run's runs in MLflow."""
    return postgresql.query(
        "select t.value, r.status, count(*) from runs r join tags o using (run_uuid) "
        "left join tags t on t.run_uuid = r.run_uuid and t.key = 'trial_id' where "
        f"o.key = 'run_uuid' and o.value = '{run.uuid}' and r.lifecycle_stage = 'active' "
        "group by 1, 2 order by 1",
        database,
    )


def content(postgresql: PostgreSQL, database: str | None = None) -> list[Any]:
    return [
        postgresql.query(
            f"select count(*), md5(string_agg(x::text, '|' order by x::text)) from {table} x",
            database,
        )
        for table in TABLES
    ]


def check_complete(postgresql: PostgreSQL, run: Run, trials: int) -> None:
    assert held(postgresql, run) == expected(run)
    finished = [(f"{number:012x}", "FINISHED", 1) for number in range(trials)]
    assert runs_of(postgresql, run) == [*finished, (None, "FINISHED", 1)]


def test_a_server_and_the_database_itself_are_the_same_store_and_hold_each_value_once(
    tmp_path: Path, postgresql: PostgreSQL, server_on_postgresql: MlflowServer
) -> None:
    server_on_postgresql.start()
    run = make_run(tmp_path / "out", trials=TRIALS, store=False)
    first = sync(run, server_on_postgresql.uri, "postgresql")
    assert first.complete
    assert (first.trials, first.metrics_sent, first.artifacts) == (TRIALS, TRIALS * 4 * 3, 2)
    check_complete(postgresql, run, TRIALS)
    names = {path.name for path in (server_on_postgresql.folder / "artifacts").rglob("*")}
    assert {"study.yaml", "run.json"} <= names
    before = content(postgresql)
    for uri in (server_on_postgresql.uri, postgresql.uri):
        again = sync(run, uri, "postgresql")
        assert (again.complete, again.trials) == (True, TRIALS)
        assert (again.metrics_sent, again.artifacts) == (0, 0)
        assert again.parent_run_id == first.parent_run_id
    assert content(postgresql) == before


def test_credentials_of_a_database_show_nowhere(
    tmp_path: Path,
    postgresql: PostgreSQL,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    uri = postgresql.create_database("direct")
    run = make_run(tmp_path / "out", store=False)
    with caplog.at_level(logging.DEBUG):
        result = sync(run, uri)
        wrong = sync(run, uri.replace(postgresql.password, "not-the-password"))
        nowhere = sync(run, uri.replace(str(postgresql.port), "9"))
        nothing = sync(run, uri.removesuffix("direct") + "no-such-database")
        with Tracker(run, uri, every=0.01) as tracker:
            wait_for(lambda: tracker.result is not None)
    assert result.complete
    assert held(postgresql, run, "direct") == expected(run)
    assert list((tmp_path / "mlartifacts").rglob("run.json"))
    for broken in (wrong, nowhere, nothing):
        assert not broken.complete
        assert "\n" not in str(broken.warning)
    stored = [postgresql.query(f"select x::text from {table} x", "direct") for table in TABLES]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    texts = [result, wrong, nowhere, nothing, tracker.warning, tracker.result, stored, files,
             caplog.text, capfd.readouterr()]  # fmt: skip
    for secret in (postgresql.password, "not-the-password"):
        assert secret not in repr(texts)


def test_artifacts_of_a_remote_out_go_through_a_server_or_stay_beside_it(
    tmp_path: Path,
    bucket: str,
    postgresql: PostgreSQL,
    server_on_postgresql: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server_on_postgresql.start()
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(drafts))
    run = make_run(f"{bucket}/runs/out", trials=2, store=False)
    write_atomic(run.report_folder / "index.html", b"<p>report</p>")
    result = sync(run, server_on_postgresql.uri, "remote")
    assert (result.complete, result.trials, result.artifacts) == (True, 2, 3)
    artifacts = server_on_postgresql.folder / "artifacts" / str(result.experiment_id)
    kept = artifacts / str(result.parent_run_id) / "artifacts"
    assert (kept / "report" / "index.html").read_bytes() == b"<p>report</p>"
    assert (kept / "run.json").read_bytes() == (run.out / "run.json").read_bytes()
    assert list(drafts.iterdir()) == []
    again = sync(run, server_on_postgresql.uri, "remote")
    assert (again.complete, again.metrics_sent, again.artifacts) == (True, 0, 0)

    directly = sync(run, postgresql.create_database("remote"))
    assert (directly.complete, directly.artifacts) == (True, 3)
    beside = [str(path) for path, _ in walk_files(run.out.parent / "mlartifacts")]
    assert [path.rpartition("/")[2] for path in beside] == ["index.html", "run.json", "study.yaml"]
    assert not list(tmp_path.rglob("mlartifacts"))


def grow(run: Run, epochs: range) -> None:
    """Some epochs of three trials that run, checkpointed."""
    for number in range(3):
        trial_id = f"{number:012x}"
        if epochs.start == 1:
            start_trial(run, number, epochs)
        else:
            run.metrics.append(trial_id, "tiny", 1, metric_rows(number, epochs))
        write_checkpoint(run.checkpoint_folder(trial_id), STEPS * (epochs.stop - 1), 1, b"state")


FAULTS = ["server killed", "server hangs", "database stopped"]


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_amid_a_sweep_one_sync_makes_up_for_it_and_a_second_adds_nothing(
    tmp_path: Path, postgresql: PostgreSQL, server_on_postgresql: MlflowServer, fault: str
) -> None:
    server = server_on_postgresql
    server.start()
    run = make_run(tmp_path / "out", trials=0, store=False)
    strike, mend = {
        "server killed": (server.kill, server.start),
        "server hangs": (
            lambda: server.signal(signal.SIGSTOP),
            lambda: server.signal(signal.SIGCONT),
        ),
        "database stopped": (postgresql.stop, postgresql.start),
    }[fault]
    try:
        with Tracker(run, server.uri, "faults", every=0.05) as tracker:
            grow(run, range(1, 3))
            wait_for(lambda: len(held(postgresql, run)) == 3 * 2 * 3)
            strike()
            grow(run, range(3, 5))
            wait_for(lambda: tracker.warning is not None)
            grow(run, range(5, 7))
        assert not sync(run, server.uri, "faults").complete
    finally:
        mend()
    wait_for(server.answers)
    for number in range(3):
        run.write_record(trial_record(number, "completed", 6))
    assert sync(run, server.uri, "faults").complete
    check_complete(postgresql, run, 3)
    before = content(postgresql)
    again = sync(run, server.uri, "faults")
    assert (again.complete, again.trials, again.metrics_sent) == (True, 3, 0)
    assert content(postgresql) == before


def test_a_database_that_hangs_does_not_hold_a_sync(
    tmp_path: Path, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SILENCE_SECONDS", 1.0)
    uri = postgresql.create_database("hanging")
    run = make_run(tmp_path / "out", store=False)

    def hang_at_first(seen: int, of: int) -> None:
        if seen == 1:
            postgresql.suspend(signal.SIGSTOP)

    try:
        broken = sync(run, uri, progress=hang_at_first)
    finally:
        postgresql.suspend(signal.SIGCONT)
    assert not broken.complete
    assert "no answer within 1 s" in str(broken.warning)
    wait_for(lambda: not any(t.name == "mlflow-database" for t in threading.enumerate()))
    monkeypatch.undo()
    assert sync(run, uri).complete
    assert held(postgresql, run, "hanging") == expected(run)
    before = content(postgresql, "hanging")
    assert sync(run, uri).metrics_sent == 0
    assert content(postgresql, "hanging") == before
