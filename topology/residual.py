"""What a colouring leaves undecided: connections between neurons that look the same.

Between two cells (vertices of one colour) and for one label, either all pairs are connected, or
none, or the relation is non-trivial. Only non-trivial relations can tell the vertices of a cell
apart; one that is over half full is replaced by its complement, which carries the same. What
remains falls apart into connected parts, and those can be ordered one by one.

All of it rests on counted connections, never on the quality of a hash.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.disjoint_sets import root_of, unite
from topology.partition import Colouring, Graph


class Part(NamedTuple):
    """A connected part of a residual graph, its vertices renumbered in the order of their colours.

    Attributes:
        vertices: (n,) in the whole.
        colours: (n,) in the whole, ascending.
        graph: their connections.
    """

    vertices: NDArray[np.int64]
    colours: NDArray[np.int64]
    graph: Graph


def residual_parts(graph: Graph, colouring: Colouring, labels: int) -> list[Part]:
    """The connected parts of the non-trivial relations; vertices in none of them have no part.

    Each connection may stand in `graph` at its higher vertex alone or at both.
    """
    above, below, label = _non_trivial(graph, colouring, labels)
    if len(above) == 0:
        return []
    part = _connected(above, below, len(colouring.order))
    vertices = np.flatnonzero(part >= 0)
    vertices = vertices[np.lexsort((colouring.rank[vertices], part[vertices]))]
    place = np.empty(len(part), dtype=np.int32)
    place[vertices] = np.arange(len(vertices))
    whole = _both_ways(place[above], place[below], label, len(vertices))
    colours = colouring.rank[vertices]
    bounds = np.flatnonzero(np.diff(part[vertices])) + 1
    stretches = zip([0, *bounds.tolist()], [*bounds.tolist(), len(vertices)], strict=True)
    return [Part(vertices[i:j], colours[i:j], _stretch(whole, i, j)) for i, j in stretches]


def _stretch(graph: Graph, begin: int, end: int) -> Graph:
    """The graph on the vertices begin..end - 1, which are connected with no others."""
    first, last = graph.indptr[begin], graph.indptr[end]
    return Graph(
        graph.indptr[begin : end + 1] - first,
        graph.ends[first:last] - begin,
        graph.labels[first:last],
    )


class _Relations(NamedTuple):
    """The relations of one cell with those before it; each has the key cell * n_labels + label.

    Attributes:
        keys: the relations there are, in the first places.
        counts: by key, the connections of a relation; 0 for those that are not there.
        seen: by vertex * n_labels + label, the last vertex that had this connection.
    """

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    seen: NDArray[np.int64]


class _Connections(NamedTuple):
    """Connections from a vertex of a higher cell to one of a lower cell."""

    above: NDArray[np.int32]
    below: NDArray[np.int32]
    label: NDArray[np.int32]


@compiled
def _non_trivial(graph: Graph, colouring: Colouring, n_labels: int) -> _Connections:
    """The connections left; cells are counted by their first place."""
    n, most = len(colouring.order), len(graph.ends)  # a complement has no more than there were
    left = _Connections(
        np.empty(most, dtype=np.int32),
        np.empty(most, dtype=np.int32),
        np.empty(most, dtype=np.int32),
    )
    relations = _Relations(
        np.empty(n * n_labels, dtype=np.int64),
        np.zeros(n * n_labels, dtype=np.int64),
        np.full(n * n_labels, -1),
    )
    n_left = 0
    cell = 0
    while cell < n:
        n_keys = _count(graph, colouring, n_labels, cell, relations)
        kept, inverted = _classify(colouring, n_labels, cell, relations, n_keys)
        if kept or inverted:
            n_left = _take(graph, colouring, n_labels, cell, relations, inverted, left, n_left)
        for key in relations.keys[:n_keys]:
            relations.counts[key] = 0
        cell += colouring.size[cell]
    return _Connections(left.above[:n_left], left.below[:n_left], left.label[:n_left])


@compiled
def _count(
    graph: Graph, colouring: Colouring, n_labels: int, cell: int, relations: _Relations
) -> int:
    """Count a cell's connections with each cell before it; returns how many relations there are.

    Two vertices that are alone in their cells are left out: their relation is trivial.
    """
    keys, counts = relations.keys, relations.counts
    many = colouring.size[cell]
    n_keys = 0
    for u in colouring.order[cell : cell + many]:
        for e in range(graph.indptr[u], graph.indptr[u + 1]):
            other = colouring.rank[graph.ends[e]]
            if other < cell and (many > 1 or colouring.size[other] > 1):
                key = other * n_labels + graph.labels[e]
                if counts[key] == 0:
                    keys[n_keys] = key
                    n_keys += 1
                counts[key] += 1
    return n_keys


@compiled
def _classify(
    colouring: Colouring, n_labels: int, cell: int, relations: _Relations, n_keys: int
) -> tuple[int, int]:
    """How many relations of a cell are kept as they are, and how many as their complement.

    The latter come to the front of the keys; only those that are kept keep their counts.
    """
    keys, counts = relations.keys, relations.counts
    kept, inverted = 0, 0
    for k in range(n_keys):
        key = keys[k]
        possible = colouring.size[cell] * colouring.size[key // n_labels]
        if 2 * counts[key] <= possible:
            kept += 1
            continue
        if counts[key] < possible:
            keys[k], keys[inverted] = keys[inverted], key
            inverted += 1
        counts[key] = 0
    return kept, inverted


@compiled
def _take(
    graph: Graph,
    colouring: Colouring,
    n_labels: int,
    cell: int,
    relations: _Relations,
    inverted: int,
    left: _Connections,
    n_left: int,
) -> int:
    """Write down what is left of a cell's relations; returns how many connections there are now."""
    for u in colouring.order[cell : cell + colouring.size[cell]]:
        for e in range(graph.indptr[u], graph.indptr[u + 1]):
            w, label = graph.ends[e], graph.labels[e]
            relations.seen[w * n_labels + label] = u
            if relations.counts[colouring.rank[w] * n_labels + label] > 0:
                left.above[n_left], left.below[n_left], left.label[n_left] = u, w, label
                n_left += 1
        for key in relations.keys[:inverted]:
            other, label = key // n_labels, key % n_labels
            for w in colouring.order[other : other + colouring.size[other]]:
                if relations.seen[w * n_labels + label] != u:
                    left.above[n_left], left.below[n_left], left.label[n_left] = u, w, label
                    n_left += 1
    return n_left


@compiled
def _connected(above: NDArray[np.int32], below: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """For each vertex the least one that it is connected with, -1 where it has no connections."""
    parent = np.arange(n)
    alone = np.ones(n, dtype=np.bool_)
    for e in range(len(above)):
        alone[above[e]] = False
        alone[below[e]] = False
        unite(parent, above[e], below[e])
    for v in range(n):
        parent[v] = -1 if alone[v] else root_of(parent, v)
    return parent


@compiled
def _both_ways(
    above: NDArray[np.int32], below: NDArray[np.int32], label: NDArray[np.int32], n: int
) -> Graph:
    """Each connection at both of its vertices."""
    indptr = np.zeros(n + 1, dtype=np.int64)
    for e in range(len(above)):
        indptr[above[e] + 1] += 1
        indptr[below[e] + 1] += 1
    indptr = np.cumsum(indptr)
    free = indptr[:-1].copy()
    ends = np.empty(2 * len(above), dtype=np.int32)
    labels = np.empty(2 * len(above), dtype=np.int32)
    for e in range(len(above)):
        a, b = above[e], below[e]
        ends[free[a]] = b
        labels[free[a]] = label[e]
        free[a] += 1
        ends[free[b]] = a
        labels[free[b]] = label[e]
        free[b] += 1
    return Graph(indptr, ends, labels)


@compiled
def reading_of(graph: Graph, order: NDArray[np.int64], n_labels: int) -> NDArray[np.int64]:
    """The graph written down in this order: equal for two graphs only if they are the same.

    For each vertex in turn the number of its connections to vertices before it, and those, each as
    place * n_labels + label, ascending.

    Args:
        graph: each connection at both of its vertices.
        order: (n,) the vertices.
        n_labels: labels are below this.
    """
    indptr, ends, labels = graph
    n = len(order)
    place = np.empty(n, dtype=np.int64)
    for i in range(n):
        place[order[i]] = i
    begin = np.zeros(n + 1, dtype=np.int64)
    for i in range(n):
        v = order[i]
        before = 0
        for e in range(indptr[v], indptr[v + 1]):
            before += place[ends[e]] < i
        begin[i + 1] = begin[i] + 1 + before
    text = np.empty(begin[n], dtype=np.int64)
    free = begin[:-1].copy()
    for i in range(n):
        text[begin[i]] = begin[i + 1] - begin[i] - 1
        free[i] += 1
    for i in range(n):
        v = order[i]
        for e in range(indptr[v], indptr[v + 1]):
            j = place[ends[e]]
            if j > i:
                key = i * n_labels + labels[e]
                at = free[j]
                while at > begin[j] + 1 and text[at - 1] > key:  # labels of one pair
                    text[at] = text[at - 1]
                    at -= 1
                text[at] = key
                free[j] += 1
    return text
