"""Shortest augmenting paths in an assignment's graph of gains.

A pair's slack is what its row would lose by taking that column at its price: u_i - (g_ij - p_j),
never below 0, and 0 for matched pairs. From a free row, alternating paths lead along rows and the
columns that they hold; the cheapest one that ends in a free column, or in a row that gives its
column up for nothing, is exchanged.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.gains import Gains
from topology.heap import heap_of, pop, push

FREE = -1


class Assignment(NamedTuple):
    """A matching on the way to the best one, changed in place.

    Attributes:
        matching: int64 (n_rows,); the column that each row holds, or FREE.
        prices: float64 (n_columns,), at least 0, and 0 for a free column; infinite for one that is
            out of reach.
        holder: int64 (n_columns,); the row that holds each column, or FREE.
        held: float64 (n_rows,); the gain of what each row holds.
    """

    matching: NDArray[np.int64]
    prices: NDArray[np.float64]
    holder: NDArray[np.int64]
    held: NDArray[np.float64]


class _Tree(NamedTuple):
    """Shortest paths from a row to columns.

    Attributes:
        distance: (n_columns,); infinite for a column that no path has reached.
        row: (n_columns,); the row from which the path reaches the column.
        gain: (n_columns,); the gain of that row with the column.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]
    gain: NDArray[np.float64]


@compiled
def augment(gains: Gains, state: Assignment, rows: NDArray[np.int64]) -> None:
    """Bring free rows into the matching, one after the other, each by a shortest path (Dijkstra).

    One function on purpose: most of a matching's time is spent here, and calls in its inner loops
    would take half as much again.

    Args:
        rows: free rows.
    """
    n_columns = len(state.prices)
    tree = _Tree(
        np.full(n_columns, np.inf), np.empty(n_columns, dtype=np.int64), np.empty(n_columns)
    )
    heap = heap_of(tree.distance)
    touched = np.empty(n_columns, dtype=np.int64)
    settled = np.empty(n_columns, dtype=np.int64)
    for start in rows:
        profit = 0.0
        for k in range(gains.indptr[start], gains.indptr[start + 1]):
            profit = max(profit, gains.values[k] - state.prices[gains.indices[k]])
        # The shortest path so far that may end: here the row stays unmatched.
        end, end_column, end_row = profit, FREE, start
        n_touched, n_settled = 0, 0
        row, at = start, 0.0
        while True:
            for k in range(gains.indptr[row], gains.indptr[row + 1]):
                least = at + profit - gains.values[k]  # prices are at least 0
                if least >= end + gains.slack:
                    break
                column = gains.indices[k]
                distance = max(at, least + state.prices[column])
                if distance < end and distance < tree.distance[column]:
                    if tree.distance[column] == np.inf:
                        touched[n_touched] = column
                        n_touched += 1
                    tree.distance[column] = distance
                    tree.row[column], tree.gain[column] = row, gains.values[k]
                    if state.holder[column] == FREE:
                        end, end_column = distance, column
                    else:
                        push(heap, column)
            if heap.size[0] == 0 or tree.distance[heap.items[0]] >= end:
                break
            column = pop(heap)
            at = tree.distance[column]
            settled[n_settled] = column
            n_settled += 1
            row = state.holder[column]
            profit = state.held[row] - state.prices[column]
            if at + profit < end:
                end, end_column, end_row = at + profit, FREE, row
        for column in settled[:n_settled]:
            state.prices[column] += end - tree.distance[column]
        if end_column == FREE and end_row != start:
            end_column = state.matching[end_row]
            state.matching[end_row] = FREE
        if end_column != FREE:
            _exchange(state, tree, start, end_column)
        for column in touched[:n_touched]:
            tree.distance[column] = np.inf
            heap.place[column] = -1
        heap.size[0] = 0


@compiled
def _exchange(state: Assignment, tree: _Tree, start: int, column: int) -> None:
    """Give each row on the path that ends in a column the next column on it."""
    row = FREE
    while row != start:
        row = tree.row[column]
        before = state.matching[row]
        state.matching[row], state.holder[column] = column, row
        state.held[row] = tree.gain[column]
        column = before
