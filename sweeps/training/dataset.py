"""A data set: four arrays in memory, scaled, and what they are known by.

Inputs are scaled by one mean and one standard deviation, those of all training pixels, so that
they fit He's start whatever the data set. The checksum is taken over the arrays as decoded, before
scaling: the same files give the same one from any folder, compressed or not, and other files give
another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from storage.errors import InputError

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Labels = npt.NDArray[np.uint8 | np.uint16]

Validation = Annotated[float, Field(ge=0, le=0.5)]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, never written to; trials of one process share it.

    ``x_*`` float32 (n, *input_shape), scaled; ``y_*`` int64 (n,), classes 0 to n_classes - 1.
    ``checksum`` is 16 hex digits.
    """

    name: str
    checksum: str
    x_train: npt.NDArray[np.float32]
    y_train: Int64
    x_test: npt.NDArray[np.float32]
    y_test: Int64
    n_classes: int
    _on: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict, repr=False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.x_train.shape[1:]

    def tensors(self, device: str) -> tuple[torch.Tensor, ...]:
        """x_train, y_train, x_test, y_test on a device; kept, so that it is copied once."""
        if device not in self._on:
            arrays = (self.x_train, self.y_train, self.x_test, self.y_test)
            self._on[device] = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return self._on[device]


def dataset_of(
    name: str,
    x_train: UInt8,
    y_train: Labels,
    x_test: UInt8,
    y_test: Labels,
    n_classes: int = 10,
) -> Dataset:
    """The data set of inputs as bytes and their labels, scaled and with its checksum.

    Raises InputError where all training inputs are equal.
    """
    digest = hashlib.sha256()
    for array in (x_train, y_train, x_test, y_test):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    mean, deviation = _mean_and_deviation(x_train)
    if deviation == 0:
        raise InputError(f"data.name: {name!r}: all training pixels are equal, nothing to learn")

    def scaled(images: UInt8) -> npt.NDArray[np.float32]:
        table = ((np.arange(256) - mean) / deviation).astype(np.float32)
        # In memory of torch's own, which is aligned the same way in every process: how a matrix
        # product is summed, and so its last bit, may depend on that.
        values: npt.NDArray[np.float32] = torch.empty(images.shape).numpy()
        for some in _some_at_a_time(images):
            np.take(table, images[some], out=values[some], mode="clip")
        return values

    return Dataset(
        name=name,
        checksum=digest.hexdigest()[:16],
        x_train=scaled(x_train),
        y_train=y_train.astype(np.int64),
        x_test=scaled(x_test),
        y_test=y_test.astype(np.int64),
        n_classes=n_classes,
    )


def _some_at_a_time(values: UInt8) -> Iterator[slice]:
    """Samples of about a million values: numpy makes 8-byte numbers of them on its way."""
    at_once = max(1, 2**20 * len(values) // values.size)
    for start in range(0, len(values), at_once):
        yield slice(start, start + at_once)


def _mean_and_deviation(values: UInt8) -> tuple[float, float]:
    """Of all values; summed in whole numbers."""
    counts = np.zeros(256, dtype=np.int64)
    for some in _some_at_a_time(values):
        counts += np.bincount(values[some].ravel(), minlength=256)
    n = values.size
    total = sum(k * int(count) for k, count in enumerate(counts))
    squares = sum(k * k * int(count) for k, count in enumerate(counts))
    return total / n, sqrt((n * squares - total**2) / n**2)
