"""What matching two neurons gains: 1 minus their Jaccard distance, for the pairs that gain at all.

    gain(i, j) = common / (d_i + d_j - common)

A solver wants a neuron's greatest gains first and stops where nothing better can follow. Sorting
would take longer than solving, so each row goes into buckets of nearly equal gains.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.overlap import Edges, is_dense, overlap_counts, overlap_edges
from topology.prepared import Layer

# Buckets between no gain and the greatest, for rows of few and of many pairs.
_FEW_BUCKETS, _MANY_BUCKETS = 64, 4096
_MANY_PAIRS = 256


class Gains(NamedTuple):
    """The pairs (i, j) of neurons of A and B that gain something, by i.

    Attributes:
        indptr: int64 (n_a + 1,).
        indices: int32 (pairs,); j.
        values: float64 (pairs,); the gain, above 0. Along a row it falls, but for `slack`.
        slack: no gain is greater by more than this than one before it in its row.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    slack: float


def jaccard_gains(a: Layer, b: Layer, places: NDArray[np.int64]) -> Gains:
    """The gains of all pairs of neurons of A and B that have a connection in common.

    Args:
        places: as `overlap.input_places` gives them.
    """
    if is_dense(a, b):
        return gains_of_counts(overlap_counts(a.rows, b.bits, places), a.degrees, b.degrees)
    edges = overlap_edges(a.rows, b.columns, places, b.shape[0])
    return gains_of_edges(edges, a.degrees, b.degrees)


@compiled
def gains_of_edges(
    edges: Edges, degrees_a: NDArray[np.int32], degrees_b: NDArray[np.int32]
) -> Gains:
    """The gains of the pairs that `overlap_edges` found."""
    indptr = edges.indptr.astype(np.int64)
    values = np.empty(len(edges.indices))
    for i in range(len(degrees_a)):
        for k in range(indptr[i], indptr[i + 1]):
            common = edges.common[k]
            values[k] = common / (degrees_a[i] + degrees_b[edges.indices[k]] - common)
    return by_falling_gain(indptr, edges.indices, values)


@compiled
def gains_of_counts(
    counts: NDArray[np.int32], degrees_a: NDArray[np.int32], degrees_b: NDArray[np.int32]
) -> Gains:
    """The gains of all pairs of neurons, given their (n_a, n_b) common connections."""
    n_a, n_b = counts.shape
    indptr = np.zeros(n_a + 1, dtype=np.int64)
    for i in range(n_a):
        indptr[i + 1] = indptr[i] + np.count_nonzero(counts[i])
    indices = np.empty(indptr[n_a], dtype=np.int32)
    values = np.empty(indptr[n_a])
    every = np.arange(n_b).astype(np.int32)
    row = np.empty(n_b)
    for i in range(n_a):
        begin, end = indptr[i], indptr[i + 1]
        for j in range(n_b):
            row[j] = counts[i, j] / max(1, degrees_a[i] + degrees_b[j] - counts[i, j])
        if end - begin == n_b:
            indices[begin:end] = every
            values[begin:end] = row
        else:
            for j in range(n_b):
                if counts[i, j]:
                    indices[begin], values[begin] = j, row[j]
                    begin += 1
    return by_falling_gain(indptr, indices, values)


@compiled
def by_falling_gain(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float64]
) -> Gains:
    """The pairs with each row in buckets of falling gain, those of one bucket in the order given.

    Args:
        values: above 0.
    """
    n_a = len(indptr) - 1
    buckets_in_all = _MANY_BUCKETS if len(values) > _MANY_PAIRS * n_a else _FEW_BUCKETS
    greatest = 1.0
    for value in values:
        greatest = max(greatest, value)
    scale = buckets_in_all / greatest
    gains = Gains(indptr, np.empty_like(indices), np.empty_like(values), 1.0 / scale)
    starts = np.zeros(buckets_in_all + 1, dtype=np.int64)
    buckets = np.empty(1, dtype=np.int32)
    for i in range(n_a):
        begin, n = indptr[i], indptr[i + 1] - indptr[i]
        if n == 0:
            continue
        if len(buckets) < n:
            buckets = np.empty(n, dtype=np.int32)
        least, most = np.int32(buckets_in_all), np.int32(0)
        for k in range(n):
            buckets[k] = (greatest - values[begin + k]) * scale
            least, most = min(least, buckets[k]), max(most, buckets[k])
        starts[least : most + 1] = 0
        for k in range(n):
            starts[buckets[k]] += 1
        start = begin
        for bucket in range(least, most + 1):
            size = starts[bucket]
            starts[bucket] = start
            start += size
        for k in range(n):
            at = starts[buckets[k]]
            starts[buckets[k]] += 1
            gains.indices[at], gains.values[at] = indices[begin + k], values[begin + k]
    return gains
