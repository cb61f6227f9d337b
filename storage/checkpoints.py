"""Checkpoint files of a trial: committed, checked when read, fenced by attempt.

A checkpoint is `OUT/checkpoints/<trial_id>/<step 8d>-a<attempt>-<crc32 8x>.pt`. The checksum stands
in the name because the format inside (a zip written by torch) does not notice a flipped bit.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from storage.attempts import Claim, entitled
from storage.errors import CorruptFile
from storage.filesystem import AnyPath, names_in, read_bytes, write_atomic

_NAME = re.compile(r"(\d{8,})-a(\d+)-([0-9a-f]{8})\.pt")


@dataclass(frozen=True, order=True)
class Checkpoint:
    """One checkpoint file: `step` optimiser steps done, written by `attempt`."""

    step: int
    attempt: int
    path: AnyPath

    def read(self) -> bytes:
        """The bytes that were written.

        Raises:
            FileNotFoundError: it has been pruned.
            CorruptFile: they are not what was written.
        """
        payload = read_bytes(self.path)
        match = _NAME.fullmatch(self.path.name)
        if match is None or zlib.crc32(payload) != int(match[3], 16):
            raise CorruptFile(self.path, "its bytes do not have the checksum in its name")
        return payload


def write_checkpoint(folder: AnyPath, step: int, attempt: int, payload: bytes) -> Checkpoint:
    """Commit one checkpoint to a trial's folder; durable when this returns."""
    path = folder / f"{step:08d}-a{attempt}-{zlib.crc32(payload):08x}.pt"
    write_atomic(path, payload)
    return Checkpoint(step, attempt, path)


def list_checkpoints(folder: AnyPath, claims: Sequence[Claim]) -> list[Checkpoint]:
    """The entitled checkpoints of a trial, newest first."""
    return sorted((c for c in _files(folder) if entitled(c.step, c.attempt, claims)), reverse=True)


def covered_step(folder: AnyPath, claims: Sequence[Claim]) -> int:
    """Steps that no restart will make again: the newest entitled checkpoint's, or -1."""
    return max((c.step for c in list_checkpoints(folder, claims)), default=-1)


def prune_checkpoints(folder: AnyPath, claims: Sequence[Claim], keep: int) -> None:
    """Delete all but the newest `keep` entitled checkpoints, and those of fenced attempts."""
    kept = set(list_checkpoints(folder, claims)[:keep])
    for checkpoint in _files(folder):
        if checkpoint not in kept:
            checkpoint.path.unlink(missing_ok=True)


def verify_checkpoints(out: AnyPath) -> list[CorruptFile]:
    """Every checkpoint of a run that is not what was written."""
    bad = []
    for name in names_in(out / "checkpoints"):
        for checkpoint in _files(out / "checkpoints" / name):
            try:
                checkpoint.read()
            except FileNotFoundError:
                continue
            except CorruptFile as error:
                bad.append(error)
    return bad


def _files(folder: AnyPath) -> Iterator[Checkpoint]:
    for name in names_in(folder):
        match = _NAME.fullmatch(name)
        if match:
            yield Checkpoint(int(match[1]), int(match[2]), folder / name)
