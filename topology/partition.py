"""A graph's vertices in cells of equal colour, and finer cells.

Cells stand in an order that follows from structure alone, and a split keeps the parts of a cell
together, so the place where a cell begins is a colour that two isomorphic graphs agree on.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.refinement import mix


class Graph(NamedTuple):
    """Vertices and the labelled neighbours of each: those of v are ends[indptr[v] : indptr[v + 1]].

    Neighbours have different colours; a connection goes from the vertex in the lower cell to the
    one in the higher cell. Two vertices may be connected several times, by different labels.
    """

    indptr: NDArray[np.int64]
    ends: NDArray[np.int32]
    labels: NDArray[np.int32]


class Colouring(NamedTuple):
    """Vertices in cells.

    Attributes:
        order: (n,) the vertices cell by cell.
        rank: (n,) where the vertex' cell begins in `order`: its colour.
        size: (n,) vertices of the cell that begins here, for those places where one does.
    """

    order: NDArray[np.int64]
    rank: NDArray[np.int64]
    size: NDArray[np.int64]

    @property
    def discrete(self) -> bool:
        """Every vertex has a colour of its own."""
        return bool((self.rank[self.order] == np.arange(len(self.order))).all())


def colouring_of(colours: NDArray[np.int64]) -> Colouring:
    """Cells of equal colour, in the order of the colours."""
    order = np.argsort(colours, kind="stable")
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = colours[order][1:] != colours[order][:-1]
    first = np.flatnonzero(begins)
    sizes = np.diff(np.append(first, len(order)))
    size = np.zeros(len(order), dtype=np.int64)
    size[first] = sizes
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.repeat(first, sizes)
    return Colouring(order, rank, size)


def finer_by(colouring: Colouring, marks: NDArray[np.uint64]) -> Colouring:
    """The cells split by a mark on each vertex, lower marks first."""
    order = np.lexsort((marks, colouring.rank))
    begins = np.ones(len(order), dtype=np.int64)
    same = colouring.rank[order][1:] == colouring.rank[order][:-1]
    begins[1:] = ~(same & (marks[order][1:] == marks[order][:-1]))
    colours = np.empty(len(order), dtype=np.int64)
    colours[order] = np.cumsum(begins)
    return colouring_of(colours)


def largest_cell(colouring: Colouring) -> NDArray[np.int64]:
    """The vertices of the largest cell, the first such one."""
    begin = int(np.argmax(np.bincount(colouring.rank)))
    return colouring.order[begin : begin + colouring.size[begin]].copy()


def label_salts(labels: int) -> NDArray[np.uint64]:
    """An odd factor for each label."""
    return np.array([int(mix(np.uint64(label))) | 1 for label in range(labels)], dtype=np.uint64)


def with_own_colour(colouring: Colouring, v: int) -> Colouring:
    """A copy in which v has left its cell for one of its own, just behind."""
    finer = Colouring(*(array.copy() for array in colouring))
    begin = finer.rank[v]
    end = begin + finer.size[begin] - 1
    cell = finer.order[begin : end + 1]
    cell[:] = np.append(cell[cell != v], v)
    finer.size[begin] -= 1
    finer.size[end] = 1
    finer.rank[v] = end
    return finer


@compiled
def refine(
    graph: Graph,
    salts: NDArray[np.uint64],
    colouring: Colouring,
    moved: NDArray[np.int64],
    before: NDArray[np.int64],
    rounds: int,
) -> tuple[np.uint64, int]:
    """Split cells in place until each vertex of a cell has the same colours behind its labels.

    A vertex keeps the sum of the hashes behind its connections as a difference to what it was at
    the start, when it was the same all over its cell. Only vertices whose colour changed are
    visited; of a cell that splits the largest part keeps its colour (Hopcroft 1971).

    Args:
        graph: each connection at both of its vertices.
        salts: an odd factor for each label, as `label_salts` gives them.
        colouring: changed in place.
        moved: vertices whose colour has changed since cells were the same all over.
        before: the ranks that they had; -1 for none, for a colouring that never was.
        rounds: stop after as many.

    Returns:
        A word that is equal for isomorphic graphs with isomorphic changes, and how many connections
        and vertices were visited.
    """
    order, rank, size = colouring
    n = len(order)
    behind = np.zeros(n, dtype=np.uint64)
    queue = np.empty(n, dtype=np.int64)
    old = np.empty(n, dtype=np.int64)
    waiting = len(moved)
    queue[:waiting] = moved
    old[:waiting] = before
    touched = np.empty(n, dtype=np.int64)
    is_touched = np.zeros(n, dtype=np.bool_)
    trace = np.uint64(0)
    visits = n
    while waiting > 0 and rounds > 0:
        rounds -= 1
        n_touched = 0
        for i in range(waiting):
            u = queue[i]
            change = mix(np.uint64(rank[u]))
            if old[i] >= 0:
                change -= mix(np.uint64(old[i]))
            begin, end = graph.indptr[u], graph.indptr[u + 1]
            visits += end - begin + 1
            for e in range(begin, end):
                w = graph.ends[e]
                behind[w] += change * salts[graph.labels[e]]
                if not is_touched[rank[w]]:
                    is_touched[rank[w]] = True
                    touched[n_touched] = rank[w]
                    n_touched += 1
        waiting = 0
        seen = np.uint64(0)
        for t in range(n_touched):
            begin = touched[t]
            is_touched[begin] = False
            end = begin + size[begin]
            visits += end - begin
            _split_cell(begin, end, behind, colouring)
            first = begin
            while first < end:
                past = first + size[first]
                seen += mix(mix(np.uint64(first)) + behind[order[first]])
                if first > begin:
                    for i in range(first, past):
                        queue[waiting] = order[i]
                        old[waiting] = begin
                        waiting += 1
                first = past
        trace = mix(trace + seen)
    return trace, visits


@compiled
def _split_cell(
    begin: int,
    end: int,
    behind: NDArray[np.uint64],
    colouring: Colouring,
) -> None:
    """Split the cell order[begin:end] by what is behind: the largest part first, then ascending."""
    cell = colouring.order[begin:end]
    same = True
    for i in range(1, len(cell)):
        if behind[cell[i]] != behind[cell[0]]:
            same = False
            break
    if same:
        return
    ascending = cell[np.argsort(behind[cell])]
    longest = 0
    where = 0
    first = 0
    for i in range(1, len(cell) + 1):
        if i == len(cell) or behind[ascending[i]] != behind[ascending[first]]:
            if i - first > longest:
                longest = i - first
                where = first
            first = i
    cell[:longest] = ascending[where : where + longest]
    cell[longest : where + longest] = ascending[:where]
    cell[where + longest :] = ascending[where + longest :]
    first = 0
    for i in range(1, len(cell) + 1):
        if i == len(cell) or behind[cell[i]] != behind[cell[first]]:
            colouring.size[begin + first] = i - first
            for j in range(first, i):
                colouring.rank[cell[j]] = begin + first
            first = i
