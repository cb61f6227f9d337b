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

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.disjoint_sets import root_of, unite
from topology.partition import (
    Colouring,
    Graph,
    colouring_of,
    finer_by,
    label_salts,
    largest_cell,
    refine,
    with_own_colour,
)
from topology.residual import Part, reading_of, residual_parts

Order = NDArray[np.int64]

# Nanoseconds, as counted from the work and not by a clock. A second buys random regular layers of
# 784 neurons at any density, any number of equal blocks, cycles, lattices, projective planes,
# Hadamard matrices and Paley graphs of hundreds of neurons; the strongly regular graphs of random
# Latin squares and the graphs of Cai, Furer & Immerman (1992) beyond about 100 neurons cost more.
BUDGET = 1_000_000_000
_STEP = 50_000  # what each piece of the search costs before it visits anything
_VISIT = 3  # to visit a connection or a vertex while refining
_READ = 20  # to write a connection down
_SPLIT = 25  # to find the part of a graph that a connection is in

# Vertices individualised one below the other; each level takes a few frames of Python's stack.
_DEEPEST = 100


# How to go on below a vertex: to the order itself, or only to some leaf, by the first vertex of
# each cell or by one that refinement prefers.
_Way = Literal["exact", "quick", "careful"]


class _OutOfBudget(Exception):
    """The search has cost more than it may."""


class _Found(NamedTuple):
    """An order of vertices, and orbits: v and orbits[v] are carried onto each other."""

    order: Order
    orbits: Order


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
    found = [search.first(part) for part in parts]
    return search.together(colouring, parts, found).order, search.exact


class _Search:
    """What one canonical order has cost so far."""

    def __init__(self, labels: int, budget: int) -> None:
        self.labels = labels
        self.left = budget
        self.exact = True
        self.depth = 0
        self.salts = label_salts(labels)

    def first(self, part: Part) -> _Found:
        """A part's order, or that of its vertices' numbers where the budget runs out."""
        n = len(part.vertices)
        try:
            if _distinct(part.colours):
                return _alone(n)
            graph, colouring = part.graph, colouring_of(part.colours)
            self._refine(graph, colouring, np.arange(n), np.full(n, -1))
            return self._order(graph, colouring, "exact")
        except (_OutOfBudget, RecursionError):
            self.exact = False
            return _alone(n)

    def _order(self, graph: Graph, colouring: Colouring, way: _Way) -> _Found:
        """The order of a graph whose colouring is stable."""
        if colouring.discrete:
            return _Found(colouring.order, np.arange(len(colouring.order)))
        self._spend(_SPLIT * len(graph.ends))
        parts = residual_parts(graph, colouring, self.labels)
        if len(parts) == 1 and len(parts[0].vertices) == len(colouring.order):
            vertices, colours, rest = parts[0]
            found = self._branch(rest, colouring_of(colours), way)
            orbits = np.arange(len(vertices))
            _join(orbits, vertices, vertices[found.orbits])
            return _Found(vertices[found.order], orbits)
        return self.together(colouring, parts, [self._part(part, way) for part in parts])

    def _part(self, part: Part, way: _Way) -> _Found:
        if _distinct(part.colours):
            return _alone(len(part.colours))
        return self._order(part.graph, colouring_of(part.colours), way)

    def _branch(self, graph: Graph, colouring: Colouring, way: _Way) -> _Found:
        """The order of a connected graph with vertices to tell apart."""
        cell = largest_cell(colouring)
        if way == "quick":
            return self._below(graph, colouring, cell[0], way)
        if way == "careful":
            traces = self._traces(graph, colouring, cell, len(colouring.order))
            return self._below(graph, colouring, cell[np.argmin(traces)], way)
        found = self._one_orbit(graph, colouring, cell)
        if found is not None:
            return found
        told_apart = self._told_apart(graph, colouring, cell)
        if told_apart is not None:
            return self._order(graph, told_apart, way)
        return self._least(graph, colouring, cell)

    def _below(self, graph: Graph, colouring: Colouring, v: int, way: _Way) -> _Found:
        """The order with v individualised."""
        if self.depth == _DEEPEST:
            raise _OutOfBudget
        finer = with_own_colour(colouring, v)
        self._refine(graph, finer, np.array([v]), colouring.rank[[v]])
        self.depth += 1
        try:
            return self._order(graph, finer, way)
        finally:
            self.depth -= 1

    def _one_orbit(self, graph: Graph, colouring: Colouring, cell: Order) -> _Found | None:
        """The order below any vertex of the cell, if automorphisms prove that it is one orbit."""
        first = self._below(graph, colouring, cell[0], "quick")
        reading = self._read(graph, first.order)
        found: _Found | None = None
        orbits = np.arange(len(colouring.order))
        for v in cell[1:]:
            if root_of(orbits, v) == root_of(orbits, cell[0]):
                continue
            other = self._below(graph, colouring, v, "quick")
            if self._read(graph, other.order) != reading:
                return None
            _join(orbits, first.order, other.order)
            if found is None:  # once one could be joined, what its stabiliser joins is worth having
                found = self._below(graph, colouring, cell[0], "exact")
                _join(orbits, np.arange(len(orbits)), found.orbits)
        return None if found is None else _Found(found.order, orbits)

    def _told_apart(self, graph: Graph, colouring: Colouring, cell: Order) -> Colouring | None:
        """The colouring with the cell split by what refinement says of each vertex, if it does."""
        for rounds in (2, len(colouring.order)):
            traces = self._traces(graph, colouring, cell, rounds)
            if (traces != traces[0]).any():
                marks = np.zeros(len(colouring.order), dtype=np.uint64)
                marks[cell] = traces
                finer = finer_by(colouring, marks)
                moved = np.flatnonzero(finer.rank != colouring.rank)
                self._refine(graph, finer, moved, colouring.rank[moved])
                return finer
        return None

    def _least(self, graph: Graph, colouring: Colouring, cell: Order) -> _Found:
        """The order of least reading over all vertices of the cell, one an orbit."""
        orbits = np.arange(len(colouring.order))
        leaves: dict[bytes, Order] = {}
        orders: dict[bytes, Order] = {}
        tried: list[int] = []
        for v in cell:
            if any(root_of(orbits, v) == root_of(orbits, u) for u in tried):
                continue
            leaf = self._below(graph, colouring, v, "careful").order
            reading = self._read(graph, leaf)
            if reading in leaves:
                _join(orbits, leaves[reading], leaf)
                continue
            leaves[reading] = leaf
            tried.append(v)
            order, more = self._below(graph, colouring, v, "exact")
            _join(orbits, np.arange(len(orbits)), more)
            reading = self._read(graph, order)
            if reading in orders:
                _join(orbits, orders[reading], order)
            orders[reading] = order
        return _Found(orders[min(orders)], orbits)

    def _traces(
        self, graph: Graph, colouring: Colouring, cell: Order, rounds: int
    ) -> NDArray[np.uint64]:
        """What refinement says of each vertex of the cell when that is individualised."""
        traces = np.empty(len(cell), dtype=np.uint64)
        for i, v in enumerate(cell):
            finer = with_own_colour(colouring, v)
            traces[i] = self._refine(graph, finer, cell[[i]], colouring.rank[[v]], rounds)
        return traces

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
        trace, visits = refine(graph, self.salts, colouring, changed, before, limit)
        self._spend(_VISIT * visits)
        return np.uint64(trace)

    def _read(self, graph: Graph, order: Order) -> bytes:
        self._spend(_READ * len(graph.ends))
        return reading_of(graph, order, self.labels).tobytes()

    def together(self, colouring: Colouring, parts: list[Part], found: list[_Found]) -> _Found:
        """The order of all vertices from the parts' own.

        Within a colour: vertices in no part, which are interchangeable, then the parts as they
        read, equal ones being interchangeable too.
        """
        keys = [
            (part.colours.tobytes(), reading_of(part.graph, order, self.labels).tobytes())
            for part, (order, _) in zip(parts, found, strict=True)
        ]
        n = len(colouring.order)
        part_place = np.full(n, -1)
        place = np.zeros(n, dtype=np.int64)
        orbits = np.arange(n)
        last: tuple[bytes, bytes] | None = None
        before = np.arange(0)
        for at, index in enumerate(sorted(range(len(parts)), key=keys.__getitem__)):
            own = parts[index].vertices
            vertices = own[found[index].order]
            part_place[vertices] = at
            place[vertices] = np.arange(len(vertices))
            _join(orbits, own, own[found[index].orbits])
            if keys[index] == last:
                _join(orbits, before, vertices)
            last, before = keys[index], vertices
        order = np.lexsort((place, part_place, colouring.rank))
        twins = part_place[order] < 0
        twins[1:] &= twins[:-1] & (colouring.rank[order][1:] == colouring.rank[order][:-1])
        second = np.flatnonzero(twins[1:]) + 1
        _join(orbits, order[second], order[second - 1])
        return _Found(order, orbits)

    def _spend(self, visits: int) -> None:
        self.left -= visits + _STEP
        if self.left < 0:
            raise _OutOfBudget


def _distinct(colours: NDArray[np.int64]) -> bool:
    """Whether ascending colours are all different."""
    return bool((colours[1:] != colours[:-1]).all())


def _alone(n: int) -> _Found:
    """Vertices that are in order already, each of a colour of its own."""
    return _Found(np.arange(n), np.arange(n))


@compiled
def _join(orbits: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    """Join the orbits of first[i] and second[i], for each i."""
    for i in range(len(first)):
        unite(orbits, first[i], second[i])
