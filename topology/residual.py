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
from topology.partition import Colouring, Graph
from topology.refinement import root_of


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
    above, below, label = _non_trivial(*graph, *colouring, labels)
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


@compiled
def _non_trivial(
    indptr: NDArray[np.int64],
    ends: NDArray[np.int32],
    labels: NDArray[np.int32],
    order: NDArray[np.int64],
    rank: NDArray[np.int64],
    size: NDArray[np.int64],
    n_labels: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """(upper vertex, lower vertex, label) of each connection left.

    Cells are counted by their first place; a connection goes from a higher place to a lower one.
    """
    n = len(order)
    above = np.empty(len(ends), dtype=np.int32)
    below = np.empty(len(ends), dtype=np.int32)
    label = np.empty(len(ends), dtype=np.int32)
    left = 0
    count = np.zeros(n * n_labels, dtype=np.int64)
    seen = np.full(n * n_labels, -1, dtype=np.int64)
    keys = np.empty(n * n_labels, dtype=np.int64)
    begin = 0
    while begin < n:
        many = size[begin]
        end = begin + many
        n_keys = 0
        for i in range(begin, end):
            u = order[i]
            for e in range(indptr[u], indptr[u + 1]):
                cell = rank[ends[e]]
                if cell < begin and (many > 1 or size[cell] > 1):
                    key = cell * n_labels + labels[e]
                    if count[key] == 0:
                        keys[n_keys] = key
                        n_keys += 1
                    count[key] += 1
        kept = 0
        inverted = 0
        for j in range(n_keys):
            key = keys[j]
            possible = many * size[key // n_labels]
            if count[key] == possible:
                count[key] = 0
            elif 2 * count[key] > possible:
                count[key] = 0
                keys[inverted] = key
                inverted += 1
            else:
                kept += 1
        for i in range(begin, end):
            u = order[i]
            if kept == 0 and inverted == 0:
                break
            for e in range(indptr[u], indptr[u + 1]):
                w = ends[e]
                if rank[w] < begin and (many > 1 or size[rank[w]] > 1):
                    seen[w * n_labels + labels[e]] = u
                    if count[rank[w] * n_labels + labels[e]] > 0:
                        above[left] = u
                        below[left] = w
                        label[left] = labels[e]
                        left += 1
            for j in range(inverted):
                cell = keys[j] // n_labels
                offset = keys[j] % n_labels
                for k in range(cell, cell + size[cell]):
                    w = order[k]
                    if seen[w * n_labels + offset] != u:
                        above[left] = u
                        below[left] = w
                        label[left] = offset
                        left += 1
        if kept > 0:
            for i in range(begin, end):
                u = order[i]
                for e in range(indptr[u], indptr[u + 1]):
                    count[rank[ends[e]] * n_labels + labels[e]] = 0
        begin = end
    return above[:left], below[:left], label[:left]


@compiled
def _connected(above: NDArray[np.int32], below: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """For each vertex the least one that it is connected with, -1 where it has no connections."""
    parent = np.arange(n)
    alone = np.ones(n, dtype=np.bool_)
    for e in range(len(above)):
        alone[above[e]] = False
        alone[below[e]] = False
        a = root_of(parent, above[e])
        b = root_of(parent, below[e])
        parent[max(a, b)] = min(a, b)
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
def reading_of(
    indptr: NDArray[np.int64],
    ends: NDArray[np.int32],
    labels: NDArray[np.int32],
    order: NDArray[np.int64],
    n_labels: int,
) -> NDArray[np.int64]:
    """The graph written down in this order: equal for two graphs only if they are the same.

    For each vertex in turn the number of its connections to vertices before it, and those, each as
    place * n_labels + label, ascending.
    """
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
