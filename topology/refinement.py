"""Colour refinement: what each neuron looks like from its connections, as far as they reach.

A neuron's colour mixes its own colour, the colours behind its incoming and those behind its
outgoing connections, again and again until no further neurons are told apart (1-dimensional
Weisfeiler-Leman). Inputs and labelled outputs start with their label. Two neurons, of one network
or of two, end with equal colours if and only if no number of rounds tells them apart (but for
collisions of 64-bit hashes, which the canonical form survives).

The number of rounds must not show in a colour, or a neuron would look different because something
it is not connected with needs more rounds. So neurons that are connected, inputs left out, are
refined until their own component is stable, and its colours are then mixed with the set of them
all. Two components with equal sets after equally many rounds, stable both, stay equal for ever:
the sets say which colour became which.

A round climbs through the layers and comes down again, so it reaches the whole depth of the
network.
"""

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.disjoint_sets import root_of, unite
from topology.prepared import Connections, Layer, Topology

Colours = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_OWN = np.uint64(0xD1342543DE82EF95)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@compiled
def mix(x: np.uint64) -> np.uint64:
    """A bijection of 64-bit words without visible structure (Steele et al. 2014, SplitMix64)."""
    x = np.uint64(x) + _GOLDEN
    x = (x ^ (x >> _S30)) * _FIRST
    x = (x ^ (x >> _S27)) * _SECOND
    return x ^ (x >> _S31)


def stable_colours(topology: Topology, labelled_outputs: bool) -> tuple[Colours, ...]:
    """(n_out,) a layer: each neuron's colour when refinement has nothing more to tell apart.

    Connections of one neuron at different offsets k % in_group count as different.
    """
    layers = topology.layers
    ends = np.cumsum([layer.shape[0] for layer in layers])
    colours = np.empty(ends[-1], dtype=np.uint64)
    views = np.split(colours, ends[:-1])  # one part a layer; they share memory
    for index, view in enumerate(views):
        labelled = labelled_outputs and index == len(layers) - 1
        _start(index, labelled, view)
    first = layers[0]
    everywhere = np.ones(ends[-1], dtype=np.bool_)
    _climb(first.rows, np.arange(first.shape[1], dtype=np.uint64), 1, everywhere, views[0])
    component = _components(layers, ends)
    depth = np.repeat(np.arange(len(layers)), [layer.shape[0] for layer in layers])
    order = np.lexsort((depth, component))
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (np.diff(component[order]) != 0) | (np.diff(depth[order]) != 0)
    grew = np.ones(len(order), dtype=np.bool_)
    _split(order, last, colours, component, grew)
    grew[:] = True
    while True:
        moving = grew[component]
        if not moving.any():
            break
        _round(layers, views, np.split(moving, ends[:-1]))
        grew[:] = False
        _split(order, last, colours, component, grew)
    _finish(order, last, colours, component)
    return tuple(views)


def _round(
    layers: tuple[Layer, ...], colours: list[Colours], moving: list[NDArray[np.bool_]]
) -> None:
    """Once through the layers and back, for the neurons that are not yet stable."""
    pairs = range(1, len(layers))
    for index in pairs:
        layer = layers[index]
        below = colours[index - 1]
        _climb(layer.rows, below, layer.in_group, moving[index], colours[index])
    for index in reversed(pairs):
        layer = layers[index]
        above = colours[index]
        _come_down(layer.columns, above, layer.in_group, moving[index - 1], colours[index - 1])


def _components(layers: tuple[Layer, ...], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each neuron the least neuron that it is connected with through neurons."""
    parent = np.arange(ends[-1])
    for index in range(1, len(layers)):
        layer = layers[index]
        below = ends[index - 1] - layers[index - 1].shape[0]
        _join(layer.rows, layer.in_group, below, ends[index - 1], parent)
    _flatten(parent)
    return parent


@compiled
def _start(index: int, labelled: bool, colours: NDArray[np.uint64]) -> None:
    salt = mix(np.uint64(index))
    for i in range(len(colours)):
        colours[i] = mix(salt + np.uint64(i + 1)) if labelled else salt


@compiled
def _climb(
    rows: Connections,
    below: NDArray[np.uint64],
    in_group: int,
    moving: NDArray[np.bool_],
    colours: NDArray[np.uint64],
) -> None:
    """Mix the multiset of (colour, offset) of the incoming connections into each moving neuron."""
    behind = np.empty(len(below) * in_group, dtype=np.uint64)
    for offset in range(in_group):
        salt = mix(np.uint64(2 * offset))
        for i in range(len(below)):
            behind[i * in_group + offset] = mix(below[i] ^ salt)
    for r in range(len(colours)):
        if moving[r]:
            total = np.uint64(0)
            for k in rows.indices[rows.indptr[r] : rows.indptr[r + 1]]:
                total += behind[k]
            colours[r] = mix(colours[r] * _OWN + total)


@compiled
def _come_down(
    columns: Connections,
    above: NDArray[np.uint64],
    in_group: int,
    moving: NDArray[np.bool_],
    colours: NDArray[np.uint64],
) -> None:
    """Mix the multiset of (colour, offset) of the outgoing connections into each moving neuron."""
    behind = np.empty(len(above), dtype=np.uint64)
    for r in range(len(above)):
        behind[r] = mix(~above[r])
    for i in range(len(colours)):
        if moving[i]:
            total = np.uint64(0)
            for offset in range(in_group):
                k = i * in_group + offset
                reached = np.uint64(0)
                for r in columns.indices[columns.indptr[k] : columns.indptr[k + 1]]:
                    reached += behind[r]
                total += mix(reached ^ mix(np.uint64(2 * offset + 1)))
            colours[i] = mix(colours[i] * _OWN + total)


@compiled
def _split(
    order: NDArray[np.int64],
    last: NDArray[np.bool_],
    colours: NDArray[np.uint64],
    component: NDArray[np.int64],
    grew: NDArray[np.bool_],
) -> None:
    """Split each class of neurons (a stretch of `order` up to a `last`) of several colours."""
    begin = 0
    for end in range(len(order)):
        if not last[end]:
            continue
        stretch = order[begin : end + 1]
        same = True
        for i in range(1, len(stretch)):
            same &= colours[stretch[i]] == colours[stretch[0]]
        if not same:
            by_colour = stretch[np.argsort(colours[stretch])]
            for i in range(len(stretch) - 1):
                if colours[by_colour[i]] != colours[by_colour[i + 1]]:
                    last[begin + i] = True
            stretch[:] = by_colour
            grew[component[stretch[0]]] = True
        begin = end + 1


@compiled
def _finish(
    order: NDArray[np.int64],
    last: NDArray[np.bool_],
    colours: NDArray[np.uint64],
    component: NDArray[np.int64],
) -> None:
    """Mix the set of a component's colours into each of them."""
    sets = np.zeros(len(order), dtype=np.uint64)
    for i in range(len(order)):
        if last[i]:
            sets[component[order[i]]] += mix(colours[order[i]])
    for v in range(len(order)):
        colours[v] = mix(colours[v] * _OWN + sets[component[v]])


@compiled
def _join(
    rows: Connections, in_group: int, below: int, above: int, parent: NDArray[np.int64]
) -> None:
    """Unite each neuron, counted from `above`, with those it is connected to, from `below`."""
    for r in range(len(rows.indptr) - 1):
        for k in rows.indices[rows.indptr[r] : rows.indptr[r + 1]]:
            unite(parent, above + r, below + k // in_group)


@compiled
def _flatten(parent: NDArray[np.int64]) -> None:
    for v in range(len(parent)):
        parent[v] = root_of(parent, v)
