"""Which samples train and which validate, and in what order they come."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from storage.errors import InputError
from sweeps.training.streams import Purpose, Streams

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Indices into the training samples: those to train on, those to validate with."""

    train: Indices
    validation: Indices
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Every sample is seen once an epoch; the last batch holds what is left."""
        return ceil(len(self.train) / self.batch_size)

    def order(self, streams: Streams, epoch: int) -> Indices:
        """The training samples in the order of epoch ``epoch`` (the first is 0)."""
        return streams.for_data(Purpose.ORDER, epoch).permutation(self.train)


def split_samples(n: int, validation: float, batch_size: int, streams: Streams) -> Split:
    """round(validation * n) of n samples, at random by the ``data`` stream, are held out.

    Raises InputError where that leaves none to validate with, or fewer to train on than a batch.
    """
    held_out = round(validation * n)
    if validation > 0 and held_out == 0:
        raise InputError(
            f"data.validation: {validation} is not allowed: of {n} samples it leaves none to "
            f"validate with; at least {1 / n:.2g}, or 0 for no split"
        )
    if batch_size > n - held_out:
        raise InputError(
            f"optimizer.batch_size: {batch_size} is not allowed: at most {n - held_out}, "
            "the number of training samples"
        )
    shuffled = streams.for_data(Purpose.VALIDATION_SPLIT).permutation(n)
    return Split(np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out]), batch_size)
