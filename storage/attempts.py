"""Attempts: which start of a trial may write which steps.

Each start claims `OUT/attempts/<trial_id>/<attempt>.json`, with the step that it goes on from. From
then on the rows of earlier attempts beyond that step count no more, even if a process that should
be dead goes on writing them.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from storage.errors import CorruptFile
from storage.filesystem import (
    AnyPath,
    Location,
    create_exclusive,
    for_each,
    names_in,
    read_json,
    run_folder,
)
from storage.sealed_json import to_json
from storage.trial_ids import check_trial_id, is_trial_id

EMPTY_FOR_S = 60.0  # after which nobody is about to write a claim's content any more


@dataclass(frozen=True)
class Claim:
    """One attempt's claim to every step after `first_step` (-1: from scratch, step 0 included)."""

    trial_id: str
    attempt: int
    first_step: int
    claimed_at: str = ""  # ISO 8601, UTC
    host: str = ""
    pid: int = 0


FirstStep = int | Callable[[Sequence[Claim]], int]


def claim_attempt(out: Location, trial_id: str, first_step: FirstStep) -> Claim:
    """Claim the next attempt of a trial; of several claimers at once each gets its own number.

    Args:
        out: the run's folder.
        trial_id: the trial.
        first_step: the step that the attempt goes on from, -1 from scratch; or a function of the
            claims so far, called again whenever another claimer was faster.

    Raises:
        CorruptFile: an earlier claim cannot be read.
    """
    folder = _folder(out, trial_id)
    while True:
        numbers = list_attempts(out, trial_id)
        earlier = _read_claims(folder, trial_id, numbers)
        claim = Claim(
            trial_id=trial_id,
            attempt=max(numbers, default=0) + 1,
            first_step=first_step(earlier) if callable(first_step) else first_step,
            claimed_at=datetime.now(UTC).isoformat(),
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        if create_exclusive(folder / f"{claim.attempt}.json", to_json(asdict(claim), indent=None)):
            return claim


def read_claims(out: Location, trial_id: str) -> list[Claim]:
    """All claims of a trial, by attempt.

    Raises:
        CorruptFile: one of them cannot be read.
    """
    return _read_claims(_folder(out, trial_id), trial_id, list_attempts(out, trial_id))


def read_all_claims(out: Location) -> dict[str, list[Claim]]:
    """The claims of every trial that has any, by trial_id."""
    trial_ids = list_claimed(out)
    found = for_each(lambda trial_id: read_claims(out, trial_id), trial_ids, run_folder(out))
    claims = dict(zip(trial_ids, found, strict=True))
    return {trial_id: found for trial_id, found in claims.items() if found}


def list_claimed(out: Location) -> list[str]:
    """The trials that have been claimed, sorted."""
    return [name for name in names_in(run_folder(out) / "attempts") if is_trial_id(name)]


def list_attempts(out: Location, trial_id: str) -> list[int]:
    """The numbers of a trial's attempts, ascending; no claim is read."""
    names = names_in(_folder(out, trial_id))
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())


def entitled(step: int, attempt: int, claims: Iterable[Claim]) -> bool:
    """Whether a row of `attempt` at `step` counts: no later attempt began before that step."""
    return not any(claim.attempt > attempt and claim.first_step < step for claim in claims)


def is_current(out: Location, claim: Claim) -> bool:
    """Whether no later attempt has been claimed."""
    return max(list_attempts(out, claim.trial_id), default=0) <= claim.attempt


def _folder(out: Location, trial_id: str) -> AnyPath:
    return run_folder(out) / "attempts" / check_trial_id(trial_id)


def _read_claims(folder: AnyPath, trial_id: str, attempts: Sequence[int]) -> list[Claim]:
    found = []
    for attempt in attempts:
        try:
            found.append(_read_claim(folder, trial_id, attempt))
        except CorruptFile:
            if not _was_left_empty(folder / f"{attempt}.json"):
                raise
    return found


def _was_left_empty(path: AnyPath) -> bool:
    """Whether the maker of a claim has died before it wrote anything, so that it began nothing.

    A file system without links shows a file's name before its content.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == 0 and time.time() - found.st_mtime > EMPTY_FOR_S


def _read_claim(folder: AnyPath, trial_id: str, attempt: int) -> Claim:
    path = folder / f"{attempt}.json"
    try:
        fields: Any = read_json(path)
        claim = Claim(
            trial_id=str(fields["trial_id"]),
            attempt=int(fields["attempt"]),
            first_step=int(fields["first_step"]),
            claimed_at=str(fields["claimed_at"]),
            host=str(fields["host"]),
            pid=int(fields["pid"]),
        )
    except FileNotFoundError:
        raise CorruptFile(path, "has gone: claims are never removed") from None
    except (TypeError, KeyError, ValueError) as error:
        raise CorruptFile(path, f"is no claim: {type(error).__name__} {error}") from None
    if (claim.trial_id, claim.attempt) != (trial_id, attempt):
        raise CorruptFile(path, f"claims attempt {claim.attempt} of trial {claim.trial_id}")
    return claim
