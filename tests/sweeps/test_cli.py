"""The command line: what it prints, and the codes that it ends with."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import Run, retrying
from sweeps.cli import main

Cli = Callable[..., tuple[int, str, str]]

STUDY = """
name: tiny
data: digits
model: {name: mlp, hidden: [12]}
method: {name: set, density: 0.3}
optimizer: {name: sgd, lr: 0.02, batch_size: 256}
epochs: 2
snapshot_every: 1ep
space: {seed: [0, 1], optimizer.lr: [0.02, 0.01]}
distances:
  final: {steps: last}
"""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the program: exit code, what it printed, what it complained."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["toposweep", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    """The folder of a finished run."""
    from sweeps import run_study
    from sweeps.study_file import parse_study

    out = tmp_path_factory.mktemp("cli") / "out"
    run_study(parse_study(STUDY), out)
    return out


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY)
    return path


def one_line(complaint: str) -> str:
    (line,) = complaint.strip().splitlines()
    return line


@pytest.mark.usefixtures("ray_here")
def test_run_does_the_whole_job_and_says_where_everything_is(
    cli: Cli, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, printed, complaint = cli("run", study, "--out", out, "--set", "epochs=1")
    assert (code, complaint) == (0, "")
    for part in ("4 completed", "masks", "metrics", "distances", "index.html", "mlflow ui"):
        assert part in printed
    assert (out / "report" / "index.html").is_file()
    assert (out / "distances" / "final" / "matrix.parquet").is_file()
    assert Run.open(out).record(next(iter(Run.open(out).records()))).config["epochs"] == 1


def test_dry_run_lists_the_trials_with_estimates_and_makes_nothing(
    cli: Cli, study: Path, tmp_path: Path
) -> None:
    code, printed, _ = cli("run", study, "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    for part in ("4 trials", "optimizer_lr", "seed", "training", "memory", "snapshots"):
        assert part in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("ray_here")
def test_a_failed_trial_gives_code_1_and_its_reason(cli: Cli, study: Path, tmp_path: Path) -> None:
    lrs = "space={optimizer.lr: [0.02, 1e30]}"
    code, printed, _ = cli("run", study, "--out", tmp_path / "out", "--set", lrs)
    assert code == 1
    assert "1 completed, 1 failed" in printed
    assert "loss is" in printed
    assert "--retry-failed" in printed
    code, printed, _ = cli("status", tmp_path / "out")
    assert code == 0
    assert "1 failed" in printed
    assert "loss is" in printed


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run", "nothing-of-the-kind"], "quickstart"),
        (["run", "quickstart", "--set", "method.densty=1"], "did you mean density?"),
        (["run", "quickstart", "--tracking-uri", "ftp://x"], "ftp"),
        (["run", "quickstart", "--set", "resources.gpu=64"], "resources.gpu"),
        (["run", "quickstart", "--out", "s3://bucket/x"], "s3://bucket/x"),
        (["run", "quickstart", "--address", "somewhere"], "HOST:PORT"),
        (["run", "quickstart", "--address", "127.0.0.1:9"], "127.0.0.1:9"),
        (["run", "quickstart", "--out", "/dev/null/x"], "/dev/null/x"),
        (["run", "quickstart", "--out", "x" * 300], "too long"),
        (["run", "y" * 300], "no such study file"),
        (["run", "quickstart", "--dry-run", "--set", "resources.gpu=64"], "resources.gpu"),
        (["resume", "nowhere"], "run.json"),
        (["status", "s3://bucket/x"], "s3://bucket/x"),
        (["status", "nowhere"], "run.json"),
        (["report", "nowhere"], "run.json"),
        (["sync", "nowhere"], "run.json"),
        (["verify", "nowhere"], "run.json"),
        (["studies", "nothing"], "quickstart"),
    ],
)
def test_wrong_input_costs_one_line_and_code_2(
    cli: Cli, words: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, complaint = cli(*words)
    assert (code, printed) == (2, "")
    assert one_line(complaint).startswith("error: ")
    assert part in complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--where", "method_name == 'rigl'"], "12 snapshots"),
        (["--where", "__import__('os').system('true')"], "where"),
        (["--where", "densty < 1"], "densty"),
        (["--steps", "77ep"], "77ep"),
        (["--steps", "sometimes"], "steps"),
        (["--against", "never"], "against"),
        (["--name", "../up"], "../up"),
    ],
)
def test_a_wrong_selection_costs_one_line_and_changes_nothing(
    cli: Cli, finished: Path, options: list[str], part: str
) -> None:
    before = {p: p.read_bytes() for p in (finished / "distances").rglob("*.*") if p.is_file()}
    code, _, complaint = cli("distances", finished, *options)
    assert code == 2
    assert part in one_line(complaint)
    after = {p: p.read_bytes() for p in (finished / "distances").rglob("*.*") if p.is_file()}
    assert after == before


@pytest.mark.usefixtures("ray_here")
def test_distances_with_options_make_another_matrix(cli: Cli, finished: Path) -> None:
    code, printed, _ = cli(
        "distances", finished, "--name", "low", "--method", "reference",
        "--steps", "0ep,1ep", "--where", "optimizer_lr < 0.015",
    )  # fmt: skip
    assert code == 0
    assert "4 snapshots, 6 pairs" in printed
    assert len(Run.open(finished).distances("low")) == 4


@pytest.mark.usefixtures("ray_here")
def test_distances_without_options_recompute_nothing(cli: Cli, finished: Path) -> None:
    code, printed, _ = cli("distances", finished)
    assert code == 0
    assert "0 computed now" in printed


def test_verify_names_a_damaged_file_and_distances_refuse_it_by_name(
    cli: Cli, study: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(finished, out)
    assert cli("verify", out)[0] == 0
    (part,) = (out / "masks" / "compact").glob("*.parquet")
    damaged = bytearray(part.read_bytes())
    damaged[len(damaged) // 3] ^= 255
    part.write_bytes(bytes(damaged))
    code, _, complaint = cli("verify", out)
    assert code == 1
    assert part.name in complaint
    (out / "distances" / "final" / "matrix.parquet").unlink()
    for tile in (out / "distances" / "final" / "tiles").iterdir():
        tile.unlink()
    code, _, complaint = cli("distances", out)
    assert code == 2
    assert part.name in one_line(complaint)


def test_report_sync_and_status_work_on_what_is_stored(cli: Cli, finished: Path) -> None:
    (finished / "report" / "index.html").unlink()
    assert cli("report", finished)[0] == 0
    assert (finished / "report" / "index.html").is_file()
    code, printed, _ = cli("sync", finished)
    assert code == 0
    assert "0 new metric values" in printed
    code, printed, _ = cli("status", finished)
    assert code == 0
    assert "4 completed" in printed


def test_sync_to_a_server_that_is_down_warns_with_code_0(cli: Cli, finished: Path) -> None:
    code, printed, complaint = cli("sync", finished, "--tracking-uri", "http://127.0.0.1:9")
    assert (code, printed) == (0, "")
    assert one_line(complaint).startswith("warning: ")


@pytest.mark.parametrize("command", ["resume", "verify", "sync", "report", "status"])
def test_storage_that_is_away_gives_code_1(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(retrying, "GIVE_UP_AFTER_S", 0.0)
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("REGION", "x"),
                        ("ENDPOINT_URL", "http://127.0.0.1:9")):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    code, _, complaint = cli(command, "s3://away/out")
    assert code == 1
    assert "s3://away/out/run.json" in one_line(complaint)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
def test_credentials_with_a_line_break_cost_one_line_that_does_not_show_them(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(retrying, "GIVE_UP_AFTER_S", 0.0)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.setenv(key, "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(name, "secret\n")
    code, _, complaint = cli("verify", f"s3://{name.lower().replace('_', '-')}/out")
    assert code == 2
    assert name in one_line(complaint)
    assert "secret" not in complaint


def test_studies_and_schema_are_printed(cli: Cli) -> None:
    assert "quickstart" in cli("studies")[1]
    assert "name: quickstart" in cli("studies", "quickstart")[1]
    assert "method" in json.loads(cli("schema")[1])["properties"]


@pytest.mark.usefixtures("ray_here")
def test_distances_say_that_there_are_groups_and_what_is_left_out(
    cli: Cli, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    space = "space={model.hidden: [[8], [6, 6]], seed: [0, 1]}"
    assert cli("run", study, "--out", out, "--set", space)[0] == 0
    assert "in 2 groups" in cli("distances", out)[1]
    space = "space=[{epochs: 2, seed: [0]}, {epochs: 1, seed: [1]}]"
    out = tmp_path / "lengths"
    assert cli("run", study, "--out", out, "--set", space)[0] == 0
    code, printed, _ = cli("distances", out, "--steps", "all", "--against", "2ep")
    assert code == 0
    assert "left out" in printed


def test_report_of_a_damaged_run_names_the_file_with_code_1(
    cli: Cli, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "damaged"
    shutil.copytree(finished, out)
    (part,) = (out / "metrics" / "compact").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-100])
    code, _, complaint = cli("report", out)
    assert code == 1
    assert part.name in complaint
