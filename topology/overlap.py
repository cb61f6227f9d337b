"""How much the incoming connections of two neurons overlap.

The cost of matching neuron i of A with neuron j of B is the Jaccard distance of the sets of their
incoming connections (Liu et al. 2020, arXiv 2006.14085, section 3):

    cost(i, j) = |A_i xor B_j| / |A_i or B_j|        0 when both are empty, 1 when disjoint

Both sizes follow from the degrees and from the number of common connections, which is an exact
integer: |or| = d_i + d_j - common, |xor| = |or| - common. The gain 1 - cost = common / |or| is
what an assignment solver works on: in sparse networks few pairs have any.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.prepared import Connections, Layer

# Above this geometric mean of two masks' densities counting the bits of packed masks is faster
# than a sparse product. Measured, one thread, 784 and 2,000 neurons: they meet at 2%.
DENSE = 0.02

# Neurons of B whose bits stay in the processor's cache while all of A pass by: 8 bytes a 64 inputs.
_NEURONS_AT_ONCE = 512


class Edges(NamedTuple):
    """The pairs of neurons that have connections in common, by neuron of A.

    Attributes:
        indptr: int64 (n_a + 1,).
        indices: int32 (pairs,); the neuron of B.
        common: int32 (pairs,); connections in common, at least 1.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    common: NDArray[np.int32]


def input_places(
    matching: NDArray[np.int64] | None, in_group: int, n_in: int, n_in_b: int
) -> NDArray[np.int64]:
    """Where each input of A lies among the inputs of B.

    Args:
        matching: (n,) the neuron of B's previous layer for each of A's, -1 for none; None when the
            inputs are the network's own, which carry labels.
        in_group: inputs per neuron of the previous layer.
        n_in: inputs of A.
        n_in_b: inputs of B; also the place of an input that B has nothing for.
    """
    if matching is None:
        return np.arange(n_in, dtype=np.int64)
    if in_group == 1:
        return np.where(matching < 0, n_in_b, matching)
    places = matching[:, np.newaxis] * in_group + np.arange(in_group)
    places[matching < 0] = n_in_b
    return places.ravel()


def is_dense(a: Layer, b: Layer) -> bool:
    """Whether `overlap_counts` is the faster way for this pair, `overlap_edges` otherwise."""
    return a.density * b.density > DENSE**2


@compiled
def overlap_edges(
    rows_a: Connections, columns_b: Connections, places: NDArray[np.int64], n_b: int
) -> Edges:
    """The pairs of neurons with common connections, as a sparse product (Gustavson 1978).

    Args:
        rows_a: each neuron of A's inputs.
        columns_b: the neurons of B that each input reaches, and an empty list at the end.
        places: as `input_places` gives them.
        n_b: neurons of B.
    """
    n_a = len(rows_a.indptr) - 1
    most = 0
    for i in range(n_a):
        products = 0
        for k in rows_a.indices[rows_a.indptr[i] : rows_a.indptr[i + 1]]:
            products += columns_b.indptr[places[k] + 1] - columns_b.indptr[places[k]]
        most += min(products, n_b)
    indptr = np.zeros(n_a + 1, dtype=np.int64)
    indices = np.empty(most, dtype=np.int32)
    common = np.empty(most, dtype=np.int32)
    count = np.zeros(n_b, dtype=np.int32)
    found = 0
    for i in range(n_a):
        for k in rows_a.indices[rows_a.indptr[i] : rows_a.indptr[i + 1]]:
            place = places[k]
            for j in columns_b.indices[columns_b.indptr[place] : columns_b.indptr[place + 1]]:
                if count[j] == 0:
                    indices[found] = j
                    found += 1
                count[j] += 1
        for edge in range(indptr[i], found):
            common[edge] = count[indices[edge]]
            count[indices[edge]] = 0
        indptr[i + 1] = found
    return Edges(indptr, indices[:found], common[:found])


def _popcount(typing_context: Any, word: Any) -> Any:
    """The number of bits that are set: LLVM's ctpop, which becomes one instruction."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ctpop = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(64)])
        return builder.call(ctpop, arguments)

    return types.uint64(types.uint64), build


popcount: Any = intrinsic(_popcount)


@compiled
def overlap_counts(
    rows_a: Connections, bits_b: NDArray[np.uint64], places: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Common connections of every pair, by counting bits: (n_a, n_b).

    Args:
        rows_a: each neuron of A's inputs.
        bits_b: (words, n_b), as `Layer.bits` gives them.
        places: as `input_places` gives them.
    """
    words, n_b = bits_b.shape
    n_a = len(rows_a.indptr) - 1
    bits_a = np.zeros((n_a, words), dtype=np.uint64)
    for i in range(n_a):
        for k in rows_a.indices[rows_a.indptr[i] : rows_a.indptr[i + 1]]:
            place = places[k]
            if place >> 6 < words:  # B may lack this input
                bits_a[i, place >> 6] |= np.uint64(1) << np.uint64(place & 63)
    counts = np.empty((n_a, n_b), dtype=np.int32)
    total = np.empty(_NEURONS_AT_ONCE, dtype=np.uint64)
    for begin in range(0, n_b, _NEURONS_AT_ONCE):
        end = min(begin + _NEURONS_AT_ONCE, n_b)
        for i in range(n_a):
            total[:] = 0
            for w in range(words):
                word = bits_a[i, w]
                if word:
                    part = bits_b[w, begin:end]
                    for j in range(len(part)):
                        total[j] += popcount(word & part[j])
            counts[i, begin:end] = total[: end - begin]
    return counts


def jaccard_of_matched(
    a: Layer, b: Layer, places: NDArray[np.int64], matching: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The cost of each neuron of A with the one of B that a matching gives it.

    Args:
        places: as `input_places` gives them.
        matching: (n_a,); the neuron of B, -1 for none.

    Returns:
        One cost for each neuron of A that has a match, in their order.
    """
    (n_b, n_in), matched = b.shape, matching >= 0
    a_row = np.repeat(matching, a.degrees)  # of B's neurons too
    b_row = np.repeat(np.arange(n_b), b.degrees)
    # One number a connection; an input that B lacks has the place n_in, which no row of B holds.
    connections = a_row * (n_in + 1) + places[a.rows.indices]
    shared = np.isin(connections[a_row >= 0], b_row * (n_in + 1) + b.rows.indices)
    common = np.bincount(a_row[a_row >= 0][shared], minlength=n_b)[matching[matched]]
    union = a.degrees[matched] + b.degrees[matching[matched]] - common
    costs: NDArray[np.float64] = np.divide(
        union - common, union, out=np.zeros(len(union)), where=union > 0
    )
    return costs
