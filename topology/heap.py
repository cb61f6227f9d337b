"""A binary heap in two arrays: keys, and what they belong to."""

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled


@compiled
def push(
    keys: NDArray[np.float64], items: NDArray[np.int64], size: int, key: float, item: int
) -> None:
    """Onto a binary heap of `size` entries."""
    k = size
    while k > 0:
        parent = (k - 1) >> 1
        if keys[parent] <= key:
            break
        keys[k], items[k] = keys[parent], items[parent]
        k = parent
    keys[k], items[k] = key, item


@compiled
def pop(keys: NDArray[np.float64], items: NDArray[np.int64], size: int) -> None:
    """The least entry off a binary heap of `size` entries."""
    size -= 1
    key, item = keys[size], items[size]
    k = 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[k], items[k] = keys[child], items[child]
        k = child
    keys[k], items[k] = key, item
