"""Random streams: every draw of a trial is a pure function of a seed and of what it is for.

Nothing here keeps a state. A generator is made anew from (seed, stream, purpose, position), so a
checkpoint needs no random state, a resumed trial draws what the uninterrupted one would have
drawn, and two methods that share a seed share their draws whatever else each of them drew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a draw is for. The numbers are part of every result, so they never change."""

    FIRST_MASK = 0
    GROWTH = 1
    FIRST_WEIGHTS = 2
    NEW_WEIGHTS = 3
    ACTIVATION = 4
    VALIDATION_SPLIT = 5
    ORDER = 6
    CHAIN = 7
    DROPOUT = 8
    AUGMENTATION = 9


@dataclass(frozen=True)
class Streams:
    """The three independent streams of a trial.

    ``topology`` draws masks and growth, ``weights`` draws first and new weights and dropout,
    ``data`` draws the validation split, the order of the samples and their augmentation.
    Each field is a seed, an integer >= 0; equal numbers give unrelated streams, because the stream
    is part of the key.
    """

    topology: int
    weights: int
    data: int

    def for_topology(self, purpose: Purpose, *position: int) -> np.random.Generator:
        return _generator(self.topology, 0, purpose, *position)

    def for_weights(self, purpose: Purpose, *position: int) -> np.random.Generator:
        return _generator(self.weights, 1, purpose, *position)

    def for_data(self, purpose: Purpose, *position: int) -> np.random.Generator:
        return _generator(self.data, 2, purpose, *position)


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
