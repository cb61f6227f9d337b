"""Checkpoint files of a trial: committed, checked when read, fenced by attempt.

A checkpoint is `OUT/checkpoints/<trial_id>/<step 8d>-a<attempt>-<crc32 8x>.pt`. The checksum stands
in the name because the format inside (a zip written by torch) does not notice a flipped bit.
"""

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from storage.attempts import Claim, entitled
from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, names_in, read_bytes, write_atomic
from storage.records import read_record
from storage.retrying import retried
from storage.trial_ids import is_trial_id

WEIGHTS = "weights.safetensors"  # a trial's final ones
UNSEALED = "0" * 8
_UNSEALED = rb"\"crc32\": \"00000000\""
_SEALED = re.compile(rb'\\"crc32\\": \\"([0-9a-f]{8})\\"')
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
            retried(partial(checkpoint.path.unlink, missing_ok=True))


def verify_checkpoints(out: AnyPath) -> list[CorruptFile]:
    """Every checkpoint of a run that is not what was written."""
    bad = []
    for name in filter(is_trial_id, names_in(out / "checkpoints")):
        folder = out / "checkpoints" / name
        try:
            checkpoints = list(_files(folder))
        except CorruptFile as error:
            bad.append(error)
            continue
        for checkpoint in checkpoints:
            try:
                checkpoint.read()
            except FileNotFoundError:
                continue
            except CorruptFile as error:
                bad.append(error)
        with suppress(FileNotFoundError):  # it has no final weights yet
            try:
                check_weights(folder / WEIGHTS, read_bytes(folder / WEIGHTS))
            except CorruptFile as error:
                bad.append(error)
    return bad


def seal_weights(content: bytes) -> bytes:
    """A safetensors file with its checksum, which the format itself has not.

    Args:
        content: its metadata hold a JSON text with `crc32` as UNSEALED, once.
    """
    start = content.index(_UNSEALED)
    checksum = f"{zlib.crc32(content):08x}".encode()
    sealed = _UNSEALED.replace(UNSEALED.encode(), checksum)
    return content[:start] + sealed + content[start + len(sealed) :]


def check_weights(path: AnyPath, content: bytes) -> None:
    """Compare the content of a safetensors file with its length and, if it has one, its checksum.

    Raises:
        CorruptFile: it is not what was written.
    """
    begin = min(len(content), 8 + int.from_bytes(content[:8], "little"))
    try:
        header = json.loads(content[8:begin])
        ends = [about["data_offsets"][1] for name, about in header.items() if name[:2] != "__"]
        whole = begin + max(ends, default=0) == len(content)
    except Exception:  # whatever a file of any content can lead to
        whole = False
    if not whole:
        raise CorruptFile(path, "is cut, or no safetensors file")
    sealed = _SEALED.search(content, 0, begin)
    if sealed is None:
        return
    unsealed = content[: sealed.start()] + _UNSEALED + content[sealed.end() :]
    if zlib.crc32(unsealed) != int(sealed[1], 16):
        raise CorruptFile(path, "does not have the checksum that was written")
    if path.name == WEIGHTS and is_trial_id(path.parent.name):
        _check_trial(path, header)


def _check_trial(path: AnyPath, header: Any) -> None:
    """Compare the configuration in weights with that of the trial in whose folder they lie."""
    try:
        record = read_record(path.parent.parent.parent, path.parent.name)
        theirs = json.loads(header["__metadata__"]["toposweep"])["config"]
    except (InputError, KeyError):
        return  # weights that lie elsewhere than in OUT
    ours = {key: value for key, value in record.config.items() if key not in ("seed", "seeds")}
    seeds = record.config.get("seeds") or dict.fromkeys(theirs["seeds"], record.config.get("seed"))
    if {**ours, "seeds": seeds} != theirs:
        raise CorruptFile(path, "holds the weights of another trial")


def _files(folder: AnyPath) -> Iterator[Checkpoint]:
    for name in names_in(folder):
        match = _NAME.fullmatch(name)
        if match:
            yield Checkpoint(int(match[1]), int(match[2]), folder / name)
