"""What the paper's published code computes, bit for bit.

The full matrix of Jaccard distances in float64, each the quotient of exact integers, and scipy's
solver, whose choice among equally good matchings decides the deeper layers and depends on the order
of the neurons.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from topology.assignment import UNMATCHED
from topology.compiled import compiled
from topology.gains import jaccard_gains
from topology.matching import Neurons, match_neurons
from topology.overlap import Edges, is_dense, overlap_counts, overlap_edges
from topology.prepared import Layer


def match_as_published(
    a: Layer, b: Layer, places: NDArray[np.int64]
) -> tuple[float, NDArray[np.int64]]:
    """Match two layers' neurons as the published code does.

    Returns:
        The layer's distance; (n_a,) the neuron of B for each of A's, UNMATCHED for none.
    """
    costs = jaccard_costs(a, b, places)
    rows, columns = linear_sum_assignment(costs)
    matching = np.full(len(costs), UNMATCHED, dtype=np.int64)
    matching[rows] = columns
    surplus = max(costs.shape) - len(rows)
    # numpy's sum over the matched costs, then one division: the order of the published code.
    return float((costs[rows, columns].sum() + surplus) / max(costs.shape)), matching


def certified_least(a: Layer, b: Layer, places: NDArray[np.int64]) -> float:
    """A distance that no matching of the two layers goes below, by our own solver's dual."""
    neurons = [Neurons(x.degrees, np.zeros(x.shape[0], dtype=np.uint64)) for x in (a, b)]
    distance, _, gap = match_neurons(jaccard_gains(a, b, places), *neurons)
    return float(distance - gap)


def jaccard_costs(a: Layer, b: Layer, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cost of matching any neuron of A with any of B: (n_a, n_b).

    Args:
        places: as `overlap.input_places` gives them.
    """
    if is_dense(a, b):
        counts = overlap_counts(a.rows, b.bits, places)
        return _costs_of_counts(counts, a.degrees, b.degrees)
    edges = overlap_edges(a.rows, b.columns, places, b.shape[0])
    costs = _costs_of_edges(edges, a.degrees, b.degrees)
    costs[np.ix_(a.degrees == 0, b.degrees == 0)] = 0.0
    return costs


@compiled
def _costs_of_edges(
    edges: Edges, degrees_a: NDArray[np.int32], degrees_b: NDArray[np.int32]
) -> NDArray[np.float64]:
    costs = np.ones((len(degrees_a), len(degrees_b)))
    for i in range(len(degrees_a)):
        for k in range(edges.indptr[i], edges.indptr[i + 1]):
            j = edges.indices[k]
            union = degrees_a[i] + degrees_b[j] - edges.common[k]
            costs[i, j] = (union - edges.common[k]) / union
    return costs


@compiled
def _costs_of_counts(
    counts: NDArray[np.int32], degrees_a: NDArray[np.int32], degrees_b: NDArray[np.int32]
) -> NDArray[np.float64]:
    costs = np.empty(counts.shape)
    for i in range(len(degrees_a)):
        for j in range(len(degrees_b)):
            union = degrees_a[i] + degrees_b[j] - counts[i, j]
            costs[i, j] = (union - counts[i, j]) / max(1, union)  # two empty sets: 0
    return costs
