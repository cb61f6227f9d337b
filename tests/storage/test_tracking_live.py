"""Tracking while things go wrong around it: servers that die or hang, processes that meet."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tiny_runs import (
    STEPS,
    database,
    dump,
    make_run,
    query,
    runs_by_tag,
    sent_epochs,
    start_trial,
)

from storage.checkpoints import write_checkpoint
from storage.tracking import Tracker, sync
from tests.tracking_servers import MlflowServer, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    mlflow_server = MlflowServer(tmp_path_factory.mktemp("server"))
    yield mlflow_server
    mlflow_server.kill()


def test_a_server_down_for_the_whole_sweep_costs_a_warning_and_nothing_else(
    tmp_path: Path, server: MlflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.kill()
    run = make_run(tmp_path / "out")
    with Tracker(run, server.uri, every=0.01) as tracker:
        while tracker.warning is None:
            time.sleep(0.01)
    result = sync(run, server.uri)
    assert not result.complete
    assert "\n" not in str(result.warning)
    assert server.uri in str(result.warning)
    assert capfd.readouterr() == ("", "")
    server.start()
    later = sync(run, server.uri)
    assert later.complete
    expected = {f"{n:012x}": [1, 2, 3, 4] for n in range(3)}
    assert sent_epochs(run, path=server.database) == expected
    again = sync(run, server.uri)
    assert (again.complete, again.metrics_sent, again.artifacts) == (True, 0, 0)


def test_a_server_killed_amid_a_sync_is_completed_later_and_nothing_doubles(
    tmp_path: Path, server: MlflowServer
) -> None:
    server.start()
    run = make_run(tmp_path / "out", trials=12, epochs=6)

    def kill_soon(seen: int, of: int) -> None:
        if seen == 4:  # at an unknown point of a later trial
            threading.Timer(0.05, server.kill).start()

    broken = sync(run, server.uri, "killed", progress=kill_soon)
    assert not broken.complete
    assert 4 <= broken.trials < 12
    assert broken.warning
    while server.process is not None:
        time.sleep(0.01)
    server.start()
    assert sync(run, server.uri, "killed").complete
    before = dump(server.database)
    again = sync(run, server.uri, "killed")
    assert (again.complete, again.trials, again.metrics_sent) == (True, 12, 0)
    assert dump(server.database) == before
    assert runs_by_tag(server.database, "run_uuid")[run.uuid] == 13
    expected = {f"{n:012x}": [1, 2, 3, 4, 5, 6] for n in range(12)}
    assert sent_epochs(run, path=server.database) == expected


def test_a_server_that_hangs_amid_a_sync_does_not_hold_it_for_long(
    tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what a user sets is kept
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = make_run(tmp_path / "out", trials=4)
    broken = sync(run, server.uri, progress=lambda seen, of: server.signal(signal.SIGSTOP))
    assert not broken.complete
    assert broken.trials == 1
    server.signal(signal.SIGCONT)
    wait_for(server.answers)
    assert sync(run, server.uri).complete
    assert sync(run, server.uri).metrics_sent == 0
    assert runs_by_tag(server.database, "run_uuid")[run.uuid] == 5
    expected = {f"{n:012x}": [1, 2, 3, 4] for n in range(4)}
    assert sent_epochs(run, path=server.database) == expected


def test_artifacts_go_through_the_server(tmp_path: Path, server: MlflowServer) -> None:
    server.start()
    run = make_run(tmp_path / "out", trials=1)
    assert sync(run, server.uri, "artifacts").artifacts == 2
    names = {path.name for path in (server.folder / "artifacts").rglob("*")}
    assert {"study.yaml", "run.json"} <= names
    assert not (tmp_path / "mlartifacts").exists()


def test_credentials_reach_neither_out_nor_mlflow_nor_the_console(
    tmp_path: Path, server: MlflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.start()
    run = make_run(tmp_path / "out")
    uri = server.uri.replace("//", "//user:hushhush@")
    result = sync(run, uri, "secret")
    assert result.complete
    server.kill()
    broken = sync(run, uri, "secret")
    assert broken.warning
    assert "hushhush" not in f"{result} {broken}"
    assert "hushhush" not in "".join(capfd.readouterr())
    assert "hushhush" not in "".join(dump(server.database))
    for path in run.out.rglob("*"):
        assert path.is_dir() or b"hushhush" not in path.read_bytes()


def test_a_listener_that_never_answers_counts_as_down(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=1)
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        result = sync(run, f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert not result.complete
    assert "no answer within 2 s" in str(result.warning)


def test_something_else_than_mlflow_behind_the_address_is_a_warning(tmp_path: Path) -> None:
    import http.server

    run = make_run(tmp_path / "out", trials=1)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler
    ) as other:
        thread = threading.Thread(target=other.serve_forever, daemon=True)
        thread.start()
        result = sync(run, f"http://127.0.0.1:{other.server_address[1]}")
        other.shutdown()
    assert not result.complete
    assert "\n" not in str(result.warning)


def test_the_tracker_follows_a_sweep_and_leaves(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=1)
    with Tracker(run, every=0.05) as tracker:
        wait_for(lambda: tracker.result is not None and tracker.result.complete)
        record = start_trial(run, 1, range(1, 3))
        write_checkpoint(run.checkpoint_folder(record.trial_id), STEPS, 1, b"state")
        wait_for(lambda: sent_epochs(run).get(record.trial_id) == [1])
    assert tracker.warning is None
    assert not any(thread.name == "mlflow-tracker" for thread in threading.enumerate())
    finished = sync(run)
    assert finished.complete
    assert runs_by_tag(database(run), "trial_id") == {f"{n:012x}": 1 for n in range(2)}


def test_the_tracker_keeps_an_unreadable_out_to_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=1)
    (trial,) = (run.out / "trials").glob("*.json")
    content = trial.read_text()
    trial.write_text("{")
    with Tracker(run, every=0.05) as tracker:
        wait_for(lambda: tracker.warning is not None)
        assert trial.name in str(tracker.warning)
        trial.write_text(content)
        wait_for(lambda: tracker.warning is None)
    assert json.loads(content)["trial_id"] in runs_by_tag(database(run), "trial_id")


_SYNC = "import sys; from storage.runs import Run; from storage.tracking import sync; "


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
    )  # fmt: skip


def test_nothing_is_printed_and_no_tracking_state_of_the_process_changes(tmp_path: Path) -> None:
    make_run(tmp_path / "out", store=False)
    code = _SYNC + (
        "import os, logging; import storage; assert 'mlflow' not in sys.modules; "
        "result = sync(Run.open(sys.argv[1])); assert result.complete, result; "
        "assert not [key for key in os.environ if 'MLFLOW' in key]; "
        "import mlflow; assert not mlflow.is_tracking_uri_set(); assert not mlflow.active_run(); "
        "assert logging.getLogger('mlflow').level == logging.INFO; "
        "assert not logging.getLogger().handlers; "
        "assert not os.path.exists('mlflow.db') and not os.path.exists('mlruns')"
    )
    process = python(code, str(tmp_path / "out"))
    assert process.communicate() == ("", "")
    assert process.returncode == 0


def test_two_processes_may_meet_at_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    code = _SYNC + "print(sync(Run.open(sys.argv[1])).warning)"
    processes = [
        python(code, str(make_run(tmp_path / name, trials=1, store=False).out))
        for name in ("a", "b")
    ]
    assert [process.communicate() for process in processes] == [("None\n", "")] * 2
    assert sum(runs_by_tag(tmp_path / "mlflow.db", "run_uuid").values()) == 4
    assert query(
        tmp_path / "mlflow.db", "select count(*) from experiments where name = 'tiny'"
    ) == [(1,)]
