"""First weights, and the weights of new connections."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sweeps.training.masking import BoolArray, FloatArray, Positions


def he_by_fan_in(mask: BoolArray, rng: np.random.Generator) -> FloatArray:
    """He's normal start (He et al. 2015) by each neuron's own fan-in.

    Weight (i, j) is z_ij * sqrt(2 / fan_in_i) where the mask has a connection, exactly 0 elsewhere;
    fan_in_i counts the connections of row i, so a sparse neuron starts with the variance of a
    dense one. z is drawn for every position of (n_out, n_in), connected or not: with the same
    seed dense, static and set start from the same draws, whatever their masks.
    """
    draws = rng.standard_normal(mask.shape, dtype=np.float32)
    scale = np.sqrt(2.0 / np.maximum(mask.sum(axis=1), 1)).astype(np.float32)
    return np.where(mask, draws * scale[:, None], np.float32(0))


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
