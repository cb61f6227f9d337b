"""An order of a graph's vertices that follows from structure alone: individualise and refine.

Where refinement cannot tell vertices apart, give one of them a colour of its own, refine, order
what remains undecided in the same way, and compare the graphs as they then read: the least one
wins (McKay & Piperno 2014, Practical graph isomorphism II). Three things keep that small:

- After each refinement only non-trivial relations count, and they fall apart into parts that do
  not know of each other (`residual_parts`). Each is ordered alone; parts that read the same can be
  exchanged.
- If vertices of a cell lead to equal readings, an automorphism carries them onto each other. Where
  such automorphisms join the whole cell, any of its vertices will do. To find them no search is
  needed: a descent that takes the first vertex everywhere ends in equal readings if each cell on
  its way is one orbit.
- If not, each vertex of the cell tells by how the refinement goes after it was individualised
  which orbit it may be in: that splits the cell without a search.

Which way was taken may depend on the numbers of the vertices; the order that comes out does not.
"""

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.partition import (
    Colouring,
    Graph,
    colouring_of,
    finer_by,
    label_salts,
    refine,
    smallest_cell,
    with_own_colour,
)
from topology.refinement import root_of
from topology.residual import Part, residual_parts

Order = NDArray[np.int64]

# Steps of about a nanosecond: visits of a connection or a vertex, and a fixed price for what each
# piece of the search costs before it visits any. It buys random regular layers of 784 neurons at
# any density, any number of equal blocks, cycles, lattices and most of what has many symmetries, in
# about a second at worst; a strongly regular layer of hundreds of neurons may need more.
BUDGET = 1_000_000_000
_STEP = 50_000

# Vertices individualised one below the other; each level takes a few frames of Python's stack.
_DEEPEST = 100


class _OutOfBudget(Exception):
    """The search has cost more than it may."""


def canonical_order(graph: Graph, colours: NDArray[np.int64], labels: int) -> tuple[Order, bool]:
    """The vertices by colour, and within a colour as structure says.

    Any two graphs that are relabellings of each other read the same in this order. Vertices of one
    colour that it leaves in the order of their numbers are interchangeable.

    Args:
        graph: the connections, each at the vertex of higher colour.
        colours: (n,) numbers; vertices of one colour are not connected.
        labels: the connections' labels are below this.

    Returns:
        The order (n,), and whether it is exact: False where `BUDGET` ran out and some vertices
        stand in the order of their numbers though they are not interchangeable.
    """
    search = _Search(labels, BUDGET)
    colouring = colouring_of(colours)
    parts = residual_parts(graph, colouring, labels)
    orders = [search.first_order(part) for part in parts]
    return search.together(colouring, parts, orders), search.exact


class _Search:
    """What one canonical order has cost so far."""

    def __init__(self, labels: int, budget: int) -> None:
        self.labels = labels
        self.left = budget
        self.exact = True
        self.depth = 0
        self.salts = label_salts(labels)

    def first_order(self, part: Part) -> Order:
        """A part's order, or that of its vertices' numbers where the budget runs out."""
        n = len(part.vertices)
        try:
            if _distinct(part.colours):
                return np.arange(n)
            graph, colouring = part.graph, colouring_of(part.colours)
            self._refine(graph, colouring, np.arange(n), np.full(n, -1))
            return self._order(graph, colouring, greedy=False)
        except _OutOfBudget:
            self.exact = False
            return np.arange(n)

    def _order(self, graph: Graph, colouring: Colouring, greedy: bool) -> Order:
        """The order of a graph whose colouring is stable."""
        if colouring.discrete:
            return colouring.order
        self._spend(len(graph.ends))
        parts = residual_parts(graph, colouring, self.labels)
        if len(parts) == 1 and len(parts[0].vertices) == len(colouring.order):
            vertices, colours, rest = parts[0]
            inner = self._branch(rest, colouring_of(colours), greedy)
            return vertices[inner]
        orders = [self._part_order(part, greedy) for part in parts]
        return self.together(colouring, parts, orders)

    def _part_order(self, part: Part, greedy: bool) -> Order:
        if _distinct(part.colours):
            return np.arange(len(part.colours))
        return self._order(part.graph, colouring_of(part.colours), greedy)

    def _branch(self, graph: Graph, colouring: Colouring, greedy: bool) -> Order:
        """The order of a connected graph with vertices to tell apart."""
        cell = smallest_cell(colouring)
        if greedy:
            return self._below(graph, colouring, cell[0], greedy=True)
        if self._one_orbit(graph, colouring, cell):
            return self._below(graph, colouring, cell[0], greedy=False)
        told_apart = self._told_apart(graph, colouring, cell)
        if told_apart is not None:
            return self._order(graph, told_apart, greedy=False)
        return self._least(graph, colouring, cell)

    def _below(self, graph: Graph, colouring: Colouring, v: int, greedy: bool) -> Order:
        """The order with v individualised."""
        if self.depth == _DEEPEST:
            raise _OutOfBudget
        finer = with_own_colour(colouring, v)
        self._refine(graph, finer, np.array([v]), colouring.rank[[v]])
        self.depth += 1
        try:
            return self._order(graph, finer, greedy)
        finally:
            self.depth -= 1

    def _one_orbit(self, graph: Graph, colouring: Colouring, cell: Order) -> bool:
        """Whether first descents prove that automorphisms join all vertices of the cell."""
        orbits = np.arange(len(colouring.order))
        first = self._below(graph, colouring, cell[0], greedy=True)
        reading = self._read(graph, first)
        for v in cell[1:]:
            if root_of(orbits, v) != root_of(orbits, cell[0]):
                other = self._below(graph, colouring, v, greedy=True)
                if self._read(graph, other) != reading:
                    return False
                _join_orbits(orbits, first, other)
        return True

    def _told_apart(self, graph: Graph, colouring: Colouring, cell: Order) -> Colouring | None:
        """The colouring with the cell split by what refinement says of each vertex, if it does."""
        for rounds in (2, len(colouring.order)):
            traces = np.zeros(len(colouring.order), dtype=np.uint64)
            for v in cell:
                finer = with_own_colour(colouring, v)
                changed = np.array([v]), colouring.rank[[v]]
                traces[v] = self._refine(graph, finer, *changed, rounds)
            if (traces[cell] != traces[cell[0]]).any():
                split = finer_by(colouring, traces)
                moved = np.flatnonzero(split.rank != colouring.rank)
                self._refine(graph, split, moved, colouring.rank[moved])
                return split
        return None

    def _least(self, graph: Graph, colouring: Colouring, cell: Order) -> Order:
        """The order of least reading over all vertices of the cell, one an orbit."""
        orbits = np.arange(len(colouring.order))
        best = self._below(graph, colouring, cell[0], greedy=False)
        least = self._read(graph, best)
        tried = [cell[0]]
        for v in cell[1:]:
            if any(root_of(orbits, v) == root_of(orbits, u) for u in tried):
                continue
            tried.append(v)
            order = self._below(graph, colouring, v, greedy=False)
            reading = self._read(graph, order)
            if reading == least:
                _join_orbits(orbits, best, order)
            elif reading < least:
                best, least = order, reading
        return best

    def _refine(
        self,
        graph: Graph,
        colouring: Colouring,
        changed: NDArray[np.int64],
        before: NDArray[np.int64],
        rounds: int | None = None,
    ) -> np.uint64:
        """Make the colouring stable in place; what is returned follows from structure alone."""
        limit = len(colouring.order) if rounds is None else rounds
        trace, visits = refine(*graph, self.salts, *colouring, changed, before, limit)
        self._spend(visits)
        return np.uint64(trace)

    def _read(self, graph: Graph, order: Order) -> bytes:
        self._spend(len(graph.ends))
        return _reading(*graph, order, self.labels).tobytes()

    def together(self, colouring: Colouring, parts: list[Part], orders: list[Order]) -> Order:
        """The order of all vertices from the parts' own; vertices in no part are interchangeable.

        Within a colour: vertices in no part, then the parts as they read.
        """
        keys = [
            (part.colours.tobytes(), _reading(*part.graph, order, self.labels).tobytes())
            for part, order in zip(parts, orders, strict=True)
        ]
        n = len(colouring.order)
        part_place = np.full(n, -1)
        place = np.zeros(n, dtype=np.int64)
        for at, index in enumerate(sorted(range(len(parts)), key=keys.__getitem__)):
            vertices = parts[index].vertices[orders[index]]
            part_place[vertices] = at
            place[vertices] = np.arange(len(vertices))
        return np.lexsort((place, part_place, colouring.rank))

    def _spend(self, visits: int) -> None:
        self.left -= visits + _STEP
        if self.left < 0:
            raise _OutOfBudget


def _distinct(colours: NDArray[np.int64]) -> bool:
    """Whether ascending colours are all different."""
    return bool((colours[1:] != colours[:-1]).all())


@compiled
def _join_orbits(
    orbits: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> None:
    """Join the orbits by the automorphism that carries the one order to the other."""
    for i in range(len(first)):
        a = root_of(orbits, first[i])
        b = root_of(orbits, second[i])
        orbits[max(a, b)] = min(a, b)


@compiled
def _reading(
    indptr: NDArray[np.int64],
    ends: NDArray[np.int64],
    labels: NDArray[np.int64],
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
