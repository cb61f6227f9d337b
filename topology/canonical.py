"""The canonical form of a topology: its neurons in an order that follows from structure alone.

Two networks that are relabellings of each other (hidden neurons permuted, layer by layer) have
equal masks in it. Colour refinement tells nearly all neurons of a sparse network apart; what it
leaves is settled by a search within a budget. The search counts connections itself, so a collision
of the hashed colours costs time and never the result.
"""

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.labelling import canonical_order
from topology.partition import Graph
from topology.prepared import Connections, Layer, Topology, read_only
from topology.refinement import Colours, stable_colours

Order = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CanonicalForm:
    """A network with each layer's neurons in canonical order.

    Attributes:
        layers: the network's layers, rows and the next layer's inputs in canonical order. The
            network's own inputs carry labels and stay, as do labelled outputs.
        orders: per layer (n_out,); the original neuron at each canonical place.
        colours: per layer (n_out,) in canonical order; stable refinement colours. Equal colours,
            also of two networks, are neurons that refinement cannot tell apart.
        digest: SHA-256 of the canonical masks. Where both forms are exact, two digests are equal
            if and only if the networks are relabellings of each other.
        exact: the order follows from structure alone. False: the search's budget ran out, and some
            neurons stand in the order of their indices.
    """

    layers: tuple[Layer, ...]
    orders: tuple[Order, ...]
    colours: tuple[Colours, ...]
    digest: bytes
    exact: bool


def form_of(topology: Topology, labelled_outputs: bool) -> CanonicalForm:
    """The network in canonical order, made when it is first asked for and kept with it."""
    forms: dict[bool, CanonicalForm] = topology.forms
    if labelled_outputs not in forms:
        forms[labelled_outputs] = canonical_form(topology, labelled_outputs)
    return forms[labelled_outputs]


def canonical_form(topology: Topology, labelled_outputs: bool) -> CanonicalForm:
    """The network in canonical order.

    Args:
        topology: a network; its first layer's inputs carry labels.
        labelled_outputs: the last layer's neurons carry labels too: class c stays row c.
    """
    colours = stable_colours(topology, labelled_outputs)
    cells = _cells(colours, labelled_outputs)
    orders, exact = _orders(topology.layers, cells)
    layers = []
    before: Order | None = None
    for layer, order in zip(topology.layers, orders, strict=True):
        layers.append(_permuted(layer, order, before))
        before = order
    return CanonicalForm(
        layers=tuple(layers),
        orders=orders,
        colours=tuple(read_only(c[order]) for c, order in zip(colours, orders, strict=True)),
        digest=_digest(layers, labelled_outputs),
        exact=exact,
    )


def _cells(colours: tuple[Colours, ...], labelled_outputs: bool) -> list[Order]:
    """Each layer's neurons by cell: the number of neurons in cells before its own."""
    cells = []
    for index, layer in enumerate(colours):
        if labelled_outputs and index == len(colours) - 1:
            cells.append(np.arange(len(layer)))
        else:
            ascending = np.sort(layer)
            cells.append(np.searchsorted(ascending, layer).astype(np.int64))
    return cells


def _orders(layers: tuple[Layer, ...], cells: list[Order]) -> tuple[tuple[Order, ...], bool]:
    """Each layer's neurons by cell, and within a cell by what its connections decide."""
    single = [len(np.unique(cell)) == len(cell) for cell in cells]
    if all(single):
        return tuple(np.argsort(cell) for cell in cells), True
    n_in = layers[0].shape[1]
    starts = np.cumsum([0, n_in, *(layer.shape[0] for layer in layers)])
    inputs = np.arange(n_in)
    colours = np.concatenate([c + s for c, s in zip([inputs, *cells], starts[:-1], strict=True)])
    undecided = [
        not (one and below) for one, below in zip(single, [True, *single[:-1]], strict=True)
    ]
    graph = _graph(layers, starts, undecided)
    labels = max(layer.in_group for layer in layers)
    order, exact = canonical_order(graph, colours, labels)
    return tuple(order[i:j] - i for i, j in pairwise(starts[1:])), exact


def _graph(layers: tuple[Layer, ...], starts: Order, undecided: list[bool]) -> Graph:
    """Inputs and all neurons with their incoming connections, offsets as labels.

    Layers between neurons that are all decided have no connections in it, nor have full ones.
    """
    degrees = [np.zeros(layers[0].shape[1], dtype=np.int64)]
    ends = [np.empty(0, dtype=np.int32)]
    labels = [np.empty(0, dtype=np.int32)]
    for index, layer in enumerate(layers):
        if undecided[index] and not layer.full:
            degrees.append(layer.degrees.astype(np.int64))
            neurons, offsets = np.divmod(layer.rows.indices, np.int32(layer.in_group))
            ends.append(neurons + np.int32(starts[index]))
            labels.append(offsets)
        else:
            degrees.append(np.zeros(layer.shape[0], dtype=np.int64))
    return Graph(
        np.concatenate([[0], np.cumsum(np.concatenate(degrees))]),
        np.concatenate(ends),
        np.concatenate(labels),
    )


def _permuted(layer: Layer, order: Order, before: Order | None) -> Layer:
    """The layer with its neurons in this order, and its inputs in that of the layer before."""
    n_in = layer.shape[1]
    places = np.arange(n_in)
    if before is not None:
        group = layer.in_group
        inputs = (before[:, np.newaxis] * group + np.arange(group)).ravel()
        places[inputs] = np.arange(n_in)
    rows, columns = _permute(*layer.rows, order, places)
    return Layer(layer.shape, Connections(*rows), Connections(*columns), layer.in_group)


@compiled
def _permute(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    order: NDArray[np.int64],
    places: NDArray[np.int64],
) -> tuple[
    tuple[NDArray[np.int32], NDArray[np.int32]], tuple[NDArray[np.int32], NDArray[np.int32]]
]:
    """Rows and columns, both sorted; the columns with an empty one at the end."""
    n_out, n_in = len(order), len(places)
    rows = np.zeros(n_out + 1, dtype=np.int32)
    columns = np.zeros(n_in + 2, dtype=np.int32)
    for k in indices:
        columns[places[k] + 1] += 1
    for k in range(n_in + 1):
        columns[k + 1] += columns[k]
    free = columns[:-1].copy()
    reached = np.empty(len(indices), dtype=np.int32)
    for i in range(n_out):
        r = order[i]
        rows[i + 1] = rows[i] + indptr[r + 1] - indptr[r]
        for e in range(indptr[r], indptr[r + 1]):
            k = places[indices[e]]
            reached[free[k]] = i
            free[k] += 1
    unfilled = rows[:-1].copy()
    inputs = np.empty(len(indices), dtype=np.int32)
    for k in range(n_in):
        for e in range(columns[k], columns[k + 1]):
            i = reached[e]
            inputs[unfilled[i]] = k
            unfilled[i] += 1
    return (rows, inputs), (columns, reached)


def _digest(layers: list[Layer], labelled_outputs: bool) -> bytes:
    """SHA-256 of everything that two networks must share to be relabellings of each other."""
    digest = hashlib.sha256(bytes([labelled_outputs]))
    for layer in layers:
        digest.update(np.array([*layer.shape, layer.in_group], dtype="<i8").tobytes())
        digest.update(layer.rows.indptr.astype("<i4").tobytes())
        digest.update(layer.rows.indices.astype("<i4").tobytes())
    return digest.digest()
