"""Disjoint sets as trees: parent[v] is a member of v's set, v itself at the root."""

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled


@compiled
def root_of(parent: NDArray[np.int64], v: int) -> int:
    """The root of v's tree, with the path to it halved."""
    while parent[v] != v:
        parent[v] = parent[parent[v]]
        v = parent[v]
    return v


@compiled
def unite(parent: NDArray[np.int64], v: int, w: int) -> None:
    """Make the sets of v and w one, whose root is the lesser of their roots."""
    a, b = root_of(parent, v), root_of(parent, w)
    parent[max(a, b)] = min(a, b)
