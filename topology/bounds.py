"""What the network distance cannot be below, whatever the matchings of all layers.

The total similarity (`joint`) is bounded layer by layer, first to last. For any prices u_k >= 0 and
v_k' >= 0 with u_k + v_k' >= g(k, k') on all pairs (an assignment's duals) every matching pi has

    sum_k g(k, pi(k)) <= sum u + sum v - sum_k r(k, pi(k)),      r(k, k') = u_k + v_k' - g(k, k')

What a matching loses against the bound, r, is what the next layer has to pay for it: of the
connections that lead out of k and out of k', at most min(out(k), out(k')) can come to lie on each
other, so each of those pays r(k, k') / min(out(k), out(k')). A neuron i of the next layer that is
matched with j, with I of its connections on I of j's, then brings at most

    g(i, j) = max_I  I / (d_i + d_j - I) - (the least that I connections pay)

which is bounded from below by the I smallest of the connections of i, each at its cheapest
among those of j, and by the same with i and j exchanged. Only g(i, j) is left of all matchings
before, and the next layer is bounded in turn. The first layer's g is its true similarity, for its
inputs are labelled; where nothing is known of the layer before (it is full in both networks and
thus not counted), g is the most that the degrees allow.

The prices need not be optimal for the bound to hold; r and g are computed from them anew.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topology.assignment import assign
from topology.compiled import compiled
from topology.gains import Gains, by_falling_gain, jaccard_gains
from topology.overlap import input_places
from topology.prepared import Connections, Layer

Matrix = NDArray[np.float64]

# So many of the smallest payments are kept sorted; further ones count as much as the last of them.
_SORTED = 16

# So many of a row's gains are looked at where all are above 0; all of them would tighten the bound
# by 0.002 on the published networks and take twice as long.
_CANDIDATES = 64

# Rounding of sums of some thousand terms between 0 and 1, with much to spare.
_ROUNDING = 1e-12


def lower_bound(a: Sequence[Layer], b: Sequence[Layer], labelled_outputs: bool) -> float:
    """No matchings of all layers give a smaller network distance: in [0, 1].

    Args:
        a, b: comparable networks' layers.
        labelled_outputs: the last layer's neurons carry labels and stay in place.
    """
    total, most = 0.0, 0
    paid: Matrix | None = None
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        if x.full and y.full:
            paid = None
            continue
        most += max(x.shape[0], y.shape[0])
        gains = _first_gains(x, y) if index == 0 else _gains(x, y, paid)
        if labelled_outputs and index == len(a) - 1:
            total += float(np.trace(gains))
        else:
            bound, paid = _bound(gains)
            total += bound
    return max(0.0, 1.0 - total / most - _ROUNDING) if most else 0.0


def _first_gains(a: Layer, b: Layer) -> Matrix:
    """The true similarities of neurons whose inputs carry labels: (n_a, n_b)."""
    sparse = jaccard_gains(a, b, input_places(None, 1, a.shape[1], b.shape[1]))
    gains = np.zeros((a.shape[0], b.shape[0]))
    gains[np.repeat(np.arange(len(gains)), np.diff(sparse.indptr)), sparse.indices] = sparse.values
    gains[np.ix_(a.degrees == 0, b.degrees == 0)] = 1.0
    return gains


def _gains(a: Layer, b: Layer, paid: Matrix | None) -> Matrix:
    """g of a layer: (n_a, n_b).

    Args:
        paid: r of the layer before; None where nothing is known of it.
    """
    before = a.shape[1] // a.in_group, b.shape[1] // b.in_group
    if paid is None:
        paid = np.zeros(before)
    pairs = np.minimum(_outgoing(a)[:, np.newaxis], _outgoing(b))
    each = paid / np.maximum(1, pairs)
    gains = np.empty((a.shape[0], b.shape[0]))
    exchanged = np.empty(gains.shape[::-1])
    _most_of_rows(a.rows, b.rows, a.in_group, np.ascontiguousarray(each.T), gains)
    _most_of_rows(b.rows, a.rows, a.in_group, each, exchanged)
    return np.minimum(gains, exchanged.T)


def _outgoing(layer: Layer) -> NDArray[np.int64]:
    """Outgoing connections of each neuron of the layer before."""
    counts = np.diff(layer.columns.indptr)[: layer.shape[1]].astype(np.int64)
    sums: NDArray[np.int64] = counts.reshape(-1, layer.in_group).sum(axis=1)
    return sums


def _bound(gains: Matrix) -> tuple[float, Matrix]:
    """Upper bound of every matching's total gain, and what each pair loses against it."""
    n_a, n_b = gains.shape
    few = n_a > n_b or 2 * np.count_nonzero(gains) < gains.size
    _, prices = assign(_candidates(gains, n_b if few else _CANDIDATES), n_b)
    return _lost(gains, prices)


@compiled
def _candidates(gains: Matrix, most: int) -> Gains:
    """About so many of the greatest gains of each row, over the others.

    Everyone gains that much, so that only what is more decides; prices may be any.
    """
    n_a, n_b = gains.shape
    step = max(1, most // 8)
    indptr = np.zeros(n_a + 1, dtype=np.int64)
    indices, values = np.empty(n_b, dtype=np.int32), np.empty(n_b)
    n = 0
    for i in range(n_a):
        if n + n_b > len(indices):
            indices = np.append(indices, np.empty(n + n_b, dtype=np.int32))
            values = np.append(values, np.empty(n + n_b))
        floor = 0.0
        if most < n_b:
            sample = np.sort(gains[i, ::step])
            floor = sample[max(0, len(sample) - 1 - most // step)]
        for j in range(n_b):
            if gains[i, j] > floor:
                indices[n], values[n] = j, gains[i, j] - floor
                n += 1
        indptr[i + 1] = n
    return by_falling_gain(indptr, indices[:n], values[:n])


@compiled
def _lost(gains: Matrix, prices: NDArray[np.float64]) -> tuple[float, Matrix]:
    bound = prices.sum()
    lost = np.empty_like(gains)
    for i in range(len(gains)):
        row = prices - gains[i]
        profit = max(0.0, -row.min())
        bound += profit
        for j in range(len(row)):
            lost[i, j] = max(0.0, profit + row[j])
    return bound, lost


@compiled
def _most_of_rows(a: Connections, b: Connections, group: int, each: Matrix, gains: Matrix) -> None:
    """Fill in g by the connections of the rows: each one at its cheapest among the column's.

    Args:
        each: (neurons before in B, in A); what a connection from k that lies on one from k' pays.
    """
    n_a, n_b = gains.shape
    degrees = np.diff(b.indptr).astype(np.int64)
    n = each.shape[1]
    by_column = np.full((n_b, group, n), np.inf)
    for j in range(n_b):
        for key in b.indices[b.indptr[j] : b.indptr[j + 1]]:
            _lower(by_column[j, key % group], each[key // group])
    cheapest = np.ascontiguousarray(by_column.reshape(n_b, group * n).T)
    smallest = np.empty((_SORTED, n_b))
    rest, paid = np.empty(n_b), np.empty(n_b)
    for i in range(n_a):
        keys = a.indices[a.indptr[i] : a.indptr[i + 1]]
        kept = 0
        for key in keys:
            rest[:] = cheapest[key % group * n + key // group]
            for s in range(kept):
                _order(smallest[s], rest)
            if kept < _SORTED:
                smallest[kept] = rest
                kept += 1
        paid[:] = 0.0
        for j in range(n_b):
            gains[i, j] = 1.0 if len(keys) + degrees[j] == 0 else 0.0
        for s in range(kept):
            paid += smallest[s]
            _raise(gains[i], s + 1, len(keys) + degrees - (s + 1), paid, degrees)
        # Beyond what is sorted the gain is convex in I: its maximum is at the end.
        if len(keys) > kept:
            for j in range(n_b):
                common = min(len(keys), degrees[j])
                if common > kept:
                    more = (common - kept) * smallest[kept - 1, j]
                    gain = common / (len(keys) + degrees[j] - common) - paid[j] - more
                    gains[i, j] = max(gains[i, j], gain)


@compiled
def _lower(low: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Put the smaller one of each two values into `low`."""
    for j in range(len(low)):
        low[j] = values[j] if values[j] < low[j] else low[j]


@compiled
def _order(low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Put the smaller one of each two values into `low`, the other into `high`."""
    for j in range(len(low)):
        x, y = low[j], high[j]
        low[j] = x if x < y else y
        high[j] = y if x < y else x


@compiled
def _raise(
    gains: NDArray[np.float64],
    common: int,
    either: NDArray[np.int64],
    paid: NDArray[np.float64],
    degrees: NDArray[np.int64],
) -> None:
    """Raise g to what so many common connections bring, where there can be so many."""
    for j in range(len(gains)):
        gain = common / either[j] - paid[j] if common <= degrees[j] else 0.0
        gains[j] = gain if gain > gains[j] else gains[j]
