"""Masks: the first draw, and the drop and grow rules that change them.

Everything here is numpy on the CPU, so that a topology does not depend on the device.
A rule works on one layer. Positions are flat row-major indices into (n_out, n_in).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class LayerState:
    """What a rule may look at: one layer's weights and mask, both (n_out, n_in)."""

    weights: FloatArray
    mask: BoolArray


@dataclass(frozen=True)
class Change:
    """One update of one layer: flat positions dropped, and positions grown afterwards.

    A position may be in both: it was dropped and grown again, as a new connection.
    """

    dropped: Positions
    grown: Positions


Drop = Callable[[LayerState, float], Positions]
Grow = Callable[[LayerState, BoolArray, int, np.random.Generator], Positions]


def draw_mask(shape: tuple[int, int], count: int, rng: np.random.Generator) -> BoolArray:
    """A mask with exactly ``count`` connections, every such mask equally likely."""
    size = shape[0] * shape[1]
    mask = np.zeros(size, dtype=bool)
    if count == size:
        mask[:] = True
    else:
        mask[rng.choice(size, count, replace=False, shuffle=False)] = True
    return mask.reshape(shape)


def drop_by_sign(layer: LayerState, fraction: float) -> Positions:
    """SET's drop: the positive and the negative weights nearest zero, separately.

    round(fraction * n_positive) of the positive and round(fraction * n_negative) of the negative
    weights (Mocanu et al. 2018, Methods), Python's round, ties by position. A connection
    whose weight is exactly zero carries nothing; it is dropped too, as the authors' code does.
    """
    weights = layer.weights.ravel()
    connected = np.flatnonzero(layer.mask)
    values = weights[connected]
    dropped = [connected[values == 0]]
    for side in (connected[values > 0], connected[values < 0]):
        nearest = np.argsort(np.abs(weights[side]), kind="stable")
        dropped.append(side[nearest[: round(fraction * len(side))]])
    return np.concatenate(dropped)


def grow_random(
    layer: LayerState, kept: BoolArray, count: int, rng: np.random.Generator
) -> Positions:
    """SET's growth: ``count`` positions at random among all that are not kept.

    A position that was just dropped may come back. ``kept`` is flat, (n_out * n_in,).
    """
    free = np.flatnonzero(~kept)
    return np.sort(free[rng.choice(len(free), count, replace=False, shuffle=False)])


DROPS: dict[str, Drop] = {"by_sign": drop_by_sign}
GROWS: dict[str, Grow] = {"random": grow_random}


def evolve(
    layer: LayerState, fraction: float, drop: Drop, grow: Grow, rng: np.random.Generator
) -> Change:
    """One update of a layer: as many connections grown as dropped.

    Checks what every method promises: dropped was connected, grown is disjoint from kept, and the
    number of connections stays.
    """
    dropped = drop(layer, fraction)
    old = layer.mask.ravel()
    kept = old.copy()
    kept[dropped] = False
    grown = grow(layer, kept, len(dropped), rng)
    new = kept.copy()
    new[grown] = True
    if not old[dropped].all():
        raise AssertionError("the drop rule named positions that were not connected")
    if kept[grown].any():
        raise AssertionError("the grow rule named positions that were kept")
    if np.count_nonzero(new) != np.count_nonzero(old):
        raise AssertionError("the update changed the number of connections")
    return Change(dropped, grown)
