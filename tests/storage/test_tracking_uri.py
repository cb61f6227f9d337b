"""Where MLflow is: a wrong address costs one line before anything starts; credentials stay out."""

from pathlib import Path

import pytest
from tiny_runs import database, make_run, query

from storage.errors import CorruptFile, InputError
from storage.tracking import Tracker, check_uri, redacted, resolve_uri, sync
from storage.tracking_uri import with_driver


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nonsense:/x", "unknown scheme 'nonsense'"),
        ("http://", "no host"),
        ("http://:5000", "no host"),
        ("http://host:port", "port"),
        ("http://host:99999", "port"),
        ("http://[::1", "port"),
        ("http://a host:5000", "blank"),
        ("./mlruns", "folders of files"),
        ("file:///tmp/mlruns", "folders of files"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql+nodriver://host/db", "nodriver"),
        ("databricks", "folders of files"),
    ],
)
def test_a_malformed_address_is_wrong_input_and_nothing_starts(
    tmp_path: Path, uri: str, said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        check_uri(uri)
    assert "\n" not in str(caught.value)
    run = make_run(tmp_path / "out", trials=1, store=False)
    with pytest.raises(InputError):
        sync(run, uri)
    with pytest.raises(InputError):
        Tracker(run, uri)
    assert not database(run).exists()


def test_a_file_that_is_no_database_is_wrong_input_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("some notes of mine")
    with pytest.raises(InputError, match="not a SQLite database"):
        check_uri(f"sqlite:///{path}")
    with pytest.raises(InputError, match="is a folder"):
        check_uri(f"sqlite:///{tmp_path}")
    assert path.read_text() == "some notes of mine"


def test_the_first_given_address_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "runs" / "out"
    assert resolve_uri(out) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert resolve_uri(out) == "http://environment"
    assert resolve_uri(out, study_uri="http://study") == "http://study"
    assert resolve_uri(out, "http://explicit", "http://study") == "http://explicit"
    assert resolve_uri(out, study_uri="http://***@study") == "http://environment"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InputError, match="credentials"):
        resolve_uri(out, study_uri="http://***@study")


@pytest.mark.parametrize("out", ["s3://bucket/runs/a", "gs://b/a", "abfs://b@account/a"])
def test_a_remote_out_needs_an_address(
    out: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"--tracking-uri.*tracking\.uri.*MLFLOW_TRACKING_URI"
    ) as e:
        resolve_uri(out)
    assert "\n" not in str(e.value)
    assert resolve_uri(out, study_uri="http://study") == "http://study"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/m.db")
    assert resolve_uri(out) == f"sqlite:///{tmp_path}/m.db"


def test_a_bare_postgresql_address_names_the_driver_that_is_installed() -> None:
    assert with_driver("postgresql://u:p@h/db?x=1") == "postgresql+psycopg2://u:p@h/db?x=1"
    for uri in ("postgresql+psycopg://h/db", "http://h", "sqlite:///postgresql://x"):
        assert with_driver(uri) == uri


def test_the_studys_store_and_experiment_are_used(tmp_path: Path) -> None:
    study = f"name: tiny\ntracking: {{uri: 'sqlite:///{tmp_path}/mine/m.db', experiment: Mine}}\n"
    run = make_run(tmp_path / "out", trials=1, study=study)
    result = sync(run)
    assert result.uri == f"sqlite:///{tmp_path}/mine/m.db"
    assert ("Mine",) in query(tmp_path / "mine" / "m.db", "select name from experiments")
    assert list((tmp_path / "mine" / "mlartifacts").rglob("study.yaml"))
    (run.out / "study.yaml").write_text("tracking: [\n")
    with pytest.raises(CorruptFile, match=r"study\.yaml"):
        sync(run)


def test_a_database_in_a_folder_with_odd_signs_is_quoted_or_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=1)
    odd = tmp_path / "50 % # mine"
    odd.mkdir()
    with pytest.raises(InputError, match=r"% or \?"):
        resolve_uri(odd / "out")
    quoted = f"sqlite:///{tmp_path}/50 %25 # mine/m.db"
    assert sync(run, quoted).complete
    assert sync(run, quoted).artifacts == 0
    assert query(odd / "m.db", "select count(*) from runs") == [(2,)]
    assert list((odd / "mlartifacts").rglob("run.json"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:secret@host:5000/x", "http://***@host:5000/x"),
        ("http://token@host", "http://***@host"),
        ("at https://u:p@ss/w@host/x failed", "at https://***@host/x failed"),
        (
            "postgresql+psycopg2://u:pw@h/db?password=pw2&x=1",
            "postgresql+psycopg2://***@h/db?password=***&x=1",
        ),
        (
            "tracking: {uri: 'mysql://a:b@c/d', experiment: 'x@y'}",
            "tracking: {uri: 'mysql://***@c/d', experiment: 'x@y'}",
        ),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_credentials_are_taken_out_and_nothing_else(text: str, expected: str) -> None:
    assert redacted(text) == expected
    assert redacted(expected) == expected


def test_a_bad_address_is_quoted_without_its_password() -> None:
    for uri in ("http://user:secret@host:port", "htp://user:secret@host", "http://user:sec/ret@h"):
        with pytest.raises(InputError) as caught:
            check_uri(uri)
        assert "ret" not in str(caught.value)
