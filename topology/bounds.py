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
times, at first with smaller weights for pairs of unlike degrees, then with weights that fall where
r shows that a pair cannot matter, and the best bound is kept.

The result is never below what the first layer's optimum and the degrees of the others allow on
their own. It depends on the order of neurons and networks only by the choice of prices; in
canonical order (`comparison`) it follows from structure alone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topology.assignment import assign, most_gain
from topology.compiled import compiled
from topology.contiguous import Matrix, slot
from topology.duals import bound_and_losses, lose_pairs, profits_of_pairs
from topology.gains import by_falling_gain, jaccard_gains
from topology.layerwise import in_place
from topology.overlap import input_places
from topology.payments import SLOTS, gains_after_payment, slot_size
from topology.prepared import Layer

# A pair's weight is 1 for equal degrees and falls with their Jaccard distance; from pass to pass it
# falls with what the pair loses. Both in units of similarity; chosen on the published networks.
PASSES, _UNLIKE, _SCALE, _LEAST_WEIGHT = 2, 0.5, 0.25, 0.15

# Rounding of sums of some thousand terms between 0 and 1, with much to spare.
_SPARE = 1e-12


def lower_bound(
    a: Sequence[Layer], b: Sequence[Layer], labelled_outputs: bool, passes: int = PASSES
) -> float:
    """No matchings of all layers give a smaller network distance: in [0, 1].

    Args:
        a, b: comparable networks' layers.
        labelled_outputs: the last layer's neurons carry labels and stay in place.
        passes: how often each layer is bounded; more take longer and may tighten the bound.
    """
    chain, total, alone, most = _Chain(a, b, passes), 0.0, 0.0, 0
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        labelled = labelled_outputs and index == len(a) - 1
        if x.full and y.full:
            chain.cut()
            continue
        most += max(x.shape[0], y.shape[0])
        if index == 0:
            first = _labelled(x, y) if labelled else chain.first(x, y)
            total, alone = total + first, alone + first
        else:
            total += chain.labelled(x, y) if labelled else chain.next(x, y)
            alone += _by_degrees(x.degrees, y.degrees, labelled)
    return max(0.0, 1.0 - min(total, alone) / most - _SPARE) if most else 0.0


class _Chain:
    """Bounds the total gain of one layer after the other.

    Attributes:
        paid: what the pairs of the layer before have lost; None where nothing is known.
    """

    def __init__(self, a: Sequence[Layer], b: Sequence[Layer], passes: int) -> None:
        self._passes = passes
        # In one piece, for which there are large pages: payments, then weights and three r in turn.
        size = max(a[0].shape[0] * b[0].shape[0], *map(slot_size, a[1:], b[1:]), 0)
        numbers = np.empty((SLOTS + 4, size), dtype=np.float32)
        self._slots, self._weights, self._lost = numbers[:SLOTS], numbers[SLOTS], [*numbers[-3:]]
        self.paid: Matrix | None = None

    def cut(self) -> None:
        """A layer that is not counted tells the next one nothing."""
        self.paid = None

    def first(self, a: Layer, b: Layer) -> float:
        """The least upper bound of a layer whose inputs carry labels."""
        gains = jaccard_gains(a, b, input_places(None, 1, a.shape[1], b.shape[1]))
        _, prices = assign(gains, b.shape[0])
        profits = profits_of_pairs(gains, prices)
        empty_a, empty_b = a.degrees == 0, b.degrees == 0
        # Empty neurons gain 1 with each other and nothing else: who is scarce has the gain.
        scarce = 0.5 * (1 + np.sign(empty_b.sum() - empty_a.sum()))
        profits[empty_a], prices[empty_b] = scarce, 1 - scarce
        self.paid = slot(self._lost[0], a.shape[0], b.shape[0])
        lose_pairs(gains, profits, prices, self.paid)
        self.paid[np.ix_(empty_a, empty_b)] = 0.0
        return float(profits.sum() + prices.sum())

    def next(self, a: Layer, b: Layer) -> float:
        """The best bound of a layer's total gain over several weightings."""
        before = self._paid(a, b)
        weights = slot(self._weights, a.shape[0], b.shape[0])
        _weigh_by_degrees(a.degrees, b.degrees, weights)
        best = np.inf
        for number in range(self._passes if self.paid is not None else 1):
            gains = gains_after_payment(a, b, before, weights, self._slots)
            lost = slot(self._lost[1], a.shape[0], b.shape[0])
            bound = bound_and_losses(gains, lost)
            if bound < best:
                best = bound
                self._lost[1], self._lost[2] = self._lost[2], self._lost[1]
            if number + 1 < self._passes:
                _weigh_again(weights, lost)
        self._lost = [self._lost[2], self._lost[0], self._lost[1]]
        self.paid = slot(self._lost[0], a.shape[0], b.shape[0])
        return best

    def labelled(self, a: Layer, b: Layer) -> float:
        """The bound of a layer whose neurons stay in place: only those pairs weigh anything."""
        same = np.eye(a.shape[0], dtype=np.float32)
        return float(
            np.trace(gains_after_payment(a, b, self._paid(a, b), same, self._slots), dtype=float)
        )

    def _paid(self, a: Layer, b: Layer) -> Matrix:
        if self.paid is not None:
            return self.paid
        nothing = slot(self._lost[0], a.shape[1] // a.in_group, b.shape[1] // b.in_group)
        nothing[:] = 0.0
        return nothing


def _labelled(a: Layer, b: Layer) -> float:
    """The total gain of neurons that stay in place, as their inputs do."""
    distance, _ = in_place(a, b, input_places(None, 1, a.shape[1], b.shape[1]))
    return a.shape[0] * (1.0 - distance)


def _by_degrees(a: NDArray[np.int32], b: NDArray[np.int32], labelled: bool) -> float:
    """The most that any matching gains by the degrees alone: min / max of each two.

    Equal ones first: 1 - min / max is a metric (the Jaccard distance of intervals from 0), so that
    it is optimal (`matching`).
    """
    if labelled:
        return float((np.minimum(a, b) / np.maximum(1, np.maximum(a, b)))[a + b > 0].sum()) + float(
            (a + b == 0).sum()
        )
    counts = [np.bincount(degrees, minlength=1 + max(a.max(), b.max())) for degrees in (a, b)]
    equal = np.minimum(*counts)
    x, y = (np.repeat(np.arange(len(equal)), count - equal) for count in counts)
    if len(x) > len(y):
        x, y = y, x
    gains = np.minimum.outer(x, y) / np.maximum(1, np.maximum.outer(x, y))
    i, j = np.nonzero(gains)
    indptr = np.searchsorted(i, np.arange(len(x) + 1))
    pairs = by_falling_gain(indptr.astype(np.int64), j.astype(np.int32), gains[i, j])
    return float(equal.sum() + most_gain(pairs, assign(pairs, len(y))[1]))


@compiled
def _weigh_by_degrees(a: NDArray[np.int32], b: NDArray[np.int32], weights: Matrix) -> None:
    """First weights: those of degrees alone."""
    one = np.float32(1)
    x, y = a.astype(np.float32), b.astype(np.float32)
    for i in range(len(a)):
        row = weights[i]
        for j in range(len(b)):
            low, high = (x[i], y[j]) if x[i] < y[j] else (y[j], x[i])
            distance = one - low / high if high > np.float32(0) else np.float32(0)
            row[j] = np.sqrt(_weight(distance, np.float32(1 / _UNLIKE)))


@compiled
def _weigh_again(weights: Matrix, lost: Matrix) -> None:
    for i in range(len(weights)):
        row, loss = weights[i], lost[i]
        for j in range(len(row)):
            row[j] = np.sqrt(row[j] * _weight(loss[j], np.float32(1 / _SCALE)))


@compiled
def _weight(loss: np.float32, rate: np.float32) -> np.float32:
    """About exp(-loss * rate), but not too small."""
    part = np.float32(1) - loss * rate * np.float32(0.125)
    part = part if part > np.float32(0) else np.float32(0)
    part *= part
    part *= part
    part *= part
    return part if part > np.float32(_LEAST_WEIGHT) else np.float32(_LEAST_WEIGHT)
