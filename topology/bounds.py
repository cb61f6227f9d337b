"""What the network distance cannot be below, whatever the matchings of all layers.

The total similarity (`joint`) is bounded layer by layer, first to last. For any prices u_k >= 0 and
v_k' >= 0 with u_k + v_k' >= g(k, k') on all pairs (an assignment's duals) every matching pi has

    sum_k g(k, pi(k)) <= sum u + sum v - sum_k r(k, pi(k)),      r(k, k') = u_k + v_k' - g(k, k')

What a matching loses against the bound, r, is what the next layer has to pay for it. With any
weights w(i, j) >= 0 on that layer's pairs, a connection k to i that lies on one k' to j pays

    w(i, j) r(k, k') / W(k, k')

where no matching makes the weights on the connections of k and k' add up to more than W: the sum
over i of the greatest w(i, j), or over j of the greatest. A neuron i that is matched with j, with I
of its connections on I of j's, then brings at most

    g(i, j) = max_I  I / (d_i + d_j - I) - (the least that I connections pay)

which is bounded from below by the I smallest of the connections of i, each at its cheapest
among those of j, and by the same with i and j exchanged. Only g(i, j) is left of all matchings
before, and the next layer is bounded in turn. The first layer's g is its true similarity, for its
inputs are labelled; where nothing is known of the layer before (it is full in both networks and
thus not counted), g is the most that the degrees allow.

Prices and weights may be any: r and g are computed from them anew. A layer is bounded several
times, with weights that fall where r shows that a pair cannot matter, and the best bound is kept.
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

# A pair's weight falls from pass to pass with what it loses, in units of similarity.
PASSES, _SCALE, _LEAST_WEIGHT = 2, 0.2, 0.05

# Rounding of sums of some thousand terms between 0 and 1, with much to spare.
_ROUNDING = 1e-12


def lower_bound(
    a: Sequence[Layer], b: Sequence[Layer], labelled_outputs: bool, passes: int = PASSES
) -> float:
    """No matchings of all layers give a smaller network distance: in [0, 1].

    Args:
        a, b: comparable networks' layers.
        labelled_outputs: the last layer's neurons carry labels and stay in place.
        passes: how often each layer is bounded; more take longer and may tighten the bound.
    """
    total, most = 0.0, 0
    paid: Matrix | None = None
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        if x.full and y.full:
            paid = None
            continue
        most += max(x.shape[0], y.shape[0])
        if labelled_outputs and index == len(a) - 1:
            same = np.eye(x.shape[0])
            gains = _first_gains(x, y) if index == 0 else _gains(x, y, paid, same)
            total += float(np.trace(gains))
        elif index == 0:
            bound, paid = _bound(_first_gains(x, y))
            total += bound
        else:
            bound, paid = _best_bound(x, y, paid, passes)
            total += bound
    return max(0.0, 1.0 - total / most - _ROUNDING) if most else 0.0


def _first_gains(a: Layer, b: Layer) -> Matrix:
    """The true similarities of neurons whose inputs carry labels: (n_a, n_b)."""
    sparse = jaccard_gains(a, b, input_places(None, 1, a.shape[1], b.shape[1]))
    gains = np.zeros((a.shape[0], b.shape[0]))
    gains[np.repeat(np.arange(len(gains)), np.diff(sparse.indptr)), sparse.indices] = sparse.values
    gains[np.ix_(a.degrees == 0, b.degrees == 0)] = 1.0
    return gains


def _best_bound(a: Layer, b: Layer, paid: Matrix | None, passes: int) -> tuple[float, Matrix]:
    """The best bound of a layer's total gain over several weightings, and its r."""
    weights = np.ones((a.shape[0], b.shape[0]))
    best, kept = _bound(_gains(a, b, paid, weights))
    lost = kept
    for _ in range(passes - 1 if paid is not None else 0):
        weights = np.sqrt(weights * np.maximum(_LEAST_WEIGHT, np.exp(-lost / _SCALE)))
        bound, lost = _bound(_gains(a, b, paid, weights))
        if bound < best:
            best, kept = bound, lost
    return best, kept


def _gains(a: Layer, b: Layer, paid: Matrix | None, weights: Matrix) -> Matrix:
    """g of a layer: (n_a, n_b).

    Args:
        paid: r of the layer before; None where nothing is known of it.
        weights: w, (n_a, n_b).
    """
    group = a.in_group
    before = a.shape[1] // a.in_group, b.shape[1] // b.in_group
    if paid is None:
        paid = np.zeros(before)
    exchanged_weights = np.ascontiguousarray(weights.T)
    shares = np.minimum(
        _shares(b.columns, a.columns, group, weights, paid.shape),
        _shares(a.columns, b.columns, group, exchanged_weights, paid.shape[::-1]).T,
    )
    each = np.divide(paid, shares, out=np.zeros_like(paid), where=shares > 0)
    gains = np.empty((a.shape[0], b.shape[0]))
    exchanged = np.empty(gains.shape[::-1])
    _most_of_rows(a.rows, b.rows, group, np.ascontiguousarray(each.T), weights, gains)
    _most_of_rows(b.rows, a.rows, group, each, exchanged_weights, exchanged)
    return np.minimum(gains, exchanged.T)


@compiled
def _shares(
    a: Connections, b: Connections, group: int, weights: Matrix, before: tuple[int, int]
) -> Matrix:
    """W by rows: for k of B and k' of A, the sum over the connections out of k' of the greatest
    weight with one out of k.

    Args:
        a, b: the neurons that each input reaches.
        weights: (n_b, n_a).
        before: neurons of the layer before in B and in A.
    """
    shares = np.zeros(before)
    greatest = np.empty(weights.shape[1])
    for k in range(before[0]):
        for offset in range(group):
            key = k * group + offset
            greatest[:] = 0.0
            for j in b.indices[b.indptr[key] : b.indptr[key + 1]]:
                _upper(greatest, weights[j])
            for other in range(before[1]):
                key = other * group + offset
                total = 0.0
                for c in range(a.indptr[key], a.indptr[key + 1]):
                    total += greatest[a.indices[c]]
                shares[k, other] += total
    return shares


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
def _most_of_rows(
    a: Connections, b: Connections, group: int, each: Matrix, weights: Matrix, gains: Matrix
) -> None:
    """Fill in g by the connections of the rows: each one at its cheapest among the column's.

    Args:
        each: (neurons before in B, in A); r / W.
        weights: (n_a, n_b).
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
            either = len(keys) + degrees - (s + 1)
            _raise(gains[i], s + 1, either, weights[i] * paid, degrees)
        # Beyond what is sorted the gain is convex in I: its maximum is at the end.
        if len(keys) > kept:
            for j in range(n_b):
                common = min(len(keys), degrees[j])
                if common > kept:
                    more = (common - kept) * smallest[kept - 1, j]
                    gain = common / (len(keys) + degrees[j] - common) - weights[i, j] * (
                        paid[j] + more
                    )
                    gains[i, j] = max(gains[i, j], gain)


@compiled
def _lower(low: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Put the smaller one of each two values into `low`."""
    for j in range(len(low)):
        low[j] = values[j] if values[j] < low[j] else low[j]


@compiled
def _upper(high: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Put the greater one of each two values into `high`."""
    for j in range(len(high)):
        high[j] = values[j] if values[j] > high[j] else high[j]


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
