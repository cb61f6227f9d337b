"""A trial's resolved configuration: a plain nested dict, checked into settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from storage.errors import InputError
from sweeps.training.augmentation import augmentation
from sweeps.training.data import DATASETS, Dataset
from sweeps.training.learning_rates import LearningRates
from sweeps.training.methods import Length
from sweeps.training.models import MODELS, Layer
from sweeps.training.optimizers import OPTIMIZERS
from sweeps.training.registry import METHODS
from sweeps.training.settings import Settings, parse_settings
from sweeps.training.split import Split, split_samples
from sweeps.training.stopping import EarlyStopping
from sweeps.training.streams import Streams
from sweeps.validation import validated

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Seeds(Settings):
    """The seed of each stream."""

    topology: Seed = 0
    weights: Seed = 0
    data: Seed = 0


class _Rest(Settings):
    epochs: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class TrialConfig:
    """A configuration with its classes looked up and its values checked, part by part."""

    data: Settings
    checksum: str | None
    model_class: Any
    model: Any
    method: Any
    optimizer_class: Any
    optimizer: Any
    epochs: int
    streams: Streams

    def layers(self, dataset: Dataset) -> list[Layer]:
        layers: list[Layer] = self.model_class.layers(
            self.model, dataset.input_shape, dataset.n_classes
        )
        return layers


def parse_config(config: Mapping[str, Any]) -> TrialConfig:
    """Check a resolved configuration: data, model, method, optimizer, epochs, seeds.

    ``data`` may hold the checksum that the data set must have. Raises InputError naming the first
    key that is wrong, its value and what is allowed.
    """
    for key in config:
        if key not in ("data", "model", "method", "optimizer", "epochs", "seeds"):
            raise InputError(f"{key}: unknown key in a trial's configuration")
    for key in ("data", "model", "method", "optimizer", "epochs"):
        if key not in config:
            raise InputError(f"{key}: is missing in a trial's configuration")
    data = config["data"]
    checksum = None
    if isinstance(data, Mapping):
        checksum = data.get("checksum")
        data = {key: value for key, value in data.items() if key != "checksum"}
    _, data_settings = parse_settings("data", data, DATASETS)
    model_class, model = parse_settings("model", config["model"], MODELS)
    method_class, method = parse_settings("method", config["method"], METHODS)
    optimizer_class, optimizer = parse_settings("optimizer", config["optimizer"], OPTIMIZERS)
    rest = validated(_Rest, {"epochs": config["epochs"]})
    seeds = validated(Seeds, config.get("seeds", {}), "seeds")
    return TrialConfig(
        data=data_settings,
        checksum=checksum,
        model_class=model_class,
        model=model,
        method=method_class(method),
        optimizer_class=optimizer_class,
        optimizer=optimizer,
        epochs=rest.epochs,
        streams=Streams(**seeds.model_dump()),
    )


def split_of(trial: TrialConfig, dataset: Dataset) -> Split:
    """Which samples of the data set train, which validate, and how many make a step.

    Raises InputError as ``split_samples``, and where the model normalises over batches of which
    one would hold a single sample.
    """
    split = split_samples(
        len(dataset.y_train),
        getattr(trial.data, "validation", 0.0),
        trial.optimizer.batch_size,
        trial.streams,
    )
    last = len(split.train) % split.batch_size or split.batch_size
    if last == 1 and getattr(trial.model, "batch_norm", False):
        raise InputError(
            f"optimizer.batch_size: {split.batch_size} is not allowed: of {len(split.train)} "
            "samples it leaves a batch of one, over which batch norm cannot normalise"
        )
    return split


def check_training(config: Mapping[str, Any], dataset: Dataset) -> None:
    """Check a resolved configuration against its data set, without building anything.

    Raises InputError for all that ``Training`` would refuse, but the device: a value that is not
    allowed, a batch larger than the training samples, a density that leaves a layer without
    connections, a model that cannot take such inputs, a warm-up that takes all of the training,
    early stopping without a validation split.
    """
    trial = parse_config(config)
    split = split_of(trial, dataset)
    trial.method.counts(trial.layers(dataset))
    length = Length(trial.epochs, split.steps_per_epoch)
    trial.method.schedule(length)
    round_steps = trial.method.round_steps(length)
    LearningRates(trial.optimizer, split.steps_per_epoch, round_steps)
    EarlyStopping(trial.optimizer, len(split.validation), round_steps < length.steps)
    augmentation(trial.data, dataset.input_shape, trial.streams)


def steps_per_epoch(config: Mapping[str, Any], dataset: Dataset) -> int:
    """Optimiser steps of one epoch."""
    return split_of(parse_config(config), dataset).steps_per_epoch


def canonical_json(config: Mapping[str, Any]) -> str:
    """The configuration as one text that is equal for equal configurations."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)


def is_same(text: str, config: Mapping[str, Any]) -> bool:
    """Whether a stored ``canonical_json`` is of this configuration.

    What a configuration does not name is at its default: a text that an older version wrote, which
    knew fewer options, is still of the same one.
    """
    try:
        stored = json.loads(text)
        return _filled(stored) == _filled(config)
    except (ValueError, InputError):
        return False


def _filled(config: Mapping[str, Any]) -> tuple[Any, ...]:
    trial = parse_config(config)
    return (trial.data, trial.checksum, trial.model, trial.method.settings, trial.optimizer,
            trial.epochs, trial.streams)  # fmt: skip
