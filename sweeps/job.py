"""The whole job: sweep, compaction, distances, report, MLflow; each part rebuilt from OUT alone."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cluster import connect
from storage.distance_store import check_distance_name
from storage.errors import InputError
from storage.filesystem import local_folder, write_atomic
from storage.lock import RunLock
from storage.runs import Run
from storage.tracking import SyncResult, Tracker, check_uri, redacted, resolve_uri, sync
from sweeps.plan import PlannedTrial, plan_trials
from sweeps.progress import Progress
from sweeps.report import build_report
from sweeps.study import Study, check_study, load_study, parse_study, study_yaml
from sweeps.task import now, pending_record
from sweeps.validation import validated
from topology.pairwise import DistanceResult, DistanceSpec, run_distances
from topology.spec import compared_snapshots


@dataclass
class Outcome:
    """What a job left behind."""

    run: Run
    failed: list[str] = field(default_factory=list)  # trial_ids of this study, failed
    problems: list[str] = field(default_factory=list)  # parts that are missing: exit code 1
    warnings: list[str] = field(default_factory=list)  # what can be made good later
    tracking_uri: str = ""
    report: Path | None = None


def run_study(
    study: Study | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    address: str | None = None,
    tracking_uri: str | None = None,
    retry_failed: bool = False,
) -> Run:
    """Run a study as `toposweep run` does, and return the run.

    Args:
        study: a study, a mapping of its keys, a file, or the name of a built-in study.
        out: the run's folder; None: `runs/<study's name>`. A folder that holds the same study
            already gets only what is new or unfinished.
        address: a Ray cluster; None: Ray on this machine (or the one already initialised).
        tracking_uri: MLflow; see `storage.tracking.resolve_uri` for what None means.
        retry_failed: train again what failed before.

    Raises:
        InputError: the study or OUT is not what it must be; nothing has been started.
    """
    if isinstance(study, Mapping):
        study = check_study(dict(study))
    elif not isinstance(study, Study):
        study = load_study(study)
    return run_job(
        study, out, address=address, tracking_uri=tracking_uri, retry_failed=retry_failed
    ).run


def run_job(
    study: Study,
    out: str | Path | None = None,
    *,
    address: str | None = None,
    tracking_uri: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """`run_study` with progress, and with what the command line prints at the end."""
    progress = progress or Progress()
    folder = local_folder(out if out is not None else Path("runs") / study.name)
    check_resources(study, address)
    uri = resolve_uri(folder, tracking_uri, study.tracking.uri)
    check_uri(uri)
    trials = plan_trials(study)
    check_out(study, folder)

    with RunLock(folder, purpose="run") as lock:
        run = open_run(study, folder, trials, retry_failed)
        outcome = Outcome(run, tracking_uri=redacted(uri))
        todo = [t for t in trials if run.record(t.trial_id).state not in ("completed", "stopped",
                                                                         "failed")]  # fmt: skip
        with _connected(study, todo, address, progress):
            with Tracker(run, uri, study.tracking.experiment):
                _sweep(study, run, lock, todo, progress)
            _compact(run, lock, outcome)
            for name, spec in study.distances.items():
                try:
                    with progress.pairs(name) as on_pairs:
                        run_distances(run.out, name, spec, progress=on_pairs)
                except InputError as error:
                    outcome.problems.append(f"distances {name}: {error}")
        outcome.report = build_report(run)
        _sync(run, uri, study, outcome)
    outcome.failed = sorted(r.trial_id for r in run.records().values() if r.state == "failed")
    return outcome


def distances_job(
    out: str | Path,
    name: str | None,
    changes: Mapping[str, Any],
    *,
    address: str | None = None,
    progress: Progress | None = None,
) -> list[DistanceResult]:
    """Distances over the snapshots of a run: the study's named ones, or one of one's own.

    Args:
        out: the run's folder.
        name: whose; None: all of the study's, or `custom` where something is changed.
        changes: keys of `DistanceSpec` set over the study's spec of that name, or over the default.
        address: a Ray cluster; None: Ray on this machine.
        progress: where to show it.

    Raises:
        InputError: a wrong name or selection, nothing to compare, or a damaged mask file.
    """
    progress = progress or Progress()
    run = Run.open(out)
    specs = stored_study(run).distances
    if name is None and not changes:
        if not specs:
            raise InputError("the study names no distances: say which, such as --steps last")
        wanted = dict(specs)
    else:
        name = check_distance_name(name or "custom")
        base = specs.get(name, DistanceSpec()).model_dump()
        wanted = {name: validated(DistanceSpec, {**base, **changes}, f"distances.{name}")}
    for spec in wanted.values():  # what is wrong with a selection shows before Ray starts
        compared_snapshots(run.masks.index(), spec)
    done = []
    with RunLock(run.out, purpose="distances"), connect(address):
        for key, spec in wanted.items():
            with progress.pairs(key) as on_pairs:
                done.append(run_distances(run.out, key, spec, progress=on_pairs))
    return done


def sync_job(out: str | Path, tracking_uri: str | None) -> SyncResult:
    """Bring MLflow up to what OUT holds."""
    run = Run.open(out)
    tracking = stored_study(run).tracking
    uri = resolve_uri(run.out, tracking_uri, tracking.uri)
    with RunLock(run.out, purpose="sync"):
        return sync(run, uri, tracking.experiment)


def stored_study(run: Run) -> Study:
    """The study that a run was made of."""
    return parse_study(run.study_path.read_text("utf-8"), name=str(run.study_path))


def check_resources(study: Study, address: str | None) -> None:
    """A GPU or CPUs that are not here cost one line, not a sweep that waits for ever."""
    wanted = study.resources
    if address is not None:
        return
    gpus = torch.cuda.device_count()
    if wanted.gpu > gpus:
        have = f"this machine has {gpus} CUDA device(s)" if gpus else "no CUDA device is here"
        raise InputError(f"resources.gpu: {wanted.gpu:g} is not allowed: {have}")
    cpus = os.cpu_count() or 1
    if wanted.cpu > cpus:
        raise InputError(f"resources.cpu: {wanted.cpu:g} is not allowed: {cpus} CPUs are here")


def check_out(study: Study, folder: Path) -> None:
    """OUT is new, or holds this very study, perhaps a smaller one.

    Raises:
        InputError: it holds another study, or this one with other snapshots, or other files.
    """
    if not (folder / "run.json").exists():
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {folder}: is not a folder")
        begun = {"lock", "study.yaml"}  # all that is there before run.json is
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
        strangers = [name for name in names if name not in begun and not name.startswith(".")]
        if strangers:
            raise InputError(
                f"--out {folder}: holds {strangers[0]} but no run.json: "
                "give an empty folder or one that holds a run"
            )
        return
    run = Run.open(folder)
    if run.study != study.name:
        raise InputError(
            f"--out {folder}: holds the study {run.study!r}, not {study.name!r}: "
            "give another folder"
        )
    every = stored_study(run).snapshot_every
    if every != study.snapshot_every:
        raise InputError(
            f"snapshot_every: {study.snapshot_every} is not allowed: {folder} holds snapshots "
            f"every {every}; give another --out"
        )


def open_run(study: Study, folder: Path, trials: Sequence[PlannedTrial], retry_failed: bool) -> Run:
    """The run in `folder`, made or grown so that every planned trial has a record."""
    text = study_yaml(study)
    if (folder / "run.json").exists():
        run = Run.open(folder)
        write_atomic(run.study_path, text.encode())
    else:
        run = Run.create(folder, study.name, text, versions())
    records = run.records()
    for trial in trials:
        if trial.trial_id not in records:
            run.write_record(pending_record(study, trial))
    for record in records.values():
        died = record.state == "running"
        again = retry_failed and record.state == "failed"
        if died or again:
            run.write_record(
                replace(record, state="pending", reason=None, traceback=None, updated_at=now())
            )
    return run


def versions() -> dict[str, str]:
    """The versions that a run's results depend on."""
    names = ("toposweep", "ray", "torch", "numpy", "scipy", "pyarrow", "pandas", "mlflow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


@contextmanager
def _connected(
    study: Study, todo: Sequence[PlannedTrial], address: str | None, progress: Progress
) -> Iterator[None]:
    if not todo and study.search.algorithm != "optuna" and not study.distances:
        yield
        return
    progress.note("starting Ray" if address is None else f"connecting to {address}")
    with connect(address) as cluster:
        progress.note(cluster.describe())
        yield


def _sweep(
    study: Study, run: Run, lock: RunLock, todo: Sequence[PlannedTrial], progress: Progress
) -> None:
    from sweeps.runner import run_sweep

    with progress.sweep() as on_progress:
        run_sweep(study, run, lock, todo, on_progress)


def _compact(run: Run, lock: RunLock, outcome: Outcome) -> None:
    for store in (run.masks, run.metrics):
        outcome.problems += [str(bad) for bad in store.compact(lock).corrupt]


def _sync(run: Run, uri: str, study: Study, outcome: Outcome) -> None:
    try:
        result = sync(run, uri, study.tracking.experiment)
    except InputError as error:  # something in OUT is damaged
        outcome.problems.append(f"mlflow: {error}")
        return
    if result.warning:
        outcome.warnings.append(f"{result.warning}; later: toposweep sync {run.out}")
