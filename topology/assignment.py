"""Linear assignment: which neuron of B stands for which of A, at the least total cost.

With fewer neurons on one side, the surplus of the other side stays unmatched at cost 1 each (a
neuron that is not there shares no connection), and the distance is taken over the larger side:

    distance = (sum of the matched costs + surplus) / max(n_a, n_b)

It stays in [0, 1], is the mean matched cost for equal widths, and is 0 only for equal layers.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

UNMATCHED = -1


def assign(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The least costly matching: (n_a,) the column of each row, UNMATCHED for none.

    Ties fall as scipy's solver breaks them, which depends on the order of rows and columns.
    """
    rows, columns = linear_sum_assignment(costs)
    matching = np.full(costs.shape[0], UNMATCHED, dtype=np.int64)
    matching[rows] = columns
    return matching


def matched_distance(costs: NDArray[np.float64], matching: NDArray[np.int64]) -> float:
    """The layer's distance under a matching, as this module defines it."""
    matched = np.flatnonzero(matching != UNMATCHED)
    surplus = max(costs.shape) - len(matched)
    # numpy's sum over the matched costs, then one division: the order of the published code.
    return float((costs[matched, matching[matched]].sum() + surplus) / max(costs.shape))


def duality_gap(costs: NDArray[np.float64], matching: NDArray[np.int64]) -> float:
    """How far a matching can be from the optimum at most, in units of the layer's distance.

    By weak duality any prices p_j of the columns (p_j <= 0 for those that may stay unmatched)
    bound every matching's cost from below by  sum_i min_j (c_ij - p_j) + sum_j p_j.  Here the
    prices are shortest distances in the matching's exchange graph, which make the bound tight
    exactly for an optimal matching: the gap is 0 up to rounding if and only if it is optimal.
    The solver plays no part in it.
    """
    larger: int = max(costs.shape)
    if costs.shape[0] > costs.shape[1]:
        costs, matching = costs.T, _inverse(matching, costs.shape[1])
    matched_costs = costs[np.arange(len(matching)), matching]
    exchange = costs - matched_costs[:, np.newaxis]  # what row i pays to take column j instead
    prices = np.zeros(costs.shape[1])
    for _ in range(len(matching)):
        cheaper = (prices[matching][:, np.newaxis] + exchange).min(axis=0)
        cheaper = np.minimum(prices, cheaper)
        change = float((prices - cheaper).max())
        prices = cheaper
        if change <= np.finfo(float).eps:
            break
    bound = float((costs - prices).min(axis=1).sum() + prices.sum())
    total = float(matched_costs.sum())
    return max(0.0, total - bound) / larger


def _inverse(matching: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    inverse = np.full(n, UNMATCHED, dtype=np.int64)
    matched = np.flatnonzero(matching != UNMATCHED)
    inverse[matching[matched]] = matched
    return inverse
