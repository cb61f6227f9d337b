"""The best matching of one layer's neurons, its distance and its certificate.

Equal neurons are matched first. That is optimal, for the Jaccard distance is a metric: where a and
b are equal and matched with y and x, d(x, y) <= d(x, b) + d(a, y), so that the exchange costs
nothing. The others are matched at the greatest gain (`assignment`), and those that gain nothing in
the order in which they come. With fewer neurons on one side, the surplus of the other stays
unmatched at cost 1 each (a neuron that is not there shares no connection), and the distance is
taken over the larger side:

    distance = (n - sum of gains) / n,    n = max(n_a, n_b)

It stays in [0, 1], is the mean matched cost for equal widths, and is 0 only for equal layers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.assignment import UNMATCHED, assign_rest, most_gain
from topology.compiled import compiled
from topology.gains import Gains


class Neurons(NamedTuple):
    """What a matching needs to know of a layer's neurons, in canonical order.

    Attributes:
        degrees: int32 (n,); incoming connections.
        colours: uint64 (n,), ascending; of equal neurons those of one colour are matched first.
    """

    degrees: NDArray[np.int32]
    colours: NDArray[np.uint64]


@compiled
def match_neurons(gains: Gains, a: Neurons, b: Neurons) -> tuple[float, NDArray[np.int64], float]:
    """Match the neurons of A with those of B at the least total Jaccard distance.

    Args:
        gains: of all pairs that gain something, as `gains.jaccard_gains` gives them.

    Returns:
        The layer's distance; (n_a,) the neuron of B for each of A's, UNMATCHED for none; how much
        smaller the distance of any other matching can be at most (the primal-dual gap).
    """
    n_a, n_b = len(a.degrees), len(b.degrees)
    matching = np.full(n_a, UNMATCHED, dtype=np.int64)
    prices = np.zeros(n_b)
    empty = _match_empty(a, b, matching, prices)
    _match_equal(gains, a, b, matching, prices)
    equal = matching != UNMATCHED
    assign_rest(gains, matching, prices)
    total = float(empty)
    for i in range(n_a):
        if matching[i] != UNMATCHED and a.degrees[i]:
            for k in range(gains.indptr[i], gains.indptr[i + 1]):
                if gains.indices[k] == matching[i]:
                    total += gains.values[k]
                    break
    larger = max(n_a, n_b)
    gap = max(0.0, empty + _certified(gains, equal, matching, prices) - total) / larger
    _match_rest(matching, n_b)
    return (larger - total) / larger, matching, gap


@compiled
def _match_empty(
    a: Neurons, b: Neurons, matching: NDArray[np.int64], prices: NDArray[np.float64]
) -> int:
    """Match neurons without any connection, first those of one colour; returns how many."""
    rows, columns = np.flatnonzero(a.degrees == 0), np.flatnonzero(b.degrees == 0)
    left = np.empty_like(columns)
    n_left = k = 0
    for j in columns:  # both come by ascending colour
        while k < len(rows) and a.colours[rows[k]] < b.colours[j]:
            k += 1
        if k < len(rows) and a.colours[rows[k]] == b.colours[j]:
            matching[rows[k]], prices[j] = j, np.inf
            k += 1
        else:
            left[n_left] = j
            n_left += 1
    k = 0
    for i in rows:
        if matching[i] == UNMATCHED and k < n_left:
            matching[i], prices[left[k]] = left[k], np.inf
            k += 1
    return min(len(rows), len(columns))


@compiled
def _match_equal(
    gains: Gains,
    a: Neurons,
    b: Neurons,
    matching: NDArray[np.int64],
    prices: NDArray[np.float64],
) -> None:
    """Match neurons with equal sets of connections: their gain is exactly 1."""
    for any_colour in (False, True):
        for i in range(len(matching)):
            if matching[i] != UNMATCHED:
                continue
            first = UNMATCHED
            for k in range(gains.indptr[i], gains.indptr[i + 1]):
                if gains.values[k] + gains.slack < 1.0:
                    break
                j = gains.indices[k]
                if (
                    gains.values[k] == 1.0
                    and prices[j] < np.inf
                    and (any_colour or a.colours[i] == b.colours[j])
                    and (first == UNMATCHED or j < first)
                ):
                    first = j
            if first != UNMATCHED:
                matching[i], prices[first] = first, np.inf


@compiled
def _certified(
    gains: Gains,
    equal: NDArray[np.bool_],
    matching: NDArray[np.int64],
    prices: NDArray[np.float64],
) -> float:
    """What no matching gains more than, among neurons with connections.

    Columns that were matched with equal rows get the prices that extend those of the others with
    slope 1 in the Jaccard distance, p_b = min(1, min_j p_j + d(b, j)): by the triangle inequality
    they leave the bound tight.
    """
    extended = prices.copy()
    for i in range(len(matching)):
        if equal[i]:
            price = 1.0
            for k in range(gains.indptr[i], gains.indptr[i + 1]):
                price = min(price, prices[gains.indices[k]] + 1.0 - gains.values[k])
            extended[matching[i]] = price if gains.indptr[i] < gains.indptr[i + 1] else 0.0
    return most_gain(gains, extended)


@compiled
def _match_rest(matching: NDArray[np.int64], n_b: int) -> None:
    """Match what gained nothing, in order, as long as there are neurons on both sides."""
    taken = np.zeros(n_b, dtype=np.bool_)
    for j in matching:
        if j != UNMATCHED:
            taken[j] = True
    j = 0
    for i in range(len(matching)):
        while j < n_b and taken[j]:
            j += 1
        if j < n_b and matching[i] == UNMATCHED:
            matching[i] = j
            j += 1
