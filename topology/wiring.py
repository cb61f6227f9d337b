"""A whole network as a few flat arrays, and how well a matching of two networks fits.

The network's inputs and all neurons, layer after layer, are numbered through, so that kernels can
follow connections up and down. A matching of A with B is then one int64 array over A's numbers: the
number in B, or UNMATCHED. A neuron's similarity to its match is the Jaccard similarity of their
incoming connections (Liu et al. 2020, arXiv 2006.14085):

    f(I) = I / (d_a + d_b - I)        1 when both have none

with I the connections of A's neuron whose other end is matched with that of a connection of B's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.assignment import UNMATCHED
from topology.compiled import compiled
from topology.prepared import Layer

Matching = NDArray[np.int64]


class Wiring(NamedTuple):
    """A network's connections, over numbers of its inputs and neurons.

    Attributes:
        base: int64 (layers + 2,); the inputs are from base[0], layer l's neurons from base[l + 1].
        counted: bool (layers,); layers that are left out have no connections here.
        group: int64 (layers,); inputs of the layer per neuron of the layer before.
        in_ptr: int64 (numbers + 1,); the incoming connections of each number.
        in_key: int32 (connections,); which input of the layer, ascending.
        in_source: int32 (connections,); the neuron (or network input) behind it.
        in_offset: int32 (connections,); which of that neuron's inputs.
        key_base: int64 (layers + 1,); layer l's inputs are from key_base[l] in `out_ptr`.
        out_ptr: int64 (inputs of all layers + 1,); the outgoing connections of each input.
        out_target: int32 (connections,); the neurons that they lead to, ascending.
    """

    base: NDArray[np.int64]
    counted: NDArray[np.bool_]
    group: NDArray[np.int64]
    in_ptr: NDArray[np.int64]
    in_key: NDArray[np.int32]
    in_source: NDArray[np.int32]
    in_offset: NDArray[np.int32]
    key_base: NDArray[np.int64]
    out_ptr: NDArray[np.int64]
    out_target: NDArray[np.int32]


def wire(layers: Sequence[Layer], counted: Sequence[bool]) -> Wiring:
    """The layers as one; those that are not counted stay without connections."""
    sizes = [layers[0].shape[1], *(layer.shape[0] for layer in layers)]
    base = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    group = np.array([1, *(layer.in_group for layer in layers[1:])], dtype=np.int64)
    # The last list of `columns` stands for inputs that are not there.
    in_counts, out_counts = [np.zeros(sizes[0], dtype=np.int64)], []
    keys, sources, offsets, targets = [], [], [], []
    for index, layer in enumerate(layers):
        there = counted[index]
        in_counts.append(layer.degrees.astype(np.int64) * there)
        out_counts.append(np.diff(layer.columns.indptr[:-1]).astype(np.int64) * there)
        if there:
            keys.append(layer.rows.indices)
            sources.append(layer.rows.indices // group[index] + base[index])
            offsets.append(layer.rows.indices % group[index])
            targets.append(layer.columns.indices + base[index + 1])
    return Wiring(
        base=base,
        counted=np.array(counted, dtype=np.bool_),
        group=group,
        in_ptr=_pointers(np.concatenate(in_counts)),
        in_key=_joined(keys),
        in_source=_joined(sources),
        in_offset=_joined(offsets),
        key_base=_pointers(np.array([layer.shape[1] for layer in layers])),
        out_ptr=_pointers(np.concatenate(out_counts)),
        out_target=_joined(targets),
    )


def whole_matching(a: Wiring, b: Wiring, layers: Sequence[Matching]) -> Matching:
    """One matching a layer as one over all numbers; inputs stay in place."""
    n_in = int(a.base[1])
    numbers = [np.arange(n_in, dtype=np.int64)]
    for start, matching in zip(b.base[1:], layers, strict=False):
        numbers.append(np.where(matching >= 0, matching + start, UNMATCHED))
    return np.concatenate(numbers)


def layer_matchings(a: Wiring, b: Wiring, matching: Matching) -> list[Matching]:
    """The inverse of `whole_matching`."""
    parts = np.split(matching, a.base[1:-1])[1:]
    return [
        np.where(part >= 0, part - start, UNMATCHED)
        for part, start in zip(parts, b.base[1:], strict=False)
    ]


@compiled
def common_connections(
    a: Wiring, b: Wiring, matching: NDArray[np.int64], layer: int, common: NDArray[np.int64]
) -> float:
    """Count I for each neuron of a layer of A, in place; returns their summed similarity."""
    first = b.key_base[layer]
    marked = np.full(b.key_base[layer + 1] - first, UNMATCHED, dtype=np.int64)
    group, before = b.group[layer], b.base[layer]
    total = 0.0
    for i in range(a.base[layer + 1], a.base[layer + 2]):
        common[i] = 0
        j = matching[i]
        if j == UNMATCHED:
            continue
        for c in range(b.in_ptr[j], b.in_ptr[j + 1]):
            marked[b.in_key[c]] = j
        count = 0
        for c in range(a.in_ptr[i], a.in_ptr[i + 1]):
            p = matching[a.in_source[c]]
            if p != UNMATCHED and marked[(p - before) * group + a.in_offset[c]] == j:
                count += 1
        common[i] = count
        total += similarity(count, degree(a, i), degree(b, j))
    return total


@compiled
def total_similarity(a: Wiring, b: Wiring, matching: NDArray[np.int64]) -> float:
    """The similarities of all neurons of the counted layers: what a joint matching maximises."""
    common = np.empty(len(matching), dtype=np.int64)
    total = 0.0
    for layer in range(len(a.counted)):
        if a.counted[layer]:
            total += common_connections(a, b, matching, layer, common)
    return total


@compiled
def degree(wiring: Wiring, number: int) -> int:
    """Incoming connections."""
    return wiring.in_ptr[number + 1] - wiring.in_ptr[number]  # type: ignore[no-any-return]


@compiled
def similarity(common: int, degree_a: int, degree_b: int) -> float:
    """f(I)."""
    either = degree_a + degree_b - common
    return common / either if either else 1.0


def _pointers(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _joined(parts: Sequence[NDArray[np.integer]]) -> NDArray[np.int32]:
    if not parts:
        return np.empty(0, dtype=np.int32)
    return np.concatenate(parts).astype(np.int32)
