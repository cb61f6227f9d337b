"""From a study to resolved trials, each with the id that joins everything it leaves behind."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from storage.durations import parse_duration
from storage.errors import CorruptFile, InputError
from sweeps.sections import SECTIONS, check_section, settings_of
from sweeps.space import Grid
from sweeps.study import Study
from sweeps.training.compute import check_compute
from sweeps.training.config import check_training, steps_per_epoch
from sweeps.training.data import load_dataset
from sweeps.training.imports import reason_of
from sweeps.validation import shown

SEED_STREAMS = ("topology", "weights", "data")
_NONE = object()  # equals no value
MOST_TRIALS = 10_000  # of a study: planning them takes some seconds, Ray Tune holds them in memory


@dataclass(frozen=True)
class PlannedTrial:
    """One resolved trial. `config` is nested and complete, every default written out; `seed` is
    what its three seeds came from."""

    trial_id: str
    config: dict[str, Any]
    seed: int
    data_path: str | None
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.steps_per_epoch * int(self.config["epochs"])

    def described(self) -> dict[str, Any]:
        """The configuration as people read it: `seed`, and `seeds` only where they differ."""
        described = {key: value for key, value in self.config.items() if key != "seeds"}
        described["seed"] = self.seed
        if set(self.config["seeds"].values()) != {self.seed}:
            described["seeds"] = self.config["seeds"]
        return described


def plan_trials(study: Study) -> list[PlannedTrial]:
    """Every trial of a grid or random search, in order; equal configurations are one trial.

    An Optuna search suggests its trials as it goes: for it this checks the corners of the space
    and returns nothing.

    Raises:
        InputError: a combination that cannot be trained, named by its keys.
    """
    _check_size(study)
    if study.search.algorithm == "optuna":
        corner_trials(study)
        return []
    planned: dict[str, PlannedTrial] = {}
    for point in _points(study):
        trial = resolve(study, point)
        planned.setdefault(trial.trial_id, trial)
    return list(planned.values())


def corner_trials(study: Study) -> list[PlannedTrial]:
    """A trial at each corner of an Optuna search's space.

    Raises:
        InputError: one that cannot be trained.
    """
    return [resolve(study, corner) for corner in _corners(study)]


def resolve(study: Study, point: Mapping[str, Any]) -> PlannedTrial:
    """The trial at one point of the space: dotted keys set over the study's base.

    Raises:
        InputError: naming the key and, where the point set it, the point.
    """
    try:
        return _resolve(study, point)
    except CorruptFile:
        raise  # the data's fault, not the point's
    except InputError as error:
        varied = ", ".join(f"{key}={_short(value)}" for key, value in list(point.items())[:10])
        raise InputError(f"{error} (at {varied})" if varied else str(error)) from None
    except Exception as error:
        own = [name for names in study.own.values() for name in sorted(names)]
        if not own:
            raise
        raise InputError(f"{' or '.join(own)} failed: {reason_of(error)}") from error


def _resolve(study: Study, point: Mapping[str, Any]) -> PlannedTrial:
    sections: dict[str, dict[str, Any]] = {s: dict(getattr(study, s)) for s in SECTIONS}
    seeds: dict[str, Any] = {"seed": study.seed, **study.seeds.model_dump()}
    epochs = study.epochs
    for key, value in point.items():
        section, _, field = key.partition(".")
        if section in sections:
            sections[section][field] = value
        elif key == "epochs":
            epochs = _integer(key, value, low=1)
        elif key == "seed":
            seeds["seed"] = _integer(key, value)
        else:
            seeds[field] = None if value is None else _integer(key, value)

    settings = {
        section: check_section(section, values, study.own[section])
        for section, values in sections.items()
    }
    data_path = getattr(settings["data"], "path", None)
    dataset = load_dataset(settings["data"])
    config: dict[str, Any] = {section: part.resolved() for section, part in settings.items()}
    config["data"]["checksum"] = dataset.checksum
    config["epochs"] = epochs
    config["seeds"] = {
        stream: seeds["seed"] if seeds[stream] is None else seeds[stream] for stream in SEED_STREAMS
    }
    check_training(config, dataset)
    check_compute(study.resources.compute, config, dataset, study.resources.device)
    if config["optimizer"]["mixed_precision"] and not study.resources.gpu:
        raise InputError(
            "optimizer.mixed_precision: True is not allowed: it needs a CUDA device, "
            "and resources.gpu is 0"
        )
    if study.judge and config["data"]["validation"] == 0:
        raise InputError(
            f"data.validation: 0 is not allowed: {study.judge} judges by a validation split"
        )
    if study.scheduler.name == "asha" and study.scheduler.grace_period > epochs:
        raise InputError(
            f"scheduler.grace_period: {study.scheduler.grace_period} is not allowed: "
            f"training lasts {epochs} epochs"
        )
    trial = PlannedTrial(
        trial_id=trial_id(config),
        config=config,
        seed=seeds["seed"],
        data_path=data_path,
        steps_per_epoch=steps_per_epoch(config, dataset),
    )
    _check_durations(study, trial)
    return trial


def trial_id(config: Mapping[str, Any]) -> str:
    """12 hex digits of the SHA-256 of the canonical JSON of a resolved configuration.

    Fields at their default are left out, so that a new option never changes old ids.
    """
    identity: dict[str, Any] = {}
    for section in SECTIONS:
        part = config[section]
        fields = settings_of(section, part["name"]).model_fields
        identity[section] = {
            key: value
            for key, value in part.items()
            if key == "name" or key not in fields or value != _default(fields[key])
        }
    if config["epochs"] != Study.model_fields["epochs"].default:
        identity["epochs"] = config["epochs"]
    identity["seeds"] = {stream: s for stream, s in config["seeds"].items() if s != 0}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _default(field: FieldInfo) -> Any:
    if field.is_required():  # only a class of the user's own has such fields
        return _NONE
    return to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))


def _points(study: Study) -> Iterator[dict[str, Any]]:
    for number, grid in enumerate(study.grids()):
        if study.search.algorithm == "random" and grid.samplers:
            yield from grid.samples(study.search.num_samples, (study.search.seed, number))
        else:
            yield from grid.combinations()


def _check_size(study: Study) -> None:
    grids, search = study.grids(), study.search
    size, what = sum(grid.size(search.num_samples) for grid in grids), "combinations"
    if search.algorithm == "optuna":  # which combines as it goes
        size = sum(len(values) for grid in grids for values in _ends(grid).values())
        what = "values"
    if size > MOST_TRIALS:
        raise InputError(
            f"space: its {size} {what} are too many: at most {MOST_TRIALS} trials are allowed"
        )


def _ends(grid: Grid) -> dict[str, Sequence[Any]]:
    return {**grid.lists, **{key: sampler.ends() for key, sampler in grid.samplers.items()}}


def _short(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 40 else shown(value)


def _corners(study: Study) -> Iterator[dict[str, Any]]:
    """Each key at each of its ends, the others at their first value: enough to find a bad bound."""
    (grid,) = study.grids()
    ends = _ends(grid)
    first = {key: values[0] for key, values in ends.items()}
    yield first
    for key, values in ends.items():
        for value in values[1:]:
            yield {**first, key: value}


def _check_durations(study: Study, trial: PlannedTrial) -> None:
    # A default that is too long is nobody's mistake, since the first and the last are always kept;
    # nor is a checkpoint interval, since a trial ends with a checkpoint.
    if "snapshot_every" in study.model_fields_set:
        _check_duration("snapshot_every", study.snapshot_every, trial)
    update_every = trial.config["method"].get("update_every")
    if update_every is not None:
        _check_duration("method.update_every", update_every, trial)


def _check_duration(key: str, text: str, trial: PlannedTrial) -> None:
    if parse_duration(text).steps(trial.steps_per_epoch) > trial.total_steps:
        raise InputError(
            f"{key}: {text} is not allowed: training lasts {trial.config['epochs']}ep "
            f"({trial.total_steps}it)"
        )


def _integer(key: str, value: Any, low: int = 0) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value < 2**31 or int(value) != value:
        raise InputError(
            f"{key}: {shown(value)} is not allowed: a whole number from {low} to {2**31 - 1}"
        )
    return int(value)
