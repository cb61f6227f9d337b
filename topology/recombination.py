"""The best mixture of two matchings.

Where two matchings differ, the differences fall apart into components that have nothing to do with
each other: no neuron's similarity depends on two of them, and no neuron of B is taken by both. Each
component is then taken from whichever matching is better there, so that the mixture is at least as
good as either. (Partition crossover, Whitley et al. 2009, doi:10.1145/1569901.1570026, does this
with tours.)
"""

import numpy as np
from numpy.typing import NDArray

from topology.assignment import UNMATCHED
from topology.compiled import compiled
from topology.disjoint_sets import root_of, unite
from topology.wiring import Wiring, degree, similarity

_ROUNDING = 1e-9


@compiled
def take_better(
    a: Wiring, b: Wiring, matching: NDArray[np.int64], other: NDArray[np.int64]
) -> float:
    """Take over, in place, the components of `other` that are better; returns what that gains."""
    first, end = a.base[1], len(matching)
    parent = np.arange(end)
    holder = np.full(b.base[-1], UNMATCHED, dtype=np.int64)
    for i in range(first, end):
        if matching[i] != UNMATCHED:
            holder[matching[i]] = i
    for i in range(first, end):
        if matching[i] != other[i] and other[i] != UNMATCHED and holder[other[i]] != UNMATCHED:
            unite(parent, i, holder[other[i]])
    member = np.full(end, UNMATCHED, dtype=np.int64)  # of the component that a neuron depends on
    change = np.zeros(end)
    for layer in range(len(a.counted)):
        if a.counted[layer]:
            for i in range(a.base[layer + 1], a.base[layer + 2]):
                if _differs(a, matching, other, i):
                    _depend(a, b, matching, other, layer, i, parent, member, change)
    gain = np.zeros(end)
    for i in range(first, end):
        if member[i] != UNMATCHED:
            gain[root_of(parent, member[i])] += change[i]
    total = 0.0
    for i in range(first, end):
        if parent[i] == i and gain[i] > _ROUNDING:
            total += gain[i]
    for i in range(first, end):
        if gain[root_of(parent, i)] > _ROUNDING:
            matching[i] = other[i]
    return total


@compiled
def _differs(a: Wiring, matching: NDArray[np.int64], other: NDArray[np.int64], i: int) -> bool:
    """Whether neuron i of A or anything that it is connected to below is matched differently."""
    differs = matching[i] != other[i]
    for p in a.in_source[a.in_ptr[i] : a.in_ptr[i + 1]]:
        differs |= matching[p] != other[p]
    return differs  # type: ignore[no-any-return]


@compiled
def _depend(
    a: Wiring,
    b: Wiring,
    matching: NDArray[np.int64],
    other: NDArray[np.int64],
    layer: int,
    i: int,
    parent: NDArray[np.int64],
    member: NDArray[np.int64],
    change: NDArray[np.float64],
) -> None:
    """Join the differences that neuron i's similarity depends on, and note what they change."""
    x, y = matching[i], other[i]
    one = i if x != y else UNMATCHED
    common_x, common_y = 0, 0
    for c in range(a.in_ptr[i], a.in_ptr[i + 1]):
        p = a.in_source[c]
        here, there = matching[p], other[p]
        here_x = _connected(b, layer, x, here, a.in_offset[c])
        there_y = (
            here_x if x == y and here == there else _connected(b, layer, y, there, a.in_offset[c])
        )
        common_x += here_x
        common_y += there_y
        if here == there:
            continue
        there_x = _connected(b, layer, x, there, a.in_offset[c])
        here_y = _connected(b, layer, y, here, a.in_offset[c])
        if here_x != there_x or here_y != there_y:
            if one != UNMATCHED:
                unite(parent, p, one)
            one = p
    if one != UNMATCHED:
        member[i] = one
        d = degree(a, i)
        after = similarity(common_y, d, degree(b, y)) if y != UNMATCHED else 0.0
        before = similarity(common_x, d, degree(b, x)) if x != UNMATCHED else 0.0
        change[i] = after - before


@compiled
def _connected(b: Wiring, layer: int, j: int, source: int, offset: int) -> bool:
    """Whether B's neuron j has that connection; both may be UNMATCHED."""
    if j == UNMATCHED or source == UNMATCHED:
        return False
    key = (source - b.base[layer]) * b.group[layer] + offset
    low, high = b.in_ptr[j], b.in_ptr[j + 1]
    while low < high:
        middle = (low + high) >> 1
        if b.in_key[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low < b.in_ptr[j + 1] and b.in_key[low] == key  # type: ignore[no-any-return]
