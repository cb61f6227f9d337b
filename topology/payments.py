"""What a pair of neurons can gain at most after paying for its common connections (`bounds`).

Everything is in float32 and along contiguous rows, so that the compiler makes vectors of it; hence
the transposing. Rounding only ever weakens the bound: payments are made a little smaller than they
are (`_kept`, `_UNIT`), gains a little greater (ROUNDING).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.compiled import compiled
from topology.contiguous import (
    BLOCK,
    Matrix,
    add_to,
    lower_to,
    order,
    order_new,
    raise_to,
    slot,
    transpose,
    turn,
)
from topology.prepared import Connections, Layer

Payments = NDArray[np.uint16]

# More than what float32 loses in a few sums of numbers up to 4.
ROUNDING = 2.0**-20

SLOTS = 6

# So many of the smallest payments are kept sorted; further ones count as much as the last of them.
_SORTED = 16

# A connection's payment is a whole number of units, rounded down, in half the bytes. The most that
# there is stands for all above, and for a connection that the other neuron has nothing for.
_UNIT, _MOST = np.float32(2.0**-14), np.uint16(2**16 - 1)


class _Pair(NamedTuple):
    """Two layers as the kernels want them.

    Attributes:
        group: inputs per neuron of the layer before.
        before: neurons of the layer before in A and in B.
    """

    rows_a: Connections
    columns_a: Connections
    rows_b: Connections
    columns_b: Connections
    group: int
    before: tuple[int, int]


def slot_size(a: Layer, b: Layer) -> int:
    """How many numbers a slot must hold for this pair of layers."""
    n, before = max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1])
    return max(n * n, n * before, (before // a.in_group) ** 2)


@compiled
def _payments(numbers: NDArray[np.float32], rows: int, columns: int) -> Payments:
    """The start of a slot as a matrix of payments."""
    return numbers.view(np.uint16)[: rows * columns].reshape(rows, columns)


def gains_after_payment(a: Layer, b: Layer, paid: Matrix, weights: Matrix, slots: Matrix) -> Matrix:
    """g of a layer, (n_a, n_b), in the last slot.

    Args:
        paid: r of the layer before, at least 0.
        weights: w, (n_a, n_b), at least 0.
        slots: (SLOTS, `slot_size` or more).
    """
    pair = _Pair(a.rows, a.columns, b.rows, b.columns, a.in_group, paid.shape)
    return _gains(pair, paid, weights, slots)


@compiled
def _gains(pair: _Pair, paid: Matrix, weights: Matrix, slots: Matrix) -> Matrix:
    (n_a, n_b), (before_a, before_b) = weights.shape, pair.before
    exchanged_weights = slot(slots[0], n_b, n_a)
    transpose(weights, exchanged_weights)
    by_rows, by_columns = slot(slots[3], before_a, before_b), slot(slots[4], before_b, before_a)
    _shares(pair.columns_a, pair.columns_b, pair.group, exchanged_weights, by_rows, slots[2])
    _shares(pair.columns_b, pair.columns_a, pair.group, weights, by_columns, slots[2])
    by_columns_of_row = slot(slots[2], before_a, before_b)
    transpose(by_columns, by_columns_of_row)
    each = _payments(slots[5], before_a, before_b)
    _divide(paid, by_rows, by_columns_of_row, _kept(pair), each)
    exchanged = _payments(slots[4], before_b, before_a)
    transpose(each, exchanged)

    of_columns = slot(slots[2], n_b, n_a)
    cheapest = _payments(slots[1], pair.group * before_b, n_a)
    _cheapest(pair.rows_a, pair.group, each, cheapest)
    _most_of_rows(pair.rows_b, pair.rows_a, pair.group, cheapest, exchanged_weights, of_columns)
    gains = slot(slots[5], n_a, n_b)
    cheapest = _payments(slots[1], pair.group * before_a, n_b)
    _cheapest(pair.rows_b, pair.group, exchanged, cheapest)
    _most_of_rows(pair.rows_a, pair.rows_b, pair.group, cheapest, weights, gains)
    of_columns_by_row = slot(slots[0], n_a, n_b)
    transpose(of_columns, of_columns_by_row)
    for i in range(n_a):
        lower_to(gains[i], of_columns_by_row[i])
    return gains


@compiled
def _kept(pair: _Pair) -> np.float32:
    """What is left of a payment of 1 after any rounding.

    Each of the sums in it has no more terms than a neuron has connections, and loses at most 2^-24
    of itself with each.
    """
    terms = 32
    for lists in (pair.rows_a, pair.rows_b, pair.columns_a, pair.columns_b):
        terms += np.diff(lists.indptr).max()
    return np.float32(max(0.0, 1.0 - terms * 2.0**-22))


@compiled
def _shares(
    a: Connections,
    b: Connections,
    group: int,
    exchanged_weights: Matrix,
    shares: Matrix,
    room: NDArray[np.float32],
) -> None:
    """W by rows: the sum over the connections out of k of the greatest weight with one out of k'.

    Args:
        a, b: the neurons that each input reaches.
        exchanged_weights: (n_b, n_a).
        shares: filled in; (neurons before in A, in B).
    """
    n = exchanged_weights.shape[1]
    before_a, before_b = shares.shape
    by_neuron = slot(room, n, before_b)
    greatest = np.empty((BLOCK, n), dtype=np.float32)
    shares[:] = np.float32(0)
    for offset in range(group):
        for first in range(0, before_b, BLOCK):
            greatest[:] = np.float32(0)
            for other in range(first, min(before_b, first + BLOCK)):
                key = other * group + offset
                for j in b.indices[b.indptr[key] : b.indptr[key + 1]]:
                    raise_to(greatest[other - first], exchanged_weights[j])
            turn(greatest, by_neuron, first)
        for k in range(before_a):
            key = k * group + offset
            for i in a.indices[a.indptr[key] : a.indptr[key + 1]]:
                add_to(shares[k], by_neuron[i])


@compiled
def _divide(
    paid: Matrix, by_rows: Matrix, by_columns: Matrix, kept: np.float32, each: Payments
) -> None:
    """Fill in r / W."""
    scale = kept / _UNIT
    for k in range(paid.shape[0]):
        total, one, two, part = paid[k], by_rows[k], by_columns[k], each[k]
        for other in range(len(part)):
            share = one[other] if one[other] < two[other] else two[other]
            share = share if share > np.float32(1e-6) else np.float32(np.inf)
            units = scale * total[other] / share
            units = units if units < np.float32(_MOST) else np.float32(_MOST)
            part[other] = np.uint16(np.int32(units))


@compiled
def _cheapest(rows: Connections, group: int, each: Payments, cheapest: Payments) -> None:
    """The least that each connection of the other network pays with each neuron of this one.

    Args:
        rows: this network's.
        each: r / W, (neurons before here, there).
        cheapest: filled in; by (offset, neuron before there), then by neuron here.
    """
    n, others = len(rows.indptr) - 1, each.shape[1]
    block = np.empty((BLOCK, group * others), dtype=np.uint16)
    for first in range(0, n, BLOCK):
        block[:] = _MOST
        for j in range(first, min(n, first + BLOCK)):
            for key in rows.indices[rows.indptr[j] : rows.indptr[j + 1]]:
                start = key % group * others
                lower_to(block[j - first, start : start + others], each[key // group])
        turn(block, cheapest, first)


@compiled
def _most_of_rows(
    rows: Connections,
    columns: Connections,
    group: int,
    cheapest: Payments,
    weights: Matrix,
    gains: Matrix,
) -> None:
    """Fill in g by the rows' connections, each at its cheapest among the column's.

    Args:
        rows, columns: the inputs of the neurons that are rows and columns here.
        cheapest: by the rows' inputs, as above.
    """
    n = weights.shape[1]
    others = len(cheapest) // group
    own = np.diff(rows.indptr)
    degrees = np.diff(columns.indptr).astype(np.float32)
    smallest = np.empty((_SORTED + 1, n), dtype=np.uint16)
    similarities = np.empty((_SORTED + 1, n), dtype=np.float32)
    paid, more = np.empty(n, dtype=np.float32), np.empty(n, dtype=np.float32)
    before = -1
    for i in np.argsort(own):
        if own[i] != before:  # rows of one degree have the same similarities
            before = own[i]
            _similarities(np.float32(before), degrees, similarities, more)
        kept = 0
        for key in rows.indices[rows.indptr[i] : rows.indptr[i + 1]]:
            at = min(kept, _SORTED)  # the last place is for what is left over
            payments = cheapest[key % group * others + key // group]
            if at == 0:
                smallest[0] = payments
            else:
                order_new(smallest[0], payments, smallest[at])
            for s in range(1, at):
                order(smallest[s], smallest[at])
            kept = min(kept + 1, _SORTED)
        paid[:] = np.float32(0)
        gains[i] = np.float32(0)
        if before == 0:
            gains[i] = degrees == np.float32(0)
        for s in range(kept):
            _improve(gains[i], similarities[s], weights[i], paid, smallest[s])
        if before > kept:
            # Beyond what is sorted the gain is convex in I: its maximum is at the end.
            for j in range(n):
                paid[j] += more[j] * np.float32(smallest[kept - 1, j]) * _UNIT
            smallest[kept] = np.uint16(0)
            _improve(gains[i], similarities[_SORTED], weights[i], paid, smallest[kept])


@compiled
def _similarities(
    degree: np.float32, degrees: NDArray[np.float32], similarities: Matrix, more: Matrix
) -> None:
    """I / (d_i + d_j - I) for I = 1, 2, ... and for the most there can be; -1 for more than that.

    Args:
        more: filled in; by how much that most exceeds what is kept sorted.
    """
    zero, one = np.float32(0), np.float32(1)
    for s in range(min(_SORTED, int(degree))):
        common = np.float32(s + 1)
        for j in range(len(degrees)):
            value = common / (degree + degrees[j] - common) + np.float32(ROUNDING)
            similarities[s, j] = value if common <= degrees[j] else -one
    for j in range(len(degrees)):
        common = degree if degree < degrees[j] else degrees[j]
        either = degree + degrees[j] - common
        similarities[_SORTED, j] = common / (either if either > one else one) + np.float32(ROUNDING)
        beyond = common - np.float32(_SORTED)
        more[j] = beyond if beyond > zero else zero


@compiled
def _improve(
    gains: NDArray[np.float32],
    similarity: NDArray[np.float32],
    weights: NDArray[np.float32],
    paid: NDArray[np.float32],
    more: NDArray[np.uint16],
) -> None:
    """Raise g to a similarity, where that is more after paying so much more for it."""
    for j in range(len(gains)):
        paid[j] += np.float32(more[j]) * _UNIT
        gain = similarity[j] - weights[j] * paid[j]
        gains[j] = gain if gain > gains[j] else gains[j]
