"""`toposweep import`: what it prints, and every other command on what it has imported."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import yaml

from storage import InputError, Run
from storage.chance_store import load_chance
from storage.importers import import_networks, imported_id
from sweeps.cli import main
from sweeps.imported_study import settings_of_run
from sweeps.report_data import read_run
from sweeps.report_structure import structure_section
from sweeps.trial import run_trial

Cli = Callable[..., tuple[int, str, str]]


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


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """Three networks with two hidden layers, at two epochs each."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "nets"
    for name in ("a", "b", "c"):
        for epoch in (0, 20):
            place = folder / name / f"epoch_{epoch:03d}"
            place.mkdir(parents=True)
            for k, (n_in, n_out) in enumerate(((12, 10), (10, 9), (9, 4))):
                stored = scipy.sparse.random(n_in + 1, n_out, 0.3, rng=rng, format="csr")
                scipy.sparse.save_npz(place / f"weight_l{k}.npz", stored)
    return folder


@pytest.mark.usefixtures("ray_here")
def test_every_other_command_works_on_an_imported_run(cli: Cli, nets: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    code, printed, complaint = cli("import", nets / "a", nets / "b", "--out", out)
    assert (code, complaint) == (0, "")
    assert f"{imported_id('a')}  a: epochs 0, 20 new; 3 layers" in printed
    assert "4 snapshots imported, 0 there before" in printed
    code, printed, _ = cli("import", nets, "--out", out)
    assert (code, "2 snapshots imported, 4 there before" in printed) == (0, True)
    assert "a: nothing new, 2 there before" in printed

    code, printed, _ = cli("status", out)
    assert (code, "3 completed" in printed, "6 snapshots" in printed) == (0, True, True)
    assert "resume" not in printed
    assert "all good: 6 snapshots, 18 masks" in cli("verify", out)[1]

    code, _, complaint = cli("distances", out)
    assert (code, "say which, such as --steps last" in complaint) == (2, True)
    code, printed, _ = cli("distances", out, "--method", "reference", "--steps", "20ep")
    assert (code, "3 snapshots, 3 pairs" in printed) == (0, True)
    where = "imported_name in ['a', 'c']"
    code, printed, _ = cli("distances", out, "--name", "all", "--steps", "all", "--where", where)
    assert (code, "4 snapshots, 6 pairs" in printed) == (0, True)
    assert len(Run.open(out).distances("all")) == 4

    code, printed, _ = cli("distances", out, "--name", "all", "--steps", "all", "--chance", "2")
    n_levels = len(load_chance(out, "all"))
    assert (code, f"by chance  {2 * n_levels} pairs of random networks compared" in printed) == (
        0,
        True,
    )
    code, printed, _ = cli("distances", out, "--name", "all", "--steps", "all", "--chance", "2")
    assert (code, "by chance" in printed) == (0, False)  # nothing is computed twice

    assert cli("report", out)[0] == 0
    page = (out / "report" / "index.html").read_text()
    section = structure_section(read_run(Run.open(out)))
    assert section is not None
    assert section.tables[0].columns[:3] == ["network", "layer", "density"]
    assert "configuration" not in section.intro
    assert ">a</td>" in page
    assert "trained elsewhere" in page
    assert "Accuracy" not in page

    code, printed, complaint = cli("sync", out)
    assert (code, complaint) == (0, "")
    assert "3 trials, 3 new metric values" in printed
    assert "0 new metric values, 0 new artifacts" in cli("sync", out)[1]


def test_mlflow_names_the_networks(cli: Cli, nets: Path, tmp_path: Path) -> None:
    import mlflow

    out = tmp_path / "mine"
    import_networks([nets], out)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert cli("sync", out, "--tracking-uri", uri)[0] == 0
    mlflow.set_tracking_uri(uri)
    runs: Any = mlflow.search_runs(
        experiment_names=["mine"], filter_string="params.imported_name = 'b'"
    )
    assert list(runs["tags.trial_id"]) == [imported_id("b")]
    assert list(runs["tags.mlflow.runName"]) == [f"b · {imported_id('b')}"]
    assert 0 < runs["metrics.density"].iloc[0] < 1


def test_an_imported_run_cannot_be_trained(cli: Cli, nets: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    import_networks([nets], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for words in (
        ["resume", out],
        ["run", out / "study.yaml", "--out", out],
        ["run", "quickstart", "--out", out],
    ):
        code, printed, complaint = cli(*words)
        assert (code, printed) == (2, "")
        (line,) = complaint.strip().splitlines()
        assert "imported" in line or "holds the study 'mine'" in line
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("ray_here")
def test_distances_may_be_named_in_the_study_file_of_an_imported_run(
    cli: Cli, nets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    import_networks([nets], out)
    study = yaml.safe_load((out / "study.yaml").read_text())
    study["distances"] = {"first": {"steps": "0ep"}}
    (out / "study.yaml").write_text(yaml.safe_dump(study))
    code, printed, _ = cli("distances", out)
    assert (code, "first: 3 snapshots, 3 pairs" in printed) == (0, True)
    for wrong in ({"distances": {"no good": {}}}, {"epochs": 3}, {"distances": {"x": {"step": 1}}}):
        (out / "study.yaml").write_text(yaml.safe_dump({**study, **wrong}))
        with pytest.raises(InputError, match=r"study\.yaml"):
            settings_of_run(Run.open(out))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nowhere"], "nowhere"),
        (["nets", "--pattern", "{net}.pt"], "--pattern"),
        (["nets", "--layers", "fc"], "weight_l0"),
        (["nets", "--transpose"], "--pattern"),
        (["nets", "nets/a/epoch_000/weight_l0.npz"], "weight_l0.npz: holds one layer"),
    ],
)
def test_wrong_input_costs_one_line_and_code_2(
    cli: Cli, nets: Path, words: list[str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nets.parent)
    code, printed, complaint = cli("import", *words, "--out", "out")
    assert (code, printed) == (2, "")
    (line,) = complaint.strip().splitlines()
    assert line.startswith("error: ")
    assert part in line
    assert not (nets.parent / "out").exists()


def test_a_folder_of_other_files_is_left_alone(cli: Cli, nets: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    code, _, complaint = cli("import", nets, "--out", tmp_path / "home")
    assert (code, "letter.txt" in complaint) == (2, True)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_final_weights_of_our_own_trials_import_as_the_masks_that_they_had(
    small: Callable[..., Any], begin: Callable[..., Any], cli: Cli, tmp_path: Path
) -> None:
    # Not SET, which grows connections with the weight 0: some of them never learn.
    run, (task,) = begin(small(epochs=1, method={"name": "static", "density": 0.3}))
    run_trial(task)
    out = tmp_path / "imported"
    pattern = "{trial}/weights.safetensors"
    source = run.out / "checkpoints"
    assert cli("import", source, "--pattern", pattern, "--out", out)[0] == 0
    weights = run.weights_path(task.trial_id)
    assert "nothing new" in cli("import", weights, "--out", out)[1]  # the same by the folder's name
    step = int(run.masks.index()["step"].max())
    trained = run.masks.load(task.trial_id, step)
    found = Run.open(out).masks.load(imported_id(task.trial_id), 0)
    assert [mask.shape for mask in found.values()] == [mask.shape for mask in trained.values()]
    for ours, theirs in zip(found.values(), trained.values(), strict=True):
        np.testing.assert_array_equal(ours.toarray(), theirs.toarray())
