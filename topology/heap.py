"""A binary heap of columns by their distance, which may fall while they are in it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled


class Heap(NamedTuple):
    """Columns by distance.

    Attributes:
        items: int64 (n_columns,); the columns in it.
        place: int64 (n_columns,); each column's place among them, -1 for one that is not in it.
        key: float64 (n_columns,); each column's distance.
        size: int64 (1,); how many are in it.
    """

    items: NDArray[np.int64]
    place: NDArray[np.int64]
    key: NDArray[np.float64]
    size: NDArray[np.int64]


@compiled
def heap_of(key: NDArray[np.float64]) -> Heap:
    """An empty heap of columns by this distance."""
    n = len(key)
    return Heap(np.empty(n, np.int64), np.full(n, -1), key, np.zeros(1, np.int64))


@compiled
def push(heap: Heap, column: int) -> None:
    """Put a column in, or move it after its distance has fallen."""
    k = heap.place[column]
    if k < 0:
        k = heap.size[0]
        heap.size[0] += 1
    key = heap.key[column]
    while k > 0:
        parent = (k - 1) >> 1
        above = heap.items[parent]
        if heap.key[above] <= key:
            break
        heap.items[k], heap.place[above] = above, k
        k = parent
    heap.items[k], heap.place[column] = column, k


@compiled
def pop(heap: Heap) -> int:
    """Take the column of the least distance out."""
    least: int = heap.items[0]
    heap.place[least] = -1
    heap.size[0] -= 1
    size = heap.size[0]
    if size == 0:
        return least
    last = heap.items[size]
    key = heap.key[last]
    k = 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and heap.key[heap.items[child + 1]] < heap.key[heap.items[child]]:
            child += 1
        below = heap.items[child]
        if heap.key[below] >= key:
            break
        heap.items[k], heap.place[below] = below, k
        k = child
    heap.items[k], heap.place[last] = last, k
    return least
