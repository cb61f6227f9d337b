"""Linear assignment: which neuron of B stands for which of A, at the greatest total gain.

A pair's gain is 1 minus its cost, so that most pairs of sparse layers have none and need not be
looked at. A neuron may stay unmatched, which gains nothing. With prices p_j >= 0 of B's neurons and
the profits u_i = max(0, max_j g_ij - p_j) of A's, no matching gains more than sum u + sum p (weak
duality); the solver ends with a matching that gains just that, which certifies it.

The method is that of Jonker and Volgenant (1987, doi:10.1007/BF02278710) on a sparse graph: row
reduction, in which free neurons outbid each other without an epsilon, then a shortest augmenting
path (`augmenting`) for each neuron that is still free. Ties fall to what comes first, so the order
of rows, columns and pairs decides them, and nothing else.
"""

import numpy as np
from numpy.typing import NDArray

from topology.augmenting import FREE, Assignment, augment
from topology.compiled import compiled
from topology.gains import Gains

UNMATCHED = FREE

# How often a row may be outbid, on average, before the others wait for their augmenting paths. On
# the published networks and random masks anything from 3 to 60 takes the same time within noise.
_BIDS = 8


@compiled
def assign(gains: Gains, n_columns: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The matching of greatest total gain.

    Returns:
        matching: (n_rows,); the column of each row, UNMATCHED for none.
        prices: (n_columns,); with which `most_gain` certifies it.
    """
    matching = np.full(len(gains.indptr) - 1, UNMATCHED, dtype=np.int64)
    prices = np.zeros(n_columns)
    assign_rest(gains, matching, prices)
    return matching, prices


@compiled
def assign_rest(gains: Gains, matching: NDArray[np.int64], prices: NDArray[np.float64]) -> None:
    """Match, in place, the rows that have no column yet; those that have one keep it for good.

    Columns that are taken at the start must have an infinite price.
    """
    rows = np.flatnonzero(matching == UNMATCHED)
    state = Assignment(
        matching, prices, np.full(len(prices), FREE, dtype=np.int64), np.zeros(len(matching))
    )
    left = _reduce_rows(gains, state, rows)
    if len(left):
        augment(gains, state, left)


@compiled
def _reduce_rows(gains: Gains, state: Assignment, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Let rows bid for their best columns; returns those that would have to break a tie to win.

    A row raises its best column's price until its second best (or staying unmatched) would be as
    good, and whoever held that column bids next.
    """
    bids = _BIDS * len(rows)
    left = np.empty_like(rows)
    n_left = 0
    for first in rows:
        row = first
        while row != FREE:
            best, second = 0.0, 0.0
            column, gain, other, other_gain = FREE, 0.0, FREE, 0.0
            for k in range(gains.indptr[row], gains.indptr[row + 1]):
                if gains.values[k] + gains.slack <= second:
                    break
                value = gains.values[k] - state.prices[gains.indices[k]]
                if value > best:
                    second, other, other_gain = best, column, gain
                    best, column, gain = value, gains.indices[k], gains.values[k]
                elif value > second:
                    second, other, other_gain = value, gains.indices[k], gains.values[k]
            if column == FREE:  # nothing to gain, and prices only rise
                break
            tie = best <= second
            if tie and state.holder[column] != FREE and state.holder[other] == FREE:
                column, gain = other, other_gain
            rival = state.holder[column]
            if rival != FREE and (tie or bids == 0):
                left[n_left] = row
                n_left += 1
                break
            state.prices[column] += best - second
            state.matching[row], state.holder[column], state.held[row] = column, row, gain
            if rival != FREE:
                state.matching[rival] = FREE
                bids -= 1
            row = rival
    return left[:n_left]


@compiled
def most_gain(gains: Gains, prices: NDArray[np.float64]) -> float:
    """What no matching gains more than, whatever the prices (>= 0) are: sum u + sum p."""
    bound = float(prices.sum())
    for i in range(len(gains.indptr) - 1):
        profit = 0.0
        for k in range(gains.indptr[i], gains.indptr[i + 1]):
            if gains.values[k] + gains.slack <= profit:
                break
            profit = max(profit, gains.values[k] - prices[gains.indices[k]])
        bound += profit
    return bound
