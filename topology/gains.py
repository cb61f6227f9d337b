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


class _Buckets(NamedTuple):
    """Room for sorting a row.

    Attributes:
        starts: (buckets + 1,); where each bucket begins.
        of_pair: (pairs of the longest row,); the bucket of each pair.
    """

    starts: NDArray[np.int64]
    of_pair: NDArray[np.int32]


@compiled
def gains_of_edges(
    edges: Edges, degrees_a: NDArray[np.int32], degrees_b: NDArray[np.int32]
) -> Gains:
    """The gains of the pairs that `overlap_edges` found."""
    gains, buckets = _room(edges.indptr, len(degrees_b), 1.0)
    row = np.empty(len(degrees_b))
    for i in range(len(degrees_a)):
        begin, end = edges.indptr[i], edges.indptr[i + 1]
        for k in range(begin, end):
            common = edges.common[k]
            row[k - begin] = common / (degrees_a[i] + degrees_b[edges.indices[k]] - common)
        _place_row(gains, buckets, begin, edges.indices[begin:end], row)
    return gains


@compiled
def gains_of_counts(
    counts: NDArray[np.int32], degrees_a: NDArray[np.int32], degrees_b: NDArray[np.int32]
) -> Gains:
    """The gains of all pairs of neurons, given their (n_a, n_b) common connections."""
    n_a, n_b = counts.shape
    indptr = np.zeros(n_a + 1, dtype=np.int64)
    for i in range(n_a):
        indptr[i + 1] = indptr[i] + np.count_nonzero(counts[i])
    gains, buckets = _room(indptr, n_b, 1.0)
    columns = np.arange(n_b).astype(np.int32)
    row = np.empty(n_b)
    for i in range(n_a):
        for j in range(n_b):
            row[j] = counts[i, j] / max(1, degrees_a[i] + degrees_b[j] - counts[i, j])
        if indptr[i + 1] - indptr[i] == n_b:
            _place_row(gains, buckets, indptr[i], columns, row)
        else:
            found = np.flatnonzero(counts[i])
            _place_row(gains, buckets, indptr[i], found.astype(np.int32), row[found])
    return gains


@compiled
def by_falling_gain(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float64]
) -> Gains:
    """Any pairs, given by row, with each row by falling gain; equal ones stay in the order given.

    Args:
        values: above 0.
    """
    greatest, longest = 1.0, 0
    for value in values:
        greatest = max(greatest, value)
    for i in range(len(indptr) - 1):
        longest = max(longest, indptr[i + 1] - indptr[i])
    gains, buckets = _room(indptr, longest, greatest)
    for i in range(len(indptr) - 1):
        begin, end = indptr[i], indptr[i + 1]
        _place_row(gains, buckets, begin, indices[begin:end], values[begin:end])
    return gains


@compiled
def _room(indptr: NDArray[np.int64], longest: int, greatest: float) -> tuple[Gains, _Buckets]:
    """Room for the pairs, and for sorting rows of up to `longest` pairs."""
    n_pairs = indptr[-1]
    n_buckets = _MANY_BUCKETS if n_pairs > _MANY_PAIRS * (len(indptr) - 1) else _FEW_BUCKETS
    slack = greatest / n_buckets
    gains = Gains(indptr, np.empty(n_pairs, dtype=np.int32), np.empty(n_pairs), slack)
    starts = np.zeros(n_buckets + 1, dtype=np.int64)
    return gains, _Buckets(starts, np.empty(longest, dtype=np.int32))


@compiled
def _place_row(
    gains: Gains,
    buckets: _Buckets,
    begin: int,
    columns: NDArray[np.int32],
    values: NDArray[np.float64],
) -> None:
    """Write a row's pairs from `begin` on, those of the bucket of the greatest gains first."""
    starts, of_pair = buckets.starts, buckets.of_pair
    top = len(starts) - 1
    scale = 1.0 / gains.slack
    least, most = np.int32(top), np.int32(0)
    for k in range(len(columns)):
        of_pair[k] = np.int32(top - values[k] * scale)
        least, most = min(least, of_pair[k]), max(most, of_pair[k])
    starts[least : most + 1] = 0
    for k in range(len(columns)):
        starts[of_pair[k]] += 1
    start = begin
    for bucket in range(least, most + 1):
        size = starts[bucket]
        starts[bucket] = start
        start += size
    for k in range(len(columns)):
        at = starts[of_pair[k]]
        starts[of_pair[k]] = at + 1
        gains.indices[at], gains.values[at] = columns[k], values[k]
