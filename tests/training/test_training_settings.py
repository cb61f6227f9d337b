"""What a study may say, and how the first thing wrong with it reads."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.errors import InputError
from sweeps.training import check_training, load_dataset, steps_per_epoch
from sweeps.training.data import DATASETS, DigitsSettings
from sweeps.training.methods import METHODS, SetSettings, StaticSettings
from sweeps.training.mnist import MnistSettings
from sweeps.training.models import MODELS
from sweeps.training.optimizers import OPTIMIZERS

Config = dict[str, Any]


def refusal(config: Config) -> str:
    with pytest.raises(InputError) as caught:
        check_training(config, load_dataset(DigitsSettings()))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "values", "expected"),
    [
        ("method", {"density": 0}, "method.density: 0 is not allowed: should be greater than 0"),
        ("method", {"density": 1.5}, "method.density: 1.5 is not allowed"),
        ("method", {"density": "0.1"}, "method.density: '0.1' is not allowed"),
        ("method", {"density": float("nan")}, "method.density: nan is not allowed"),
        ("method", {"drop_fraction": 1.0}, "method.drop_fraction: 1.0 is not allowed"),
        ("method", {"update_every": "often"}, "method.update_every: 'often' is no duration"),
        ("method", {"update_every": "0ep"}, "method.update_every: '0ep' is too short"),
        ("method", {"new_weights": "ones"}, "method.new_weights: 'ones' is not allowed"),
        ("method", {"distribution": "epsilon"}, "method: epsilon is missing"),
        ("method", {"densty": 0.1}, "method.densty: unknown key (did you mean density?)"),
        ("method", {"name": "sett"}, "method.name: 'sett' is not allowed (did you mean set?)"),
        ("method", {"density": 1e-4}, "method.density"),
        ("model", {"hidden": []}, "model.hidden: [] is not allowed"),
        ("model", {"hidden": [64, 0]}, "model.hidden.1: 0 is not allowed"),
        ("model", {"hidden": [64.5]}, "model.hidden.0: 64.5 is not allowed"),
        ("model", {"activation": "tanh"}, "model.activation: 'tanh' is not allowed"),
        ("optimizer", {"lr": 0}, "optimizer.lr: 0 is not allowed"),
        ("optimizer", {"lr": float("inf")}, "optimizer.lr: inf is not allowed"),
        ("optimizer", {"momentum": 1}, "optimizer.momentum: 1 is not allowed"),
        ("optimizer", {"batch_size": 5000}, "optimizer.batch_size: 5000 is not allowed: at most"),
        ("data", {"validation": 0.6}, "data.validation: 0.6 is not allowed"),
        ("data", {"validation": 1e-5}, "data.validation: 1e-05 is not allowed"),
        ("data", {"path": "x"}, "data.path: unknown key"),
        ("seeds", {"data": -1}, "seeds.data: -1 is not allowed"),
    ],
)
def test_a_wrong_value_costs_one_line_with_key_value_and_what_is_allowed(
    config_of: Callable[..., Config], part: str, values: dict[str, Any], expected: str
) -> None:
    assert refusal(config_of(**{part: values})).startswith(expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epochs": 0}, "epochs: 0 is not allowed"),
        ({"epoch": 3}, "epoch: unknown key"),
        ({"model": None}, "model: None is not allowed"),
    ],
)
def test_a_wrong_top_level_key_costs_one_line(
    config_of: Callable[..., Config], changes: Config, expected: str
) -> None:
    assert refusal({**config_of(), **changes}).startswith(expected)


def test_a_missing_part_is_named(config_of: Callable[..., Config]) -> None:
    config = config_of()
    del config["optimizer"]
    assert refusal(config).startswith("optimizer: is missing")


def test_resolved_settings_leave_out_what_is_not_used() -> None:
    by_density = SetSettings(density=0.05, epsilon=3.0).resolved()
    assert "epsilon" not in by_density
    assert by_density["density"] == 0.05
    by_epsilon = SetSettings(distribution="epsilon", epsilon=3.0).resolved()
    assert "density" not in by_epsilon
    assert by_epsilon["epsilon"] == 3.0
    assert "path" not in MnistSettings(path="somewhere").resolved()
    assert METHODS["dense"].Settings().resolved() == {"name": "dense"}


def test_static_has_all_that_set_has_but_the_update() -> None:
    assert set(SetSettings.model_fields) - set(StaticSettings.model_fields) == {
        "drop_fraction",
        "update_every",
        "new_weights",
    }


def test_resolved_settings_read_back_as_the_same_settings() -> None:
    for registry in (DATASETS, MODELS, METHODS, OPTIMIZERS):
        for entry in registry.values():
            settings = entry.Settings()
            assert entry.Settings(**settings.resolved()) == settings


def test_equal_durations_are_written_the_same() -> None:
    assert SetSettings(update_every="02ep").update_every == "2ep"


def test_published_defaults_stay() -> None:
    # Trial ids leave out fields at their default: another default would change their meaning.
    assert {
        name: entry.Settings().model_dump()
        for registry in (DATASETS, MODELS, METHODS, OPTIMIZERS)
        for name, entry in registry.items()
    } == {
        "digits": {"name": "digits", "validation": 0.1},
        "mnist": {"name": "mnist", "validation": 0.1, "path": None},
        "fashion_mnist": {"name": "fashion_mnist", "validation": 0.1, "path": None},
        "cifar10": {"name": "cifar10", "validation": 0.1, "augment": "none", "path": None},
        "teacher": {
            "name": "teacher", "samples": 10_000, "inputs": 64, "classes": 10,
            "teacher_hidden": [32], "teacher_density": 0.2, "label_noise": 0.0,
            "teacher_seed": 0, "validation": 0.1,
        },
        "mlp": {"name": "mlp", "hidden": [64, 64], "activation": "relu", "dropout": 0.0},
        "lenet": {"name": "lenet", "channels": [6, 16], "hidden": [120, 84], "dropout": 0.0},
        "vgg": {
            "name": "vgg",
            "channels": [64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool",
                         512, 512, 512, "pool", 512, 512, 512, "pool"],
            "batch_norm": True, "classifier": [512, 512], "dropout": 0.0,
        },
        "resnet": {"name": "resnet", "depth": 20, "width": 16, "dropout": 0.0},
        "dense": {"name": "dense"},
        "static": {
            "name": "static", "density": 0.1, "distribution": "erdos_renyi", "epsilon": None,
            "mask_output": False,
        },
        "set": {
            "name": "set", "density": 0.1, "distribution": "erdos_renyi", "epsilon": None,
            "mask_output": False, "drop_fraction": 0.3, "update_every": "1ep",
            "new_weights": "zero",
        },
        "sgd": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005,
                "batch_size": 64},
        "adam": {"name": "adam", "lr": 0.001, "weight_decay": 0.0, "batch_size": 64},
    }  # fmt: skip


def test_steps_per_epoch_counts_the_last_smaller_batch(config_of: Callable[..., Config]) -> None:
    dataset = load_dataset(DigitsSettings())
    n_train = len(dataset.y_train) - round(0.1 * len(dataset.y_train))
    assert n_train % 100
    assert steps_per_epoch(config_of(), dataset) == n_train // 100 + 1
