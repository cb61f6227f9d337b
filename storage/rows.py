"""Which rows of a table count: those of the entitled attempt, each once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from storage.attempts import list_attempts, read_claims
from storage.filesystem import AnyPath, for_each


@dataclass(frozen=True)
class Chunk:
    """Rows of one file: whose they are, and how to have them.

    Attributes:
        path: the file.
        trial_ids: (n,) text, or one text for all.
        steps: (n,) int64.
        attempts: (n,) integers.
        load: gives the rows for which its argument, (n,) bool, is true.
    """

    path: AnyPath
    trial_ids: NDArray[np.object_] | str
    steps: NDArray[np.int64]
    attempts: NDArray[np.int16]
    load: Callable[[NDArray[np.bool_]], pa.Table]


def chunk_of_table(path: AnyPath, table: pa.Table) -> Chunk:
    """A chunk of rows that have been read already."""
    return Chunk(
        path,
        table.column("trial_id").to_numpy(),
        table.column("step").to_numpy(),
        table.column("attempt").to_numpy(),
        lambda kept: table if kept.all() else table.filter(pa.array(kept)),
    )


def count_rows(out: AnyPath, chunks: Sequence[Chunk]) -> list[NDArray[np.bool_]]:
    """Which rows count.

    A row counts when no later attempt of its trial began before its step. Where two chunks hold the
    same step of a trial, as they do while a compaction runs, the later chunk's rows count. Two
    attempts are never both entitled to a step, unless one wrote outside its right, at or before its
    own first step: then it is the later attempt, and its row does not count.

    Args:
        out: the run's folder.
        chunks: they must have been listed before this call, since the claims are read in it: a row
            is seen only after its attempt's claim was made.

    Returns:
        For each chunk, (n,) bool.
    """
    if not chunks:
        return []
    sizes = [chunk.steps.size for chunk in chunks]
    names = [
        np.full(size, chunk.trial_ids, dtype=object)
        if isinstance(chunk.trial_ids, str)
        else chunk.trial_ids
        for chunk, size in zip(chunks, sizes, strict=True)
    ]
    trials, trial_ids = pd.factorize(np.concatenate(names))
    steps = np.concatenate([chunk.steps for chunk in chunks])
    attempts = np.concatenate([chunk.attempts for chunk in chunks])
    ranks = np.repeat(np.arange(len(chunks)), sizes)

    counts = steps <= _last_steps(out, trials, [str(name) for name in trial_ids], attempts)
    counts &= _first_of_each_step(counts, trials, steps, attempts, ranks)
    return np.split(counts, np.cumsum(sizes)[:-1])


def _last_steps(
    out: AnyPath, trials: NDArray[np.intp], trial_ids: list[str], attempts: NDArray[np.int16]
) -> NDArray[np.int64]:
    """For each row, the last step that its attempt was entitled to."""
    last = np.full(trials.size, np.iinfo(np.int64).max)
    lowest = np.full(len(trial_ids), np.iinfo(np.int16).max)
    np.minimum.at(lowest, trials, attempts)
    listed = for_each(lambda trial_id: list_attempts(out, trial_id), trial_ids, out)
    for trial, (trial_id, numbers) in enumerate(zip(trial_ids, listed, strict=True)):
        # Nearly all trials have one attempt; only where there is a later one need claims be read.
        if max(numbers, default=0) <= lowest[trial]:
            continue
        rows = np.flatnonzero(trials == trial)
        for claim in read_claims(out, trial_id):
            fenced = rows[attempts[rows] < claim.attempt]
            last[fenced] = np.minimum(last[fenced], claim.first_step)
    return last


def _first_of_each_step(
    counts: NDArray[np.bool_],
    trials: NDArray[np.intp],
    steps: NDArray[np.int64],
    attempts: NDArray[np.int16],
    ranks: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Of the rows that count, per trial and step: the lowest attempt's, from the last chunk."""
    order = np.lexsort((-ranks, attempts, steps, trials, ~counts))
    same_step = np.zeros(order.size, dtype=np.bool_)
    same_step[1:] = (
        (np.diff(trials[order]) == 0)
        & (np.diff(steps[order]) == 0)
        & (np.diff(counts[order].astype(np.int8)) == 0)
    )
    # Each row's leader is the first row, in this order, of its trial and step.
    leader = order[np.maximum.accumulate(np.where(same_step, 0, np.arange(order.size)))]
    chosen = np.empty(order.size, dtype=np.bool_)
    chosen[order] = (attempts[order] == attempts[leader]) & (ranks[order] == ranks[leader])
    return chosen
