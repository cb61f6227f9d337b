"""Dual prices of a dense assignment, and what each pair loses against them (`bounds`)."""

import numpy as np
from numpy.typing import NDArray

from topology.assignment import assign
from topology.compiled import compiled
from topology.contiguous import Matrix, transpose
from topology.gains import Gains, by_falling_gain
from topology.payments import ROUNDING

# The greatest gains of a row are those above the mean of the maxima of so many parts of it.
_PARTS = 64


def bound_and_losses(gains: Matrix, lost: Matrix) -> float:
    """Upper bound of every matching's total gain.

    Args:
        gains: (n_a, n_b), at least 0.
        lost: (n_a, n_b), to be filled with what each pair loses against the bound: r of `bounds`.
    """
    n_a, n_b = gains.shape
    if n_a <= n_b:
        prices = _prices(gains)
        profits = _profits(gains, prices)
        prices = _least_prices(gains, profits)
    else:  # the fewer ones bid
        exchanged = np.empty((n_b, n_a), dtype=np.float32)
        transpose(gains, exchanged)
        prices = _least_prices(gains, _prices(exchanged))
        profits = _profits(gains, prices)
    _lose(gains, profits, prices, lost)
    # With that much more for each matched pair, no gain and loss exceed profit and price.
    return float(profits.sum(dtype=float) + prices.sum(dtype=float) + min(n_a, n_b) * ROUNDING)


def _prices(gains: Matrix) -> NDArray[np.float32]:
    _, prices = assign(_candidates(gains), gains.shape[1])
    return prices.astype(np.float32)


@compiled
def _candidates(gains: Matrix) -> Gains:
    """The greatest gains of each row, about one in each of its parts, over the others.

    Everyone gains that much, so that only what is more decides; prices may be any.
    """
    n_a, n_b = gains.shape
    indptr = np.zeros(n_a + 1, dtype=np.int64)
    room = n_b * (_PARTS + 1)
    indices, values = np.empty(room, dtype=np.int32), np.empty(room)
    greatest = np.empty(_PARTS, dtype=np.float32)
    n = 0
    for i in range(n_a):
        if n + n_b > len(indices):
            indices = np.append(indices, np.empty(n + n_b, dtype=np.int32))
            values = np.append(values, np.empty(n + n_b))
        _maxima(gains[i], greatest)
        floor = greatest.mean() if n_b > _PARTS else np.float32(0)
        for j in range(n_b):
            indices[n], values[n] = j, gains[i, j] - floor
            n += gains[i, j] > floor
        indptr[i + 1] = n
    return by_falling_gain(indptr, indices[:n], values[:n])


@compiled
def _maxima(row: NDArray[np.float32], greatest: NDArray[np.float32]) -> None:
    """The maxima of the parts of a row, or 0: part k is the entries k, k + _PARTS, and so on."""
    greatest[:] = np.float32(0)
    whole = len(row) // _PARTS * _PARTS
    for first in range(0, whole, _PARTS):
        for k in range(_PARTS):
            value = row[first + k]
            greatest[k] = value if value > greatest[k] else greatest[k]
    for j in range(whole, len(row)):
        greatest[j - whole] = max(greatest[j - whole], row[j])


@compiled
def _profits(gains: Matrix, prices: NDArray[np.float32]) -> NDArray[np.float32]:
    """u, the least for these prices."""
    profits = np.empty(len(gains), dtype=np.float32)
    greatest = np.empty(_PARTS, dtype=np.float32)
    for i in range(len(gains)):
        _maxima(gains[i] - prices, greatest)
        profits[i] = greatest.max()
    return profits


@compiled
def _least_prices(gains: Matrix, profits: NDArray[np.float32]) -> NDArray[np.float32]:
    """v, the least for these profits."""
    prices = np.zeros(gains.shape[1], dtype=np.float32)
    for i in range(len(gains)):
        row, profit = gains[i], profits[i]
        for j in range(len(row)):
            price = row[j] - profit
            prices[j] = price if price > prices[j] else prices[j]
    return prices


@compiled
def _lose(
    gains: Matrix, profits: NDArray[np.float32], prices: NDArray[np.float32], lost: Matrix
) -> None:
    """Fill in r, at least 0 and, but for rounding, not more than it is."""
    for i in range(len(gains)):
        row, out, profit = gains[i], lost[i], profits[i]
        for j in range(len(row)):
            loss = profit + prices[j] - row[j]
            out[j] = loss if loss > np.float32(0) else np.float32(0)


@compiled
def profits_of_pairs(gains: Gains, prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """u, (n_a,), the least for these prices where only some pairs gain."""
    profits = np.zeros(len(gains.indptr) - 1)
    for i in range(len(profits)):
        for k in range(gains.indptr[i], gains.indptr[i + 1]):
            profits[i] = max(profits[i], gains.values[k] - prices[gains.indices[k]])
    return profits


@compiled
def lose_pairs(
    gains: Gains, profits: NDArray[np.float64], prices: NDArray[np.float64], lost: Matrix
) -> None:
    """Fill in r where only some pairs gain: at least 0 and not more than it is."""
    for i in range(len(lost)):
        for j in range(lost.shape[1]):
            lost[i, j] = np.float32(max(0.0, profits[i] + prices[j] - ROUNDING))
        for k in range(gains.indptr[i], gains.indptr[i + 1]):
            j = gains.indices[k]
            lost[i, j] = max(0.0, profits[i] + prices[j] - gains.values[k] - ROUNDING)
