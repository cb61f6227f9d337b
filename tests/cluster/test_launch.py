"""`toposweep launch`: what holds for every file, names, and one line for what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cluster.launching import TEMPLATES, LaunchedStudy, plain_name, trials_at_once
from storage.errors import InputError
from sweeps.cli import cli
from sweeps.launch_command import PLATFORMS
from tests.cluster.launched import OWN, Files

ROOT = Path(__file__).parents[2]
LABEL = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"  # what Kubernetes takes for a name


def test_every_platform_has_a_template_and_every_template_a_platform() -> None:
    assert list(TEMPLATES) == list(PLATFORMS)
    folder = {path.name for path in (ROOT / "cluster" / "launch").iterdir()}
    assert folder == {*TEMPLATES.values(), "Dockerfile"}


def test_three_lines_to_edit_are_marked_in_every_file(files: Files) -> None:
    for _, text in files:
        lines = text.splitlines()
        marks = [n for n, line in enumerate(lines) if re.match(r" *# EDIT \d of 3: ", line)]
        assert [lines[n].split("EDIT ")[1][:6] for n in marks] == ["1 of 3", "2 of 3", "3 of 3"]
        for mark in marks:  # what is edited is the next line that is no comment
            edited = next(line for line in lines[mark + 1 :]
                          if not re.match(r" *#(?!SBATCH)", line))  # fmt: skip
            assert edited.strip()


def test_files_are_short(files: Files) -> None:
    for _, text in files:
        assert len(text.splitlines()) < 130


def test_every_file_turns_token_authentication_on_and_holds_no_token(files: Files) -> None:
    for platform, text in files:
        assert "RAY_AUTH_MODE" in text
        assert not re.search(r"RAY_AUTH_TOKEN=|--auth|[0-9a-f]{32}", text)
        if platform != "slurm":
            for document in yaml.safe_load_all(text):
                assert "auth_token" not in str(document.get("data", ""))


def test_no_file_holds_the_credentials_of_its_environment(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hush-hush@mlflow.example")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hush-hush")
    assert all("hush-hush" not in text for _, text in files)


def test_a_server_of_mlflow_listens_on_loopback_only(files: Files) -> None:
    readme = (ROOT / "cluster" / "README.md").read_text()
    servers = [line for text in (readme, *(text for _, text in files))
               for line in text.splitlines() if re.search(r"mlflow (server|ui)", line)]  # fmt: skip
    assert servers
    assert all("--host 127.0.0.1" in line for line in servers)


# Names and numbers


@pytest.mark.parametrize(
    ("name", "plain"),
    [("quickstart", "quickstart"), ("a-1", "a-1"), ("1st", "s-1st-"), ("0", "s-0-"), ("a--", "a-"),
     ("My_Study.v2", "my-study-v2-"), ("x" * 100, "x" * 24 + "-"),
     ("A" * 23 + "..b", "a" * 23 + "-")],
)  # fmt: skip
def test_names_become_plain(name: str, plain: str) -> None:
    made = plain_name(name)
    assert made == plain or re.fullmatch(f"{plain}[0-9a-f]{{5}}", made)
    assert re.fullmatch(LABEL, made)
    assert len(made) <= 30


def test_names_that_would_fall_together_stay_apart() -> None:
    names = ["a_b", "a.b", "A-B", "a-b", "y" * 40, "y" * 41]
    assert len({plain_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("cpu", "gpu", "cpus", "gpus", "at_once"),
    [(1, 0, 16, 0, 16), (2, 0, 15, 4, 7), (0.1, 0, 1, 0, 10), (1, 1, 16, 4, 4), (1, 0.5, 16, 2, 4),
     (1, 0.4, 16, 2, 4), (1, 0.1, 16, 1, 10), (4, 0.25, 8, 1, 2), (1, 2, 16, 5, 2)],
)  # fmt: skip
def test_trials_at_once_on_a_node(
    cpu: float, gpu: float, cpus: int, gpus: int, at_once: int
) -> None:
    study = LaunchedStudy("s", "s", None, None, cpu, gpu, tracked=False)
    assert trials_at_once(study, cpus, gpus) == at_once


# Wrong input

WRONG = [
    ("slurm nope --nodes 1 --gpus-per-node 0", "nope: no such study file"),
    ("slurm quickstart --nodes 0 --gpus-per-node 0", "--nodes 0: is not allowed: at least 1"),
    ("slurm quickstart --nodes 1 --gpus-per-node -1", "--gpus-per-node -1: is not allowed"),
    ("slurm quickstart --nodes 1 --gpus-per-node 0 --cpus-per-node 0", "--cpus-per-node 0: is not"),
    (
        "slurm OWN --nodes 1 --gpus-per-node 0",
        "a trial takes 0.5 GPU (resources.gpu of My_Study.v2)",
    ),
    ("slurm OWN --nodes 1 --gpus-per-node 1 --cpus-per-node 1", "a trial takes 2 CPU"),
    ("slurm quickstart --nodes 1 --gpus-per-node 0 --out ftp://host/x", "ftp:// is not supported"),
    ("slurm quickstart --nodes 1 --gpus-per-node 0 --stay", "only for kuberay"),
    ("kuberay quickstart --nodes 1 --gpus-per-node 0", "--out: is missing: its machines share no"),
    (
        "kuberay quickstart --nodes 1 --gpus-per-node 0 --out runs/x",
        "runs/x: is not allowed: its machines",
    ),
    ("kuberay quickstart --nodes 1 --gpus-per-node 0 --out /mnt/x", "--out /mnt/x: is not allowed"),
    ("aws quickstart --nodes 1 --gpus-per-node 0 --out s3:///x", "s3://BUCKET/FOLDER"),
    (
        "aws quickstart --nodes 1 --gpus-per-node 0 --out s3://me:key@b/x",
        "credentials in an address",
    ),
    ("aws quickstart --nodes 1 --gpus-per-node 3 --out s3://b/x", "aws has machines of 0, 1, 4, 8"),
    (
        "gcp quickstart --nodes 1 --gpus-per-node 0 --cpus-per-node 999 --out gs://b/x",
        "at most 128",
    ),
    (
        "kuberay PASSWORD --nodes 1 --gpus-per-node 1 --out s3://b/x",
        "tracking.uri: holds a password",
    ),
    (
        "aws RELATIVE --nodes 1 --gpus-per-node 1 --out s3://b/x",
        "data.path: 'mnist' is not allowed",
    ),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_wrong_input_costs_one_line(words: str, said: str, own: Path, tmp_path: Path) -> None:
    (tmp_path / "password.yaml").write_text(
        OWN + "tracking: {uri: 'https://me:secret@mlflow.example'}\n"
    )
    relative = OWN.replace("{name: digits, validation: 0.1}", "{name: mnist, path: mnist}")
    (tmp_path / "relative.yaml").write_text(relative)
    studies = {
        "OWN": own,
        "PASSWORD": tmp_path / "password.yaml",
        "RELATIVE": tmp_path / "relative.yaml",
    }
    given = [str(studies.get(word, word)) for word in words.split()]
    result = CliRunner().invoke(cli, ["launch", *given])
    assert isinstance(result.exception, InputError)
    message = str(result.exception)
    assert said in message
    assert "\n" not in message
    assert "secret" not in message
    assert result.stdout == ""


def test_an_out_of_several_lines_cannot_break_out_of_its_place() -> None:
    words = ["launch", "slurm", "quickstart", "--nodes", "1", "--gpus-per-node", "0"]
    result = CliRunner().invoke(cli, [*words, "--out", "/x\ntouch /tmp/evil"])
    assert isinstance(result.exception, InputError)


def test_idle_gpus_cost_a_warning() -> None:
    words = ["launch", "slurm", "quickstart", "--nodes", "1", "--gpus-per-node", "2"]
    assert "asks for no GPU" in CliRunner().invoke(cli, words).stderr


def test_launching_loads_no_ray() -> None:
    code = (
        "import sys; from sweeps.cli import cli\n"
        "cli.main(['launch', 'slurm', 'quickstart', '--nodes', '1', '--gpus-per-node', '0'],"
        " standalone_mode=False)\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
