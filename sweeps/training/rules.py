"""Drop and growth rules: which connections of one layer go, and where new ones come.

A rule sees one layer. What it names are flat positions (see ``positions.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sweeps.training import positions
from sweeps.training.positions import Positions, Shape

FloatArray = npt.NDArray[np.float32]
CHUNK_WEIGHTS = 2**22  # of a layer that are looked at together: 16 MB of scores


class Scores(Protocol):
    """One number for every weight of a layer, connected or not, handed out by rows."""

    def rows(self, start: int, stop: int) -> FloatArray:
        """(stop - start, n_in)"""
        ...


@dataclass(frozen=True)
class LayerState:
    """What a rule may look at.

    ``connected``: sorted positions, (nnz,); ``weights``: theirs, in their order, (nnz,); ``ever``:
    sorted positions that have been connected at any time; ``scores``: what the growth rule asked
    for, of all weights: the gradient of the loss, or its running mean.
    """

    shape: Shape
    connected: Positions
    weights: FloatArray
    ever: Positions
    scores: Scores | None = None

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


Drop = Callable[[LayerState, float], Positions]


def drop_by_sign(layer: LayerState, fraction: float) -> Positions:
    """SET's drop: the positive and the negative weights nearest zero, separately.

    round(fraction * n_positive) of the positive and round(fraction * n_negative) of the negative
    weights (Mocanu et al. 2018, Methods), Python's round, ties by position. A connection
    whose weight is exactly zero carries nothing; it is dropped too, as the authors' code does.
    """
    values = layer.weights
    dropped = [np.flatnonzero(values == 0)]
    for side in (np.flatnonzero(values > 0), np.flatnonzero(values < 0)):
        nearest = np.argsort(np.abs(values[side]), kind="stable")
        dropped.append(side[nearest[: round(fraction * len(side))]])
    return layer.connected[np.concatenate(dropped)]


def drop_magnitude(layer: LayerState, fraction: float) -> Positions:
    """The round(fraction * nnz) weights nearest zero, whatever their sign; ties by position."""
    return drop_smallest(layer, round(fraction * len(layer.connected)))


def drop_smallest(layer: LayerState, count: int) -> Positions:
    """The ``count`` weights nearest zero; ties by position."""
    nearest = np.argsort(np.abs(layer.weights), kind="stable")
    return layer.connected[nearest[:count]]


DROPS: dict[str, Drop] = {"by_sign": drop_by_sign, "magnitude": drop_magnitude}

Choose = Callable[[LayerState, Positions, int, np.random.Generator], Positions]
Need = Literal["nothing", "gradient", "momentum"]


@dataclass(frozen=True)
class Growth:
    """A growth rule: ``choose(layer, kept, count, rng)`` names ``count`` positions that are not in
    ``kept`` (sorted); ``needs`` is what ``layer.scores`` must be."""

    choose: Choose
    needs: Need = "nothing"


def grow_random(
    layer: LayerState, kept: Positions, count: int, rng: np.random.Generator
) -> Positions:
    """SET's growth: at random among all that are not kept; one just dropped may come back."""
    return positions.draw_free(kept, layer.size, count, rng)


def grow_elsewhere(
    layer: LayerState, kept: Positions, count: int, rng: np.random.Generator
) -> Positions:
    """At random among those that were not connected before the drop, as far as there are any;
    the rest among those just dropped."""
    return _random_outside(layer.connected, layer, kept, count, rng)


def grow_unexplored(
    layer: LayerState, kept: Positions, count: int, rng: np.random.Generator
) -> Positions:
    """At random among those that have never been connected, as far as there are any; the rest at
    random. Explores fastest (after Liu et al. 2021, whose measure of it is the ITOP rate)."""
    return _random_outside(layer.ever, layer, kept, count, rng)


def grow_by_score(
    layer: LayerState, kept: Positions, count: int, rng: np.random.Generator
) -> Positions:
    """Where the score is largest in absolute value among all that are not kept; ties by position.

    With the gradient this is RigL's growth (Evci et al. 2020, algorithm 1), with the running mean
    of gradients that of sparse momentum (Dettmers and Zettlemoyer 2019).
    """
    if layer.scores is None:
        raise AssertionError("growth by score needs scores")
    best, best_scores = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    for first, scores in _chunks(layer.scores, layer.shape):
        found = np.abs(scores.ravel())
        inside = kept[slice(*np.searchsorted(kept, [first, first + len(found)]))] - first
        found[inside] = -1.0
        chosen = largest(found, count)
        chosen = chosen[found[chosen] >= 0]
        best = np.concatenate([best, chosen + first])
        best_scores = np.concatenate([best_scores, found[chosen]])
        keep = largest(best_scores, count)
        best, best_scores = best[keep], best_scores[keep]
    return best


GROWS: dict[str, Growth] = {
    "random": Growth(grow_random),
    "random_elsewhere": Growth(grow_elsewhere),
    "unexplored": Growth(grow_unexplored),
    "gradient": Growth(grow_by_score, "gradient"),
    "momentum": Growth(grow_by_score, "momentum"),
}


def _random_outside(
    avoided: Positions, layer: LayerState, kept: Positions, count: int, rng: np.random.Generator
) -> Positions:
    """At random outside of ``avoided`` (a superset of ``kept``), then outside of ``kept``."""
    first = min(count, layer.size - len(avoided))
    grown = positions.draw_free(avoided, layer.size, first, rng)
    if first == count:
        return grown
    taken = positions.united(kept, grown)
    return positions.united(grown, positions.draw_free(taken, layer.size, count - first, rng))


def _chunks(scores: Scores, shape: Shape) -> Iterator[tuple[int, FloatArray]]:
    """The scores of some rows at a time, with the position of the first."""
    rows = max(1, CHUNK_WEIGHTS // shape[1])
    for start in range(0, shape[0], rows):
        yield start * shape[1], scores.rows(start, min(start + rows, shape[0]))


def largest(values: FloatArray, count: int) -> Positions:
    """Where the ``count`` largest are, in order of position; of equal ones the first."""
    if count >= len(values):
        return np.arange(len(values))
    if count == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > threshold)
    level = np.flatnonzero(values == threshold)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))
