"""What a run knows of each trial: `OUT/trials/<trial_id>.json`."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from storage.errors import CorruptFile, InputError
from storage.filesystem import (
    AnyPath,
    Location,
    for_each,
    names_in,
    read_json,
    run_folder,
    write_json,
)
from storage.trial_ids import check_trial_id, is_trial_id

if TYPE_CHECKING:
    import pandas as pd

State = Literal["pending", "running", "completed", "stopped", "failed"]
ENDED = frozenset({"completed", "stopped", "failed"})


@dataclass
class TrialRecord:
    """A trial's configuration, how it stands, and how it ended.

    Attributes:
        trial_id: 12 hex digits.
        study: the study's name.
        config: the resolved configuration, nested.
        state: `stopped` is a scheduler's doing, `failed` the trial's own.
        steps_per_epoch: optimiser steps in an epoch.
        total_steps: optimiser steps in the whole training.
        reason: why it failed or was stopped, in one line.
        traceback: of the failure.
        metrics: those of the last epoch; what is not finite reads back as nan.
        updated_at: ISO 8601, UTC.
    """

    trial_id: str
    study: str
    config: dict[str, Any]
    state: State
    steps_per_epoch: int
    total_steps: int
    reason: str | None = None
    traceback: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    updated_at: str = ""


def write_record(out: Location, record: TrialRecord) -> None:
    """Commit a trial's record."""
    stored = asdict(record)
    stored["metrics"] = {
        name: value if math.isfinite(value) else None for name, value in record.metrics.items()
    }
    write_json(_path(out, record.trial_id), stored)


def read_record(out: Location, trial_id: str) -> TrialRecord:
    """A trial's record.

    Raises:
        InputError: the run has no such trial.
        CorruptFile: its record cannot be read.
    """
    path = _path(out, trial_id)
    try:
        stored = read_json(path)
    except FileNotFoundError:
        raise InputError(
            f"trial_id {trial_id}: {run_folder(out)} has no such trial, "
            f"it has {len(list_trials(out))}"
        ) from None
    return _parse(path, trial_id, stored)


def read_records(out: Location) -> dict[str, TrialRecord]:
    """All records of a run, by trial_id."""
    trial_ids = list_trials(out)
    found = for_each(lambda trial_id: read_record(out, trial_id), trial_ids, run_folder(out))
    return dict(zip(trial_ids, found, strict=True))


def flatten_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Nested keys joined by `_`; lists become JSON text.

    Example:
        >>> flatten_config({"method": {"name": "set", "density": 0.1}, "hidden": [64, 64]})
        {'method_name': 'set', 'method_density': 0.1, 'hidden': '[64, 64]'}

    Raises:
        InputError: two keys have the same flat name.
    """
    flat: dict[str, Any] = {}

    def add(prefix: str, part: Mapping[str, Any]) -> None:
        for key, value in part.items():
            name = f"{prefix}{key}"
            if isinstance(value, Mapping):
                add(f"{name}_", value)
            elif name in flat:
                raise InputError(f"configuration: two keys have the flat name {name}")
            else:
                flat[name] = json.dumps(value) if isinstance(value, list | tuple) else value

    add("", config)
    return flat


def config_table(out: Location, taken: set[str]) -> "pd.DataFrame":
    """One row per trial: trial_id, the flat configuration, steps_per_epoch, total_steps, state.

    Args:
        out: the run's folder.
        taken: column names of the table that this one will be joined to; a configuration key of
            the same name becomes `config_<name>`.
    """
    import pandas as pd

    rows = []
    for trial_id, record in read_records(out).items():
        flat = flatten_config(record.config)
        renamed = {f"config_{key}" if key in taken else key: flat[key] for key in flat}
        own = {
            "steps_per_epoch": record.steps_per_epoch,
            "total_steps": record.total_steps,
            "state": record.state,
        }
        rows.append({"trial_id": trial_id, **renamed, **own})
    if not rows:
        return pd.DataFrame({"trial_id": pd.Series(dtype="str")})
    return pd.DataFrame(rows, columns=merged_order(rows))


def merged_order(rows: Iterable[Iterable[str]]) -> list[str]:
    """All names, each after the one that it follows where it first appears.

    So a method's settings stand side by side although no trial has those of all methods.

    Example:
        >>> merged_order([["method_name", "seed"], ["method_name", "method_density", "seed"]])
        ['method_name', 'method_density', 'seed']
    """
    order: list[str] = []
    for names in dict.fromkeys(tuple(row) for row in rows):  # few differ
        place = 0
        for name in names:
            if name in order:
                place = order.index(name) + 1
            else:
                order.insert(place, name)
                place += 1
    return order


def _path(out: Location, trial_id: str) -> AnyPath:
    return run_folder(out) / "trials" / f"{check_trial_id(trial_id)}.json"


def list_trials(out: Location) -> list[str]:
    """The trials that have a record."""
    names = names_in(run_folder(out) / "trials")
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(stem for stem in stems if is_trial_id(stem))


def _parse(path: AnyPath, trial_id: str, stored: Any) -> TrialRecord:
    names = {f.name for f in fields(TrialRecord)}
    if not isinstance(stored, dict) or set(stored) != names:
        raise CorruptFile(path, "is no trial's record: its keys are others")
    if stored["trial_id"] != trial_id or stored["state"] not in get_args(State):
        raise CorruptFile(path, f"is no record of trial {trial_id}")
    if not isinstance(stored["config"], dict) or not isinstance(stored["metrics"], dict):
        raise CorruptFile(path, "is no trial's record: config and metrics must be mappings")
    try:
        stored["metrics"] = {
            name: math.nan if value is None else float(value)
            for name, value in stored["metrics"].items()
        }
    except (TypeError, ValueError):
        raise CorruptFile(path, "is no trial's record: a metric is no number") from None
    return TrialRecord(**stored)
