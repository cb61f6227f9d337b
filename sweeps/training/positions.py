"""Connections of a layer as sorted positions: flat row-major indices into (n_out, n_in).

Whatever is done with them costs time and memory by their number, not by the layer's size.
Everything is numpy on the CPU, so that a topology does not depend on the device.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Positions = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Shape = tuple[int, int]


def draw(size: int, count: int, rng: np.random.Generator) -> Positions:
    """``count`` of the positions 0 to size - 1, sorted; every such set equally likely."""
    if count == size:
        return np.arange(size)
    return np.sort(rng.choice(size, count, replace=False, shuffle=False))


def draw_free(taken: Positions, size: int, count: int, rng: np.random.Generator) -> Positions:
    """``count`` of the positions that are not in ``taken`` (sorted), sorted."""
    return nth_free(taken, draw(size - len(taken), count, rng))


def nth_free(taken: Positions, numbers: Positions) -> Positions:
    """The free positions with these numbers, counted from 0 over the gaps that ``taken`` leaves.

    >>> nth_free(np.array([0, 1, 4]), np.array([0, 1, 2, 3])).tolist()
    [2, 3, 5, 6]
    """
    free_before = taken - np.arange(len(taken))
    return numbers + np.searchsorted(free_before, numbers, side="right")


def contained(queries: Positions, positions: Positions) -> BoolArray:
    """For each query whether it is one of ``positions`` (sorted)."""
    if not len(positions):
        return np.zeros(len(queries), dtype=bool)
    found = np.minimum(np.searchsorted(positions, queries), len(positions) - 1)
    hits: BoolArray = positions[found] == queries
    return hits


def without(positions: Positions, removed: Positions) -> Positions:
    """``positions`` (sorted) that are not in ``removed`` (in any order)."""
    return positions[~contained(positions, np.sort(removed))]


def united(a: Positions, b: Positions) -> Positions:
    """What is in ``a`` or in ``b`` (both sorted, without repetition), sorted."""
    return np.sort(np.concatenate([a, b[~contained(b, a)]]))


def of_mask(mask: BoolArray) -> Positions:
    """Where a mask (n_out, n_in) has connections."""
    return np.flatnonzero(mask)


def as_mask(positions: Positions, shape: Shape) -> BoolArray:
    """The mask (n_out, n_in) of positions."""
    mask = np.zeros(shape, dtype=bool)
    mask.flat[positions] = True
    return mask


def fan_in(positions: Positions, shape: Shape) -> Positions:
    """The number of incoming connections of each neuron, (n_out,)."""
    return np.bincount(positions // shape[1], minlength=shape[0])


def as_csr(positions: Positions, shape: Shape) -> csr_array:
    """The same as a sparse bool matrix (n_out, n_in)."""
    starts = np.concatenate([[0], np.cumsum(fan_in(positions, shape))])
    ones = np.ones(len(positions), dtype=bool)
    return csr_array((ones, positions % shape[1], starts), shape=shape)
