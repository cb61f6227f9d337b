"""All that can be known to be wrong with a job before anything starts."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cluster import check_address, resolve_address
from storage.durations import Duration
from storage.errors import InputError
from storage.filesystem import AnyPath, Location, names_in, read_bytes, run_folder
from storage.records import flatten_config
from storage.runs import Run
from storage.schema import MASK_PAYLOAD, MASK_SCHEMA
from storage.selection import parse_steps, parse_where
from storage.tracking_uri import check_uri, resolve_uri
from sweeps.plan import PlannedTrial, plan_trials
from sweeps.study import Study
from sweeps.study_file import parse_study
from sweeps.training.config import parse_config
from sweeps.training.data import load_dataset
from sweeps.validation import cut, nearest
from topology.spec import DistanceSpec, check_residual

MASK_INDEX = frozenset(MASK_SCHEMA.names) - set(MASK_PAYLOAD)

# What an Optuna search must have in common with the one that OUT holds; all but num_samples.
_SAME = ("data", "model", "method", "optimizer", "epochs", "seed", "seeds", "space")


@dataclass(frozen=True)
class CheckedJob:
    """A study that can run: where, tracked by what, and its planned trials."""

    folder: AnyPath
    uri: str
    trials: list[PlannedTrial]


def check_job(
    study: Study, out: Location | None, address: str | None, tracking_uri: str | None
) -> CheckedJob:
    """Check a job whole; makes nothing.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    folder = run_folder(out if out is not None else Path("runs") / study.name)
    check_resources(study, address)
    try:
        check_address(address)
    except ValueError as error:
        raise InputError(f"--address {error}") from None
    uri = resolve_uri(folder, tracking_uri, study.tracking.uri)
    check_uri(uri)
    trials = plan_trials(study)
    check_out(study, folder, trials)
    check_distances(study, trials)
    return CheckedJob(folder, uri, trials)


def check_distances(study: Study, trials: Sequence[PlannedTrial]) -> None:
    """What the study's distances ask for can be there once its trials have run.

    Raises:
        InputError: a column that no trial will have, a step that no trial will reach, or a method
            that would match the neurons of a residual network.
    """
    if not trials:
        return  # an Optuna search: its trials are not known yet
    configured = {name for trial in trials for name in flatten_config(trial.described())}
    columns = configured | {*MASK_INDEX, "steps_per_epoch", "total_steps", "state"}
    for name, spec in study.distances.items():
        where = f"distances.{name}"
        unknown = parse_where(spec.where).names - columns if spec.where else ()
        for column in sorted(unknown):
            raise InputError(f"{where}.where: no trial has {cut(column)}{nearest(column, columns)}")
        asked = [("steps", item) for item in parse_steps(spec.steps).items]
        if spec.against is not None:
            asked += [("against", item) for item in parse_steps(spec.against).items]
        for key, item in asked:
            if isinstance(item, Duration) and not any(
                item.steps(t.steps_per_epoch) <= t.total_steps for t in trials
            ):
                longest = max(int(t.config["epochs"]) for t in trials)
                raise InputError(
                    f"{where}.{key}: {item} is not allowed: training lasts {longest}ep"
                )
        # What asks for more than the configuration is known once there are snapshots.
        if spec.where is None or parse_where(spec.where).names <= configured:
            _check_residual(where, spec, trials, configured)


def _check_residual(
    where: str, spec: DistanceSpec, trials: Sequence[PlannedTrial], columns: Iterable[str]
) -> None:
    """Refuse trials that `check_residual` would, as far as their configurations tell."""
    if spec.method == "in_place":
        return
    condition = parse_where(spec.where) if spec.where else None
    residual: dict[str, bool] = {}
    for trial in trials:
        model = f"{trial.config['data']['checksum']} {trial.config['model']}"
        if model not in residual:
            parsed = parse_config(trial.config)
            layers = parsed.layers(load_dataset(parsed.data, trial.data_path))
            residual[model] = any(layer.role == "residual" for layer in layers)
        row = {**dict.fromkeys(columns), **flatten_config(trial.described())}
        if residual[model] and (condition is None or condition(row)):
            try:
                check_residual(spec, f"trials with model {trial.config['model']['name']}")
            except InputError as error:
                raise InputError(f"{where}.{error}") from None


def check_resources(study: Study, address: str | None) -> None:
    """A GPU or CPUs that are not here cost one line, not a sweep that waits for ever."""
    if resolve_address(address).address is not None:
        return  # the cluster is asked once it is connected
    wanted = study.resources
    gpus = torch.cuda.device_count()
    if wanted.gpu > gpus:
        have = f"this machine has {gpus} CUDA device(s)" if gpus else "no CUDA device is here"
        raise InputError(f"resources.gpu: {wanted.gpu:g} is not allowed: {have}")
    cpus = os.cpu_count() or 1
    if wanted.cpu > cpus:
        raise InputError(f"resources.cpu: {wanted.cpu:g} is not allowed: {cpus} CPUs are here")


def check_out(study: Study, folder: AnyPath, trials: Sequence[PlannedTrial]) -> None:
    """OUT is new, or holds this very study, perhaps a smaller one.

    Raises:
        InputError: it holds another study, this one with other snapshots, or other files.
    """
    if (folder / "run.json").exists():
        _check_same(study, folder, trials)
    else:
        check_vacant(folder)


def check_vacant(folder: AnyPath) -> None:
    """OUT is new, or holds a run; else nothing of ours may be put beside what it holds.

    Raises:
        InputError: it holds other files.
    """
    if (folder / "run.json").exists():
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is not a folder")
    begun = {"lock", "study.yaml"}  # all that is there before run.json is
    strangers = [
        name for name in names_in(folder) if name not in begun and not name.startswith(".")
    ]
    if strangers:
        raise InputError(
            f"--out {folder}: holds {strangers[0]} but no run.json: "
            "give an empty folder or one that holds a run"
        )


def _check_same(study: Study, folder: AnyPath, trials: Sequence[PlannedTrial]) -> None:
    run = Run.open(folder)
    if run.study != study.name:
        raise InputError(
            f"--out {folder}: holds the study {run.study!r}, not {study.name!r}: "
            "give another folder"
        )
    stored = stored_study(run)
    if stored.snapshot_every != study.snapshot_every:
        raise InputError(
            f"snapshot_every: {study.snapshot_every} is not allowed: {folder} holds snapshots "
            f"every {stored.snapshot_every}; give another --out"
        )
    if study.search.algorithm == "optuna":
        _check_same_search(study, stored, folder)
        return
    planned = {trial.trial_id for trial in trials}
    for record in run.records().values():
        if record.trial_id not in planned:
            told = ", ".join(f"{k}={v}" for k, v in flatten_config(record.config).items()
                             if k in ("method_name", "method_density", "seed"))  # fmt: skip
            raise InputError(
                f"--out {folder}: holds trials that this study does not have, such as "
                f"{record.trial_id} ({told}): a study may only grow; give another folder"
            )


def _check_same_search(study: Study, stored: Study, folder: AnyPath) -> None:
    asked = study.search.model_dump(exclude={"num_samples"})
    same = {key: getattr(study, key) == getattr(stored, key) for key in _SAME}
    same["search"] = asked == stored.search.model_dump(exclude={"num_samples"})
    for key, equal in same.items():
        if not equal:
            raise InputError(
                f"{key}: differs from the search that --out {folder} holds: give another folder"
            )


def stored_study(run: Run) -> Study:
    """The study that a run was made of."""
    return parse_study(read_bytes(run.study_path).decode(), name=str(run.study_path))
