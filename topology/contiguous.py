"""Dense matrices by contiguous rows: what the compiler makes vector instructions of.

Fresh pages of memory would take a fifth of the time of a bound (`bounds`), so that matrices are
views of slots that are used again.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled

Matrix = NDArray[np.float32]
Numbers = NDArray[Any]  # any kind of number; rows that appear together have one kind

# Rows that are turned into columns at a time.
BLOCK = 16


@compiled
def slot(numbers: NDArray[np.float32], rows: int, columns: int) -> Matrix:
    """The start of a slot as a matrix."""
    return numbers[: rows * columns].reshape(rows, columns)


@compiled
def transpose(matrix: Numbers, to: Numbers) -> None:
    """Copy a matrix with its rows as columns."""
    for first in range(0, len(matrix), BLOCK):
        turn(matrix[first : first + BLOCK], to, first)


@compiled
def turn(block: Numbers, to: Numbers, first: int) -> None:
    """Write up to BLOCK rows as columns from `first` on, as far as there are."""
    first = max(first, 0)  # so that the compiler knows that no index wraps around
    n = min(len(block), to.shape[1] - first)
    if n == BLOCK:  # a length that the compiler knows
        for k in range(len(to)):
            for j in range(BLOCK):
                to[k, first + j] = block[j, k]
    else:
        for k in range(len(to)):
            for j in range(n):
                to[k, first + j] = block[j, k]


@compiled
def add_to(total: Numbers, values: Numbers) -> None:
    """Add values to `total`."""
    for j in range(len(total)):
        total[j] += values[j]


@compiled
def lower_to(low: Numbers, values: Numbers) -> None:
    """Put the smaller one of each two values into `low`."""
    for j in range(len(low)):
        low[j] = values[j] if values[j] < low[j] else low[j]


@compiled
def raise_to(high: Numbers, values: Numbers) -> None:
    """Put the greater one of each two values into `high`."""
    for j in range(len(high)):
        high[j] = values[j] if values[j] > high[j] else high[j]


@compiled
def order(low: Numbers, high: Numbers) -> None:
    """Put the smaller one of each two values into `low`, the other into `high`."""
    for j in range(len(low)):
        x, y = low[j], high[j]
        low[j] = x if x < y else y
        high[j] = y if x < y else x


@compiled
def order_new(low: Numbers, new: Numbers, high: Numbers) -> None:
    """As `order`, of `low` and `new`, which stays as it is."""
    for j in range(len(low)):
        x, y = low[j], new[j]
        low[j] = x if x < y else y
        high[j] = y if x < y else x
