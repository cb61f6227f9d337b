"""How much the incoming connections of two neurons overlap.

The cost of matching neuron i of A with neuron j of B is the Jaccard distance of the sets of their
incoming connections (Liu et al. 2020, arXiv 2006.14085, section 3):

    cost(i, j) = |A_i xor B_j| / |A_i or B_j|        0 when both are empty, 1 when disjoint

Both sizes follow from the degrees and from the number of common connections, which is an exact
integer: |or| = d_i + d_j - common, |xor| = |or| - common.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

# Above this product of two masks' densities a dense float32 product is faster than a sparse one:
# 4% on both sides. Measured, one thread: they meet at 3 to 5% from 200 to 2,000 neurons.
DENSE_PRODUCT = 1.5e-3


@dataclass(frozen=True, eq=False)
class Layer:
    """One mask, prepared once for any number of comparisons.

    Attributes:
        rows: int32 (n_out, n_in); a neuron's incoming connections, sorted.
        columns: int32 (n_in + 1, n_out); the transpose, and an empty row at its end, which stands
            for every input that the other network has and this one does not.
        degrees: float64 (n_out,); incoming connections of each neuron.
        in_group: inputs per neuron of the previous layer.
    """

    rows: csr_array
    columns: csr_array
    degrees: NDArray[np.float64]
    in_group: int

    @property
    def shape(self) -> tuple[int, int]:
        """(n_out, n_in)."""
        n_out, n_in = self.rows.shape
        return int(n_out), int(n_in)

    @property
    def density(self) -> float:
        """Connections present over connections possible."""
        n_out, n_in = self.shape
        return int(self.rows.nnz) / (n_out * n_in)

    @property
    def full(self) -> bool:
        """Every possible connection is present."""
        n_out, n_in = self.shape
        return int(self.rows.nnz) == n_out * n_in

    @cached_property
    def all_or_nothing(self) -> bool:
        """Each neuron has all inputs or none, so that the order of the inputs cannot matter."""
        return bool(np.isin(self.degrees, (0, self.shape[1])).all())

    @cached_property
    def dense(self) -> NDArray[np.float32]:
        """(n_out, n_in + 1) with the same empty input at its end; made when first needed."""
        n_out, n_in = self.shape
        dense = np.zeros((n_out, n_in + 1), dtype=np.float32)
        dense[:, :n_in] = self.rows.toarray()
        return dense


@dataclass(frozen=True, eq=False)
class Topology:
    """The layers of one network, first to last, prepared by `prepare`."""

    layers: tuple[Layer, ...]


def prepare(masks: Sequence[Any], in_group: Sequence[int] | None = None) -> Topology:
    """Everything about one network that its comparisons need, computed once.

    Args:
        masks: one (n_out, n_in) mask a layer, first layer first: dense arrays or scipy sparse, of
            booleans or of zeros and ones. Each layer's inputs come from the layer before: n_in is
            a multiple of its n_out, `in_group` consecutive inputs a neuron (1 between Linear
            layers, kh * kw for a convolution, h * w for Linear after flattening).
        in_group: one number a layer, checked against the shapes; None takes it from the shapes.
            The first layer's is not used: inputs carry labels.

    Raises:
        ValueError: no layers, a mask that is no matrix of zeros and ones, layers that do not chain.
    """
    if issparse(masks) or len(masks) == 0:
        raise ValueError("a topology is a sequence of masks, one (n_out, n_in) matrix a layer")
    if in_group is not None and len(in_group) != len(masks):
        raise ValueError(f"in_group has {len(in_group)} numbers for {len(masks)} layers")
    layers: list[Layer] = []
    for index, mask in enumerate(masks):
        rows = _rows(mask, index)
        n_in = rows.shape[1]
        group = 1
        if index > 0:
            before = layers[-1].shape[0]
            if n_in % before:
                raise ValueError(
                    f"layer {index} has {n_in} inputs, no multiple of the {before} neurons before"
                )
            group = n_in // before
            if in_group is not None and in_group[index] != group:
                raise ValueError(
                    f"layer {index} has {n_in} inputs for {before} neurons before: in_group is "
                    f"{group}, not {in_group[index]}"
                )
        degrees = np.diff(rows.indptr).astype(np.float64)
        layers.append(Layer(rows, _columns(rows), degrees, group))
    return Topology(tuple(layers))


def _rows(mask: Any, index: int) -> csr_array:
    """The mask as sorted int32 CSR."""
    if not issparse(mask):
        mask = np.asarray(mask)
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"the mask of layer {index} is no (n_out, n_in) matrix: {mask.shape}")
    if mask.dtype.kind not in "biuf":
        raise ValueError(f"the mask of layer {index} has no numbers in it: {mask.dtype}")
    rows = csr_array(mask, copy=True)  # the caller's arrays stay as they are
    rows.sum_duplicates()
    if not np.isin(rows.data, (0, 1)).all():
        raise ValueError(
            f"the mask of layer {index} holds other values than 0 and 1: for weights, pass w != 0"
        )
    rows.eliminate_zeros()
    rows.sort_indices()
    return rows.astype(np.int32)


def _columns(rows: csr_array) -> csr_array:
    """The transpose, with one empty row more."""
    n_out, n_in = rows.shape
    columns = rows.T.tocsr()
    indptr = np.append(columns.indptr, columns.indptr[-1])
    return csr_array((columns.data, columns.indices, indptr), shape=(n_in + 1, n_out))


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
    common = _relabelled(a, b, places) @ b.columns
    shape = (a.shape[0], b.shape[0])
    i = np.repeat(np.arange(shape[0]), np.diff(common.indptr))
    j = common.indices
    degrees = a.degrees[i] + b.degrees[j]
    costs = np.ones(shape)
    costs[i, j] = (degrees - 2 * common.data) / (degrees - common.data)
    costs[np.ix_(a.degrees == 0, b.degrees == 0)] = 0.0
    return costs


def _dense_costs(a: Layer, b: Layer, places: NDArray[np.int64]) -> NDArray[np.float64]:
    common = a.dense[:, : a.shape[1]] @ b.dense[:, places].T
    union: NDArray[np.float64] = a.degrees[:, np.newaxis] + b.degrees
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
    indices = places.astype(a.rows.indices.dtype)[a.rows.indices]
    shape = (a.shape[0], b.shape[1] + 1)
    return csr_array((a.rows.data, indices, a.rows.indptr), shape=shape)
