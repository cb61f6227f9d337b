"""Making good what was damaged in OUT: the file is put aside, and its trials train again.

Training is deterministic, so that the masks and metrics come out as they were. Until they have, the
trial counts as one that has not begun: nothing of it is silently missing.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace

from storage.attempts import claim_attempt, entitled, read_claims
from storage.checkpoints import verify_checkpoints
from storage.errors import CorruptFile
from storage.filesystem import AnyPath, Location, read_bytes, run_folder, write_atomic
from storage.importers import is_imported
from storage.layout import STAGED_NAME
from storage.lock import RunLock
from storage.manifest import publish_manifest, read_manifest
from storage.records import list_trials
from storage.retrying import checking
from storage.runs import Run
from storage.trial_ids import is_trial_id
from sweeps.checks import stored_study
from sweeps.task import now

FOLDER = "quarantine"


@dataclass
class Repair:
    """What a repair did.

    Attributes:
        put_aside: damaged files that are in OUT/quarantine now.
        trials: trials that are to train again from the start.
        beyond: what is damaged still, and why.
    """

    put_aside: list[AnyPath] = field(default_factory=list)
    trials: set[str] = field(default_factory=set)
    beyond: list[str] = field(default_factory=list)


def repair_job(out: Location) -> Repair:
    """`repair` the run in a folder."""
    run = Run.open(out)
    with RunLock(run.out, purpose="repair") as lock, checking(lock.check):
        return repair(run, lock)


def repair(run: Run, lock: RunLock) -> Repair:
    """Put aside every damaged file that training again, or an older checkpoint, makes good.

    Distances need no repair: a damaged tile or matrix is computed again whenever they are.

    Args:
        run: whose every file is read.
        lock: of its folder, held by the caller.
    """
    done = Repair()
    for problem in [*run.verify(), *verify_checkpoints(run.out)]:
        lock.check()
        _repair(run, problem, done)
    return done


def _repair(run: Run, problem: CorruptFile, done: Repair) -> None:
    path = run_folder(problem.path)
    parts = str(path).removeprefix(str(run.out)).strip("/").split("/")
    if is_imported(run) and parts[0] in ("masks", "metrics", "trials"):
        done.beyond.append(f"{problem}; import it again into another folder")
        return
    match parts:
        case ["masks" | "metrics", "staging", trial_id, name] if is_trial_id(trial_id):
            match = STAGED_NAME.fullmatch(name)
            # Metrics that were measured since a checkpoint are in one file, named for the last: all
            # of them count, or none.
            claims = read_claims(run.out, trial_id)
            if match and entitled(int(match[1]), int(match[2]), claims):
                _begin_again(run, trial_id, done)
        case ["masks" | "metrics" as table, "compact", name]:
            manifest = read_manifest(run.out / table)
            bad = [part for part in manifest.parts if part.file == name] if manifest else []
            for trial_id in {group.trial_id for part in bad for group in part.row_groups}:
                _begin_again(run, trial_id, done)
            if manifest and bad:
                left = tuple(part for part in manifest.parts if part not in bad)
                publish_manifest(run.out / table, left, after=manifest.number)
        case ["trials", name] if stored_study(run).search.algorithm != "optuna":
            done.trials.add(name.removesuffix(".json"))  # its record is made anew from the study
        case ["checkpoints", _, _] | ["masks" | "metrics", _, *_] if parts[1] != "manifest":
            pass
        case _:  # claims and manifests say what counts: nobody else knows that
            done.beyond.append(str(problem))
            return
    _put_aside(run, path, "/".join(parts), done)


def _begin_again(run: Run, trial_id: str, done: Repair) -> None:
    """Have a trial train from the start; what its attempts so far have written counts no more."""
    if trial_id in done.trials:
        return
    if trial_id in list_trials(run.out):
        with suppress(CorruptFile):  # which is put aside itself
            record = run.record(trial_id)
            run.write_record(
                replace(record, state="pending", reason=None, traceback=None, metrics={},
                        updated_at=now())
            )  # fmt: skip
    claim_attempt(run.out, trial_id, -1)
    done.trials.add(trial_id)


def _put_aside(run: Run, path: AnyPath, name: str, done: Repair) -> None:
    kept = run.out / FOLDER / name.replace("/", "-")
    with suppress(FileNotFoundError, CorruptFile):  # a bad block: nothing that could be kept
        write_atomic(kept, read_bytes(path))
        done.put_aside.append(kept)
    path.unlink(missing_ok=True)
