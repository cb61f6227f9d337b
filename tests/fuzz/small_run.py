"""A run with one of everything in OUT, and everyone who reads it."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from storage import Run, load_distances
from storage.chance_store import expected_distances, load_chance
from storage.checkpoints import verify_checkpoints
from storage.distance_store import DistanceStore
from storage.distances import list_distances, verify_distances
from sweeps.checks import check_job, stored_study
from sweeps.job import open_run
from sweeps.plan import plan_trials
from sweeps.study import check_study
from sweeps.study_file import study_yaml
from sweeps.task import make_task, pending_record
from sweeps.training import load_model
from sweeps.trial import Trial, run_trial
from topology.pairwise import DistanceSpec, run_distances

STUDY = {
    "name": "small",
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [12, 9]},
    "method": {"name": "set", "density": 0.3},
    "optimizer": {"name": "sgd", "lr": 0.02, "batch_size": 256},
    "epochs": 2,
    "snapshot_every": "1ep",
    "checkpoint_every": "1ep",
    "space": {"method.name": ["static", "set"], "seed": [0, 1]},
}
SPECS = {
    "all": DistanceSpec(steps="all", chance=2),
    "moved": DistanceSpec(steps="last", against="first"),
}
Reader = Callable[[Path], Any]


def make_run(out: Path) -> None:
    """Two trials compacted, one in staged files, one that died after its first epoch."""
    study = check_study(STUDY)
    run = Run.create(out, study.name, study_yaml(study), {"toposweep": "0"})
    trials = plan_trials(study)
    for number, trial in enumerate(trials):
        record = pending_record(study, trial)
        task = make_task(study, run, trial)
        if number == len(trials) - 1:
            run.write_record(record)
            begun = Trial(task)
            begun.step()
            begun.close()
            continue
        run.write_record(record)
        row = run_trial(task)
        metrics = {k: v for k, v in row.items() if isinstance(v, float)}
        run.write_record(replace(record, state="completed", metrics=metrics))
        if number == 1:
            run.masks.compact()
            run.metrics.compact()
    for name, spec in SPECS.items():
        run_distances(out, name, spec, in_process=True)


def files_of(out: Path) -> dict[str, list[Path]]:
    """The files of OUT by kind; those of a kind can be taken for each other."""
    patterns = {
        "staged masks": "masks/staging/*/*.parquet", "mask part": "masks/compact/*.parquet",
        "mask manifest": "masks/manifest/*.json", "staged metrics": "metrics/staging/*/*.parquet",
        "metric part": "metrics/compact/*.parquet", "metric manifest": "metrics/manifest/*.json",
        "record": "trials/*.json", "claim": "attempts/*/*.json", "run": "run.json",
        "study": "study.yaml", "lock": "lock/*.json", "tile": "distances/*/tiles/*.parquet",
        "matrix": "distances/*/matrix.parquet", "labels": "distances/*/labels.parquet",
        "spec": "distances/*/spec.json", "chance": "distances/*/chance*.parquet",
        "checkpoint": "checkpoints/*/*.pt", "weights": "checkpoints/*/*.safetensors",
    }  # fmt: skip
    found = {kind: sorted(out.glob(pattern)) for kind, pattern in patterns.items()}
    assert all(found.values()), found
    return found


def _plain(value: Any) -> Any:
    """Something that can be compared, without what time changes."""
    if isinstance(value, pd.DataFrame):
        left = value.drop(columns=["written_at", "updated_at"], errors="ignore").reset_index()
        return {str(name): [str(v) for v in left[name]] for name in left.columns}
    return value


def _masks(found: dict[str, Any]) -> dict[str, Any]:
    return {name: np.packbits(mask.toarray()).tobytes().hex() for name, mask in found.items()}


def _records(out: Path) -> Any:
    run = Run.open(out)
    return [run.study, _plain(run.trials()), {k: r.total_steps for k, r in run.records().items()}]


def _load(out: Path) -> Any:
    masks = Run.open(out).masks
    keys = masks.index(with_config=False)[["trial_id", "step"]].drop_duplicates()
    several = masks.load_many(keys.itertuples(index=False, name=None))
    single = masks.load(str(keys["trial_id"].iloc[0]), int(keys["step"].iloc[0]))
    return [_plain(keys), _masks(single), *map(_masks, several)]


def _iter(out: Path) -> Any:
    where = "method_name == 'set' or nnz > 0"
    return [(t, s, _masks(m)) for t, s, m in Run.open(out).masks.iter(where)]


def _distances(out: Path) -> Any:
    listed = [replace(stored, path=Path()) for stored in list_distances(out)]
    loaded = []
    for name in SPECS:
        layers = DistanceStore(out, name).read_spec()["layers"]
        loaded += [_plain(load_distances(out, name, column)) for column in ("network", *layers)]
    return [str(listed), *loaded]


def _chance(out: Path) -> Any:
    return [_plain(load_chance(out, "all")), _plain(expected_distances(out, "all"))]


def _again(out: Path) -> Any:
    for name, spec in SPECS.items():
        run_distances(out, name, spec, in_process=True)
    return [_distances(out), _chance(out)]


def _compacted(out: Path) -> Any:
    run = Run.open(out)
    for store in (run.masks, run.metrics):
        for problem in store.compact().corrupt:
            raise problem
    return [_plain(run.masks.index()), _iter(out), _plain(run.metrics.load())]


def _resumed(out: Path) -> Any:
    study = stored_study(Run.open(out))
    job = check_job(study, out, None, None)
    run = open_run(study, job.folder, job.trials, retry_failed=False)
    for trial in job.trials:
        if run.record(trial.trial_id).state == "pending":
            run_trial(make_task(study, run, trial))
    index = run.masks.index(with_config=False).drop(columns=["attempt"])
    metrics = run.metrics.load()
    kept = metrics[[c for c in metrics if "seconds" not in c and c != "attempt"]]
    return [_plain(index), _iter(out), _plain(kept), _weights(out)]


def _weights(out: Path) -> Any:
    found = {}
    run = Run.open(out)
    for trial_id in sorted(run.records()):
        path = run.weights_path(trial_id)
        if path.exists() or path.is_symlink():
            state = load_model(path).state_dict()
            found[trial_id] = {
                name: tensor.numpy().tobytes().hex() for name, tensor in state.items()
            }
    return found


def verified(out: Path) -> list[str]:
    """What `toposweep verify` says."""
    run = Run.open(out)
    found = [*run.verify(), *verify_checkpoints(out), *verify_distances(out)]
    return [str(problem) for problem in found]


READERS: dict[str, Reader] = {
    "records": _records,
    "index": lambda out: _plain(Run.open(out).masks.index()),
    "load": _load,
    "iter": _iter,
    "metrics": lambda out: _plain(Run.open(out).metrics.load(with_config=True)),
    "distances": _distances,
    "chance": _chance,
    "weights": _weights,
    "verify": verified,
}
# These change OUT; each gets a copy of its own.
CHANGERS: dict[str, Reader] = {"compact": _compacted, "again": _again, "resume": _resumed}


def readings(out: Path, scratch: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """What everyone reads from OUT, as text; `scratch` is a folder for copies."""
    for name, reader in READERS.items():
        yield name, lambda reader=reader: json.dumps(reader(out), sort_keys=True)  # type: ignore[misc]
    for name, reader in CHANGERS.items():
        copy = scratch / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(out, copy, symlinks=True)
        yield name, lambda reader=reader, copy=copy: json.dumps(reader(copy), sort_keys=True)  # type: ignore[misc]
