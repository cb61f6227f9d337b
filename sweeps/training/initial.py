"""First weights, and the weights of new connections."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sweeps.training import positions
from sweeps.training.positions import Positions, Shape
from sweeps.training.rules import CHUNK_WEIGHTS, FloatArray

FirstWeights = Callable[[Positions, Shape, np.random.Generator], FloatArray]


def he_by_fan_in(connected: Positions, shape: Shape, rng: np.random.Generator) -> FloatArray:
    """He's normal start (He et al. 2015) by each neuron's own fan-in.

    Weight (i, j) is z_ij * sqrt(2 / fan_in_i), where fan_in_i counts the connections of row i, so a
    sparse neuron starts with the variance of a dense one. z is drawn for every position of
    (n_out, n_in), connected or not: with the same seed dense, static and set start from the same
    draws, whatever their masks. Returns the weights of ``connected``, (nnz,).
    """
    fan_in = np.maximum(positions.fan_in(connected, shape), 1)
    scale = np.sqrt(2.0 / fan_in).astype(np.float32)
    weights: FloatArray = _draws(connected, shape, rng) * scale[connected // shape[1]]
    return weights


def he_by_layer(connected: Positions, shape: Shape, rng: np.random.Generator) -> FloatArray:
    """He's normal start of the dense layer, sqrt(2 / n_in), of which the connections are kept."""
    scale: np.float32 = np.float32(np.sqrt(2.0 / shape[1]))
    return _draws(connected, shape, rng) * scale


FIRST_WEIGHTS: dict[str, FirstWeights] = {"fan_in": he_by_fan_in, "layer": he_by_layer}


def _draws(connected: Positions, shape: Shape, rng: np.random.Generator) -> FloatArray:
    """z of ``connected``: drawn for all positions, some rows at a time."""
    z = np.empty(len(connected), dtype=np.float32)
    rows = max(1, CHUNK_WEIGHTS // shape[1])
    for start in range(0, shape[0], rows):
        drawn = rng.standard_normal(
            (min(rows, shape[0] - start), shape[1]), dtype=np.float32
        ).ravel()
        first = start * shape[1]
        inside = slice(*np.searchsorted(connected, [first, first + len(drawn)]))
        z[inside] = drawn[connected[inside] - first]
    return z


def zero(rng: np.random.Generator, fan_in: Positions) -> FloatArray:
    """New connections start at 0 (SET's Keras code, RigL)."""
    return np.zeros(len(fan_in), dtype=np.float32)


def normal(rng: np.random.Generator, fan_in: Positions) -> FloatArray:
    """New connections start at N(0, 0.1^2) (SET's sparse implementation)."""
    return rng.standard_normal(len(fan_in), dtype=np.float32) * np.float32(0.1)


def he_uniform(rng: np.random.Generator, fan_in: Positions) -> FloatArray:
    """New connections start at U(-b, b), b = sqrt(6 / fan_in) of their neuron's new mask."""
    bound = np.sqrt(6.0 / fan_in).astype(np.float32)
    return (rng.random(len(fan_in), dtype=np.float32) * 2 - 1) * bound


NewWeights = Callable[[np.random.Generator, Positions], FloatArray]

NEW_WEIGHTS: dict[str, NewWeights] = {"zero": zero, "normal": normal, "he_uniform": he_uniform}
