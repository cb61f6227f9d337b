"""The whole job: sweep, compaction, distances, report, MLflow; each part rebuilt from OUT alone."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cluster import ClusterFailed, resolve_address
from storage.distance_store import check_distance_name
from storage.errors import InputError
from storage.filesystem import AnyPath, Location, write_atomic
from storage.lock import TAKEN_OVER, RunLock, outwait
from storage.retrying import checking
from storage.runs import Run
from storage.tracking import SyncResult, Tracker, redacted, resolve_uri, sync
from sweeps.checks import check_job, check_out
from sweeps.connection import reached
from sweeps.imported_study import settings_of_run
from sweeps.leaving import LeaveRequest, leaving
from sweeps.own_code import own_code_lines
from sweeps.plan import PlannedTrial
from sweeps.preflight import check_distances_stage, check_sweep
from sweeps.progress import Progress
from sweeps.remote import STUDY_FILE, option_words, run_remotely
from sweeps.report import build_report
from sweeps.study import Study, check_study
from sweeps.study_file import load_study, study_yaml
from sweeps.task import drop_checkpoints, now, pending_record
from sweeps.validation import validated
from topology.pairwise import DistanceResult, DistanceSpec, run_distances
from topology.spec import compared_snapshots, index_for


@dataclass
class Outcome:
    """What a job left behind."""

    run: Run
    failed: list[str] = field(default_factory=list)  # trial_ids
    problems: list[str] = field(default_factory=list)  # parts that are missing: exit code 1
    warnings: list[str] = field(default_factory=list)  # what can be made good later
    tracking_uri: str = ""
    report: AnyPath | None = None
    damaged: bool = False  # whether files of OUT are not what was written: `sweeps.repair`


def run_study(
    study: Study | Mapping[str, Any] | str | Path,
    out: Location | None = None,
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
        address: a Ray cluster; None: Ray on this machine (or the one already initialised). With
            ray:// the cluster's head runs the study, and `out` is a URI or a path there and here.
        tracking_uri: MLflow; see `storage.tracking.resolve_uri` for what None means.
        retry_failed: train again what failed before.

    Raises:
        InputError: the study or OUT is not what it must be; nothing has been started.
    """
    if isinstance(study, Mapping):
        study = check_study(dict(study))
    elif not isinstance(study, Study):
        study = load_study(study)
    if resolve_address(address).is_client:
        return _run_study_remotely(study, out, address, tracking_uri, retry_failed)
    return run_job(
        study, out, address=address, tracking_uri=tracking_uri, retry_failed=retry_failed
    ).run


def _run_study_remotely(
    study: Study, out: Any, address: str | None, tracking_uri: str | None, retry_failed: bool
) -> Run:
    options = {"out": out, "tracking_uri": tracking_uri, "retry_failed": retry_failed}
    words = ["run", STUDY_FILE, *option_words(**options)]
    code = run_remotely(address, words, None if out is None else str(out), study)
    if code not in (0, 1):
        raise InputError(f"--address {address}: the run on the head ended with code {code}")
    return Run.open(out)


def run_job(
    study: Study,
    out: Location | None = None,
    *,
    address: str | None = None,
    tracking_uri: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    request: LeaveRequest | None = None,
) -> Outcome:
    """`run_study` with progress, and with what the command line prints at the end.

    Raises:
        OSError: OUT cannot be written or read. What is committed stays, and the same call goes on.
        ClusterFailed: the cluster could not do it; as above.
        Leave: SIGTERM, or a cluster that has gone; as above. See `sweeps.leaving`.
    """
    if request is None:
        with leaving() as request:
            return run_job(
                study, out, address=address, tracking_uri=tracking_uri, retry_failed=retry_failed,
                progress=progress, request=request,
            )  # fmt: skip
    progress = progress or Progress()
    for line in own_code_lines(study):
        progress.note(line)
    job = check_job(study, out, address, tracking_uri)
    request.begun = (job.folder / "run.json").exists()
    outwait(job.folder, progress.note)
    with RunLock(job.folder, purpose="run") as lock, checking(lock.check):
        # Nothing that the other one does wakes a driver that waits for a trial of its own.
        lock.on_lost = lambda: request.lose(f"{job.folder}: {TAKEN_OVER}")
        check_out(study, job.folder, job.trials)  # once more: now nobody else changes it
        run = open_run(study, job.folder, job.trials, retry_failed)
        request.begun = True
        outcome = Outcome(run, tracking_uri=redacted(job.uri))
        todo = [t for t in job.trials if run.record(t.trial_id).state == "pending"]
        with _connected(study, run, todo, address, progress, request):
            with Tracker(run, job.uri, study.tracking.experiment):
                outcome.warnings += _sweep(study, run, lock, todo, progress, request)
            _compact(run, lock, outcome)
            for name, spec in study.distances.items():
                try:
                    with progress.pairs(name) as on_pairs:
                        run_distances(run.out, name, spec, progress=on_pairs, check=lock.check)
                except (InputError, ClusterFailed) as error:
                    lock.check()
                    outcome.problems.append(f"distances {name}: {error}")
        lock.check()
        outcome.report = build_report(run)
        lock.check()
        _sync(run, job.uri, study, outcome)
        lock.check()  # what stands there now may be another driver's
    outcome.failed = sorted(r.trial_id for r in run.records().values() if r.state == "failed")
    return outcome


def distances_job(
    out: Location,
    name: str | None,
    changes: Mapping[str, Any],
    *,
    address: str | None = None,
    progress: Progress | None = None,
    request: LeaveRequest | None = None,
) -> list[DistanceResult]:
    """Distances over the snapshots of a run: the study's named ones, or one of one's own.

    Args:
        out: the run's folder.
        name: whose; None: all of the study's, or `custom` where more is changed than `chance`.
        changes: keys of `DistanceSpec` set over the study's spec of that name, or over the default.
        address: a Ray cluster; None: Ray on this machine.
        progress: where to show it.
        request: see `sweeps.leaving`; None: one is made.

    Raises:
        InputError: a wrong name or selection, nothing to compare, or a damaged mask file.
        OSError, ClusterFailed, Leave: as `run_job`; tiles that are done stay.
    """
    if request is None:
        with leaving() as request:
            return distances_job(
                out, name, changes, address=address, progress=progress, request=request
            )
    progress = progress or Progress()
    run = Run.open(out)
    request.begun = True
    specs = settings_of_run(run).distances
    if name is None and not set(changes) - {"chance"}:  # which is no selection
        if not specs:
            raise InputError("the study names no distances: say which, such as --steps last")
        wanted = {
            key: validated(DistanceSpec, {**spec.model_dump(), **changes}, f"distances.{key}")
            for key, spec in specs.items()
        }
    else:
        name = check_distance_name(name or "custom")
        base = specs.get(name, DistanceSpec()).model_dump()
        wanted = {name: validated(DistanceSpec, {**base, **changes}, f"distances.{name}")}
    for spec in wanted.values():  # what is wrong with a selection shows before Ray starts
        compared_snapshots(index_for(run.masks, spec), spec)
    done = []
    with (
        RunLock(run.out, purpose="distances") as lock,
        reached(address, request=request) as cluster,
    ):
        if request is not None:
            lock.on_lost = lambda: request.lose(f"{run.out}: {TAKEN_OVER}")
        check_distances_stage(cluster, run)
        for key, spec in wanted.items():
            with progress.pairs(key) as on_pairs:
                done.append(run_distances(run.out, key, spec, progress=on_pairs, check=lock.check))
    return done


def sync_job(out: Location, tracking_uri: str | None) -> SyncResult:
    """Bring MLflow up to what OUT holds."""
    run = Run.open(out)
    tracking = settings_of_run(run).tracking
    uri = resolve_uri(run.out, tracking_uri, tracking.uri)
    with RunLock(run.out, purpose="sync"):
        return sync(run, uri, tracking.experiment)


def open_run(
    study: Study, folder: AnyPath, trials: Sequence[PlannedTrial], retry_failed: bool
) -> Run:
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
        if record.state == "completed":
            drop_checkpoints(run, record.trial_id)  # the driver may have died before it could
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
    study: Study,
    run: Run,
    todo: Sequence[PlannedTrial],
    address: str | None,
    progress: Progress,
    request: LeaveRequest,
) -> Iterator[None]:
    if not todo and study.search.algorithm != "optuna" and not study.distances:
        yield
        return
    with reached(address, progress, request, study.imports) as cluster:
        check_sweep(cluster, study, run, todo, progress)
        yield


def _sweep(
    study: Study,
    run: Run,
    lock: RunLock,
    todo: Sequence[PlannedTrial],
    progress: Progress,
    request: LeaveRequest,
) -> list[str]:
    from sweeps.runner import run_sweep

    with progress.sweep() as on_progress:
        return run_sweep(study, run, lock, todo, request, on_progress)


def _compact(run: Run, lock: RunLock, outcome: Outcome) -> None:
    for store in (run.masks, run.metrics):
        outcome.problems += [str(bad) for bad in store.compact(lock).corrupt]
    # A compaction looks at what it rewrites; a damaged part that stays must show as well.
    outcome.problems += [line for line in run.unreadable() if line not in outcome.problems]
    outcome.damaged = bool(outcome.problems)


def _sync(run: Run, uri: str, study: Study, outcome: Outcome) -> None:
    try:
        result = sync(run, uri, study.tracking.experiment)
    except InputError as error:  # something in OUT is damaged
        outcome.problems.append(f"mlflow: {error}")
        return
    if result.warning:
        outcome.warnings.append(f"{result.warning}; later: toposweep sync {run.out}")
