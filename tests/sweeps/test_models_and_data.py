"""Studies of every model and data set: they plan, and what cannot be is refused before they run."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import InputError
from storage.filesystem import write_atomic
from storage.masks import LayerMask
from storage.records import TrialRecord
from storage.runs import Run
from sweeps import shipped_data
from sweeps.checks import check_distances
from sweeps.estimate import trial_costs
from sweeps.plan import plan_trials
from sweeps.report_data import read_run
from sweeps.report_structure import structure_section
from sweeps.sections import section_schema
from sweeps.shipped_data import data_folder, needed_data, ship_data
from sweeps.study import Study, check_study
from sweeps.training import load_dataset
from sweeps.training.cifar import BATCHES
from sweeps.training.config import parse_config
from tests.training.python_batches import batch_bytes, cifar_batches


def study(**changes: Any) -> Study:
    base = {
        "name": "tiny", "data": {"name": "digits"}, "model": {"name": "mlp", "hidden": [8]},
        "method": {"name": "set", "density": 0.5}, "epochs": 1,
    }  # fmt: skip
    return check_study({**base, **changes})


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar"
    folder.mkdir()
    for name, batch in cifar_batches().items():
        (folder / name).write_bytes(batch_bytes(*batch))
    return folder


def test_a_space_may_hold_every_model() -> None:
    trials = plan_trials(
        study(
            model={"name": "mlp", "dropout": 0.1},
            space=[
                {"model.name": ["mlp", "lenet"], "model.hidden": [[9, 8]]},
                {
                    "model.name": "vgg",
                    "model.channels": [[4, "pool"], [4, 4]],
                    "model.batch_norm": [True, False],
                },
                {"model.name": "resnet", "model.depth": [8, 14], "model.width": [2]},
            ],
        )
    )
    names = [trial.config["model"]["name"] for trial in trials]
    assert names == ["mlp", "lenet", *["vgg"] * 4, *["resnet"] * 2]
    assert all(trial.config["model"]["dropout"] == 0.1 for trial in trials)
    costs = trial_costs(study(), trials[:1])
    assert costs[trials[0].trial_id].memory > 0


def test_new_fields_at_their_defaults_change_no_id() -> None:
    plain, written = (
        plan_trials(study(model={"name": "mlp", "hidden": [8], **more}))[0].trial_id
        for more in ({}, {"dropout": 0.0})
    )
    assert plain == written
    other = plan_trials(study(model={"name": "mlp", "hidden": [8], "dropout": 0.2}))[0]
    assert other.trial_id != plain


def test_the_schema_has_what_every_model_calls_channels() -> None:
    channels = section_schema("model")["anyOf"][1]["properties"]["channels"]["anyOf"]
    assert [schema["default"][:3] for schema in channels] == [[6, 16], [64, 64, "pool"]]


RESIDUAL = {"name": "resnet", "depth": 8, "width": 2}


@pytest.mark.parametrize("method", ["layerwise", "reference", "joint"])
def test_distances_that_would_match_residual_networks_are_refused_before_training(
    method: str,
) -> None:
    planned = study(model=RESIDUAL, distances={"final": {"method": method}})
    with pytest.raises(InputError) as caught:
        check_distances(planned, plan_trials(planned))
    message = str(caught.value)
    assert message.startswith(f"distances.final.method: {method} cannot compare trials with model")
    assert "resnet" in message
    assert "in_place" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "spec",
    [
        {"method": "in_place"},
        {"where": "model_name != 'resnet'"},
        {"where": "model_name != 'resnet' and model_hidden != 3"},
        {"where": "role == 'hidden' and layer == 'hidden_1'"},  # for the stage to tell
    ],
)
def test_distances_that_leave_residual_networks_out_or_in_place_may_run(spec: dict) -> None:
    planned = study(
        distances={"final": spec},
        space=[{"model.name": "mlp"}, {"model.name": "resnet", "model.depth": 8}],
    )
    check_distances(planned, plan_trials(planned))


def test_data_sets_that_differ_in_settings_are_needed_each(tmp_path: Path) -> None:
    trials = plan_trials(
        study(
            data={"name": "teacher", "samples": 200},
            space={"data.teacher_seed": [0, 1], "data.validation": [0.1, 0.2], "seed": [0, 1]},
        )
    )
    needed = needed_data(trials)
    assert len(trials) == 8
    assert len(needed) == 2
    for data in needed:
        assert data.problem_here() is None
        assert data.files() == []
    other = needed[0].__class__("teacher", "0" * 16, None, needed[0].resolved)
    assert "its checksum there is" in str(other.problem_here())


def test_cifar10_is_shipped_whole_to_nodes_that_lack_it(
    cifar_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = study(
        data={"name": "cifar10", "path": str(cifar_folder), "augment": "set"},
        optimizer={"batch_size": 10},
        space={"data.augment": ["none", "set", "flip_crop"]},
    )
    trials = plan_trials(planned)
    assert len({trial.trial_id for trial in trials}) == 3
    assert all("path" not in trial.config["data"] for trial in trials)
    (needed,) = needed_data(trials)
    run = Run.create(tmp_path / "run", "tiny", "name: tiny\n", {})
    copied: list[Path] = []

    def killed(path: Path, content: bytes) -> None:
        if len(copied) == 2:
            raise SystemExit
        copied.append(path)
        write_atomic(path, content)

    with monkeypatch.context() as dying:
        dying.setattr(shipped_data, "write_atomic", killed)
        with pytest.raises(SystemExit):
            ship_data(run, [needed])
    assert data_folder(run, needed.checksum, str(cifar_folder)) == str(cifar_folder)
    size = sum(file.stat().st_size for file in needed.files())
    assert ship_data(run, [needed]) == size - sum(path.stat().st_size for path in copied)
    assert ship_data(run, [needed]) == 0
    for file in cifar_folder.iterdir():
        file.unlink()
    folder = data_folder(run, needed.checksum, str(cifar_folder))
    assert sorted(path.name for path in Path(folder or "").iterdir()) == sorted(BATCHES)
    dataset = load_dataset(parse_config(trials[0].config).data, folder)
    assert dataset.checksum == needed.checksum


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ({"name": "cifar10", "path": "/nowhere"}, ["data.path", "/nowhere"]),
        ({"name": "cifar10", "augment": "flip"}, ["data.augment", "flip"]),
        ({"name": "teacher", "samples": 3}, ["data.samples", "3"]),
        ({"name": "teacher", "samples": 10**8, "inputs": 10**5}, ["data", "samples x inputs"]),
        ({"name": "digits", "teacher_density": 2.0}, ["data.teacher_density", "2.0"]),
    ],
)
def test_data_that_cannot_be_cost_one_line(data: dict, parts: list) -> None:
    with pytest.raises(InputError) as caught:
        plan_trials(study(data=data))
    assert all(part in str(caught.value) for part in parts)
    assert "\n" not in str(caught.value)


def test_every_default_model_plans_on_data_that_fit_it(cifar_folder: Path) -> None:
    for model, method in itertools.product(["mlp", "lenet", "vgg", "resnet"], ["dense", "set"]):
        (trial,) = plan_trials(
            study(
                data={"name": "cifar10", "path": str(cifar_folder)}, model={"name": model},
                method={"name": method}, optimizer={"batch_size": 10},
            )
        )  # fmt: skip
        assert np.isfinite(trial.total_steps)


def test_reports_say_nothing_of_dead_neurons_that_a_shortcut_may_keep_alive(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "tiny", "name: tiny\n", {})
    for number, role in enumerate(("hidden", "residual")):
        trial_id = f"{number:012x}"
        inner = np.eye(4, dtype=bool)
        inner[0] = False  # its neuron has no input, but for a shortcut
        layers = [
            LayerMask("conv_1", np.ones((4, 3), dtype=bool), role),
            LayerMask("conv_2", inner, role),
            LayerMask("output", np.ones((2, 4), dtype=bool), "output"),
        ]
        run.masks.append(trial_id, "tiny", 0, 0, 1, layers)
        config = {"method": {"name": "static"}, "model": {"name": role}}
        run.write_record(TrialRecord(trial_id, "tiny", config, "completed", 10, 100))
    section = structure_section(read_run(run))
    assert section is not None
    (table,) = section.tables
    place = table.columns.index("dead neurons")
    shown = {row[0]: row[place] for row in table.rows if row[1] == "conv_2"}
    assert sorted(shown.values()) == ["25%", "–"]
