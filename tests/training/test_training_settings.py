"""What a study may say, and how the first thing wrong with it reads."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.errors import InputError
from sweeps.training import check_training, load_dataset, steps_per_epoch
from sweeps.training.data import DATASETS, DigitsSettings
from sweeps.training.evolving import SetSettings
from sweeps.training.methods import StaticSettings
from sweeps.training.mnist import MnistSettings
from sweeps.training.models import MODELS
from sweeps.training.optimizers import OPTIMIZERS
from sweeps.training.registry import METHODS

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
        ("optimizer", {"nesterov": 1}, "optimizer.nesterov: 1 is not allowed"),
        ("optimizer", {"clip_norm": 0}, "optimizer.clip_norm: 0 is not allowed"),
        ("optimizer", {"label_smoothing": 1}, "optimizer.label_smoothing: 1 is not allowed"),
        ("optimizer", {"mixed_precision": "yes"}, "optimizer.mixed_precision: 'yes' is not"),
        ("optimizer", {"patience": 0}, "optimizer.patience: 0 is not allowed"),
        ("optimizer", {"patience_metric": "test_loss"}, "optimizer.patience_metric: 'test_loss'"),
        ("optimizer", {"name": "adam", "beta1": 1.0}, "optimizer.beta1: 1.0 is not allowed"),
        ("optimizer", {"name": "adamww"}, "optimizer.name: 'adamww' is not allowed (did you mean"),
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
    assert OPTIMIZERS["sgd"].Settings().resolved() == {
        "name": "sgd", "lr": 0.05, "weight_decay": 0.0005, "batch_size": 64, "momentum": 0.9,
        "nesterov": False, "lr_schedule": "constant", "label_smoothing": 0.0,
        "mixed_precision": False,
    }  # fmt: skip
    assert "nesterov" not in OPTIMIZERS["sgd"].Settings(momentum=0.0).resolved()


def test_static_has_all_that_set_has_but_the_update() -> None:
    update = {"drop", "grow", "drop_fraction", "decay", "update_every", "update_until"}
    new = {"new_weights", "redistribute", "momentum"}
    assert set(SetSettings.model_fields) - set(StaticSettings.model_fields) == update | new


def test_resolved_settings_read_back_as_the_same_settings() -> None:
    for registry in (DATASETS, MODELS, METHODS, OPTIMIZERS):
        for entry in registry.values():
            settings = entry.Settings()
            assert entry.Settings(**settings.resolved()) == settings


def test_equal_durations_are_written_the_same() -> None:
    assert SetSettings(update_every="02ep").update_every == "2ep"


def test_published_defaults_stay() -> None:
    # Trial ids leave out fields at their default: another default would change their meaning.
    options = {
        "lr_schedule": "constant", "milestones": [0.5, 0.75], "gamma": 0.1, "final_fraction": 0.0,
        "peak_at": 0.3, "warmup": None, "clip_norm": None, "label_smoothing": 0.0,
        "mixed_precision": False, "patience": None, "patience_metric": "validation_loss",
    }  # fmt: skip
    sparse = {
        "density": 0.1, "distribution": "erdos_renyi", "epsilon": None, "densities": None,
        "mask_output": False, "first_weights": "fan_in",
    }  # fmt: skip
    evolving = {
        "drop": "by_sign", "grow": "random", "drop_fraction": 0.3, "decay": "constant",
        "update_every": "1ep", "update_until": 1.0, "new_weights": "zero", "redistribute": "none",
        "momentum": 0.9,
    }  # fmt: skip
    pruning = {"distribution": "uniform", "scope": "layer"}
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
        "static": {"name": "static", **sparse},
        "set": {"name": "set", **sparse, **evolving},
        "rigl": {"name": "rigl", **sparse, **evolving, "drop": "magnitude", "grow": "gradient",
                 "decay": "cosine", "update_every": "100it", "update_until": 0.75},
        "snfs": {"name": "snfs", **sparse, **evolving, "drop": "magnitude", "grow": "momentum",
                 "drop_fraction": 0.5, "decay": "cosine", "redistribute": "momentum"},
        "itop": {"name": "itop", **sparse, **evolving, "drop": "magnitude",
                 "drop_fraction": 0.5, "decay": "cosine", "update_every": "4ep"},
        "chain": {"name": "chain", **sparse, **evolving, "link": 0, "moved": 0.01},
        "gmp": {"name": "gmp", **sparse, **pruning, "update_every": "100it",
                "prune_from": 0.0, "update_until": 0.75},
        "lottery": {"name": "lottery", **sparse, **pruning, "rounds": 4, "rewind_to": "0it"},
        "snip": {"name": "snip", **sparse, "first_weights": "layer"},
        "random_pruned": {"name": "random_pruned", **sparse, "first_weights": "layer"},
        "sgd": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005,
                "batch_size": 64, "nesterov": False, **options},
        "adam": {"name": "adam", "lr": 0.001, "weight_decay": 0.0, "batch_size": 64,
                 "beta1": 0.9, "beta2": 0.999, **options},
        "adamw": {"name": "adamw", "lr": 0.001, "weight_decay": 0.01, "batch_size": 64,
                  "beta1": 0.9, "beta2": 0.999, **options},
    }  # fmt: skip


def test_steps_per_epoch_counts_the_last_smaller_batch(config_of: Callable[..., Config]) -> None:
    dataset = load_dataset(DigitsSettings())
    n_train = len(dataset.y_train) - round(0.1 * len(dataset.y_train))
    assert n_train % 100
    assert steps_per_epoch(config_of(), dataset) == n_train // 100 + 1
