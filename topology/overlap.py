"""How much the incoming connections of two neurons overlap.

The cost of matching neuron i of A with neuron j of B is the Jaccard distance of the sets of their
incoming connections (Liu et al. 2020, arXiv 2006.14085, section 3):

    cost(i, j) = |A_i xor B_j| / |A_i or B_j|        0 when both are empty, 1 when disjoint

Both sizes follow from the degrees and from the number of common connections, which is an exact
integer: |or| = d_i + d_j - common, |xor| = |or| - common.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from topology.prepared import Layer

# Above this product of two masks' densities a dense float32 product is faster than a sparse one:
# 4% on both sides. Measured, one thread: they meet at 3 to 5% from 200 to 2,000 neurons.
DENSE_PRODUCT = 1.5e-3


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
    places = matching[:, np.newaxis] * in_group + np.arange(in_group)
    places[matching < 0] = n_in_b
    return places.ravel()


def jaccard_costs(a: Layer, b: Layer, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cost of matching any neuron of A with any neuron of B: (n_out of A, n_out of B).

    Bit for bit the float64 quotient |xor| / |or| of exact integers. `places` as `input_places`
    gives it.
    """
    if a.full and b.full and a.shape[1] == b.shape[1]:
        return np.zeros((a.shape[0], b.shape[0]))
    if a.density * b.density > DENSE_PRODUCT and a.shape[1] < 2**24:  # float32 is exact below
        return _dense_costs(a, b, places)
    return _sparse_costs(a, b, places)


def _sparse_costs(a: Layer, b: Layer, places: NDArray[np.int64]) -> NDArray[np.float64]:
    common = _relabelled(a, b, places) @ _padded(b).T
    shape = (a.shape[0], b.shape[0])
    i = np.repeat(np.arange(shape[0]), np.diff(common.indptr))
    j = common.indices
    degrees = a.degrees[i].astype(np.float64) + b.degrees[j]
    costs = np.ones(shape)
    costs[i, j] = (degrees - 2 * common.data) / (degrees - common.data)
    costs[np.ix_(a.degrees == 0, b.degrees == 0)] = 0.0
    return costs


def _dense_costs(a: Layer, b: Layer, places: NDArray[np.int64]) -> NDArray[np.float64]:
    common = (
        a.mask.toarray().astype(np.float32) @ _padded(b).toarray().astype(np.float32)[:, places].T
    )
    union = np.add(a.degrees[:, np.newaxis], b.degrees, dtype=np.float64)
    union -= common
    differ = union - common
    return np.divide(differ, union, out=np.zeros_like(union), where=union > 0)


def jaccard_in_place(a: Layer, b: Layer, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cost of each neuron of A with the neuron of the same index in B: (n_out,)."""
    n_out, n_in = b.shape
    if a.full and b.full and a.shape == b.shape:
        return np.zeros(n_out)
    a_row = np.repeat(np.arange(n_out), np.diff(a.rows.indptr))
    b_row = np.repeat(np.arange(n_out), np.diff(b.rows.indptr))
    # One number a connection; an input that B lacks has the place n_in, which no row of B holds.
    connections = a_row * (n_in + 1) + places[a.rows.indices]
    shared = np.isin(connections, b_row * (n_in + 1) + b.rows.indices, assume_unique=False)
    common = np.bincount(a_row[shared], minlength=n_out)
    union = a.degrees + b.degrees - common
    return np.divide(union - common, union, out=np.zeros(n_out), where=union > 0)


def _relabelled(a: Layer, b: Layer, places: NDArray[np.int64]) -> csr_array:
    """A's rows with B's numbers for the inputs: (n_out of A, n_in of B + 1)."""
    indices = places.astype(np.int32)[a.rows.indices]
    shape = (a.shape[0], b.shape[1] + 1)
    return csr_array((np.ones(a.nnz, np.int32), indices, a.rows.indptr), shape=shape)


def _padded(b: Layer) -> csr_array:
    shape = (b.shape[0], b.shape[1] + 1)
    return csr_array((np.ones(b.nnz, np.int32), b.rows.indices, b.rows.indptr), shape=shape)
