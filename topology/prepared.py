"""One network's masks, prepared once for any number of comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from topology.compiled import compiled

_Number = TypeVar("_Number", bound=np.generic)


def read_only(values: NDArray[_Number]) -> NDArray[_Number]:
    """The same array, not to be written to.

    Arrays that come to a Ray worker are read-only, and a kernel compiled for one kind is compiled
    again for the other: so they are read-only everywhere.
    """
    values.flags.writeable = False
    return values


class Connections(NamedTuple):
    """Lists of connections, one a neuron: those of r are indices[indptr[r] : indptr[r + 1]].

    Attributes:
        indptr: int32 (rows + 1,).
        indices: int32 (connections,); sorted within a row.
    """

    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Layer:
    """One mask.

    Attributes:
        shape: (n_out, n_in).
        rows: each neuron's inputs: n_out lists.
        columns: the neurons that each input reaches: n_in + 1 lists, an empty one at the end, which
            stands for every input that the other network has and this one does not.
        in_group: inputs per neuron of the previous layer.
    """

    shape: tuple[int, int]
    rows: Connections
    columns: Connections
    in_group: int

    def __post_init__(self) -> None:
        for values in (*self.rows, *self.columns):
            read_only(values)

    @cached_property
    def degrees(self) -> NDArray[np.int32]:
        """(n_out,); incoming connections of each neuron."""
        return read_only(np.diff(self.rows.indptr))

    @property
    def nnz(self) -> int:
        """Connections present."""
        return len(self.rows.indices)

    @property
    def density(self) -> float:
        """Connections present over connections possible."""
        return self.nnz / (self.shape[0] * self.shape[1])

    @property
    def full(self) -> bool:
        """Every possible connection is present."""
        return self.nnz == self.shape[0] * self.shape[1]

    @cached_property
    def all_or_nothing(self) -> bool:
        """Each neuron has all inputs or none, so that the order of the inputs cannot matter."""
        return bool(np.isin(self.degrees, (0, self.shape[1])).all())

    @cached_property
    def bits(self) -> NDArray[np.uint64]:
        """(words, n_out): bit k & 63 of word k >> 6 is the connection from input k."""
        return read_only(_packed(self.rows, self.shape[1]))

    @property
    def mask(self) -> csr_array:
        """(n_out, n_in) bool."""
        data = np.ones(self.nnz, dtype=np.bool_)
        return csr_array((data, self.rows.indices, self.rows.indptr), shape=self.shape)


@dataclass(frozen=True, eq=False)
class Topology:
    """One network, prepared by `prepare`.

    Attributes:
        layers: first to last.
        forms: its canonical forms, once made, by `labelled_outputs` (see `canonical`).
    """

    layers: tuple[Layer, ...]
    forms: dict[bool, Any] = field(default_factory=dict)


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
        ValueError: no layers, a mask that is no matrix of zeros and ones or has 2**31 connections,
            layers that do not chain.
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
        layers.append(layer_of(rows, group))
    return Topology(tuple(layers))


def layer_of(rows: csr_array, in_group: int) -> Layer:
    """A layer from its (n_out, n_in) mask, whose rows are sorted and hold no zeros."""
    columns = rows.T.tocsr()
    return Layer(
        shape=(int(rows.shape[0]), int(rows.shape[1])),
        rows=Connections(_int32(rows.indptr), _int32(rows.indices)),
        columns=Connections(
            _int32(np.append(columns.indptr, columns.indptr[-1])), _int32(columns.indices)
        ),
        in_group=in_group,
    )


@compiled
def _packed(rows: Connections, n_in: int) -> NDArray[np.uint64]:
    n_out = len(rows.indptr) - 1
    bits = np.zeros(((n_in + 63) >> 6, n_out), dtype=np.uint64)
    for j in range(n_out):
        for k in rows.indices[rows.indptr[j] : rows.indptr[j + 1]]:
            bits[k >> 6, j] |= np.uint64(1) << np.uint64(k & 63)
    return bits


def _rows(mask: Any, index: int) -> csr_array:
    """The mask as sorted CSR without zeros."""
    if not issparse(mask):
        mask = np.asarray(mask)
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"the mask of layer {index} is no (n_out, n_in) matrix: {mask.shape}")
    if mask.dtype.kind not in "biuf":
        raise ValueError(f"the mask of layer {index} has no numbers in it: {mask.dtype}")
    check_format = getattr(mask, "check_format", None)  # of the compressed formats
    if check_format is not None:
        try:
            check_format(full_check=True)
        except ValueError as error:
            raise ValueError(f"the mask of layer {index} is damaged: {error}") from None
    rows = csr_array(mask, copy=True)  # the caller's arrays stay as they are
    rows.sum_duplicates()
    if not np.isin(rows.data, (0, 1)).all():
        raise ValueError(
            f"the mask of layer {index} holds other values than 0 and 1: for weights, pass w != 0"
        )
    rows.eliminate_zeros()
    rows.sort_indices()
    if rows.nnz > np.iinfo(np.int32).max:
        raise ValueError(f"the mask of layer {index} has {rows.nnz} connections: 2**31 or more")
    return rows.astype(np.bool_)


def _int32(values: NDArray[Any]) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, dtype=np.int32)
