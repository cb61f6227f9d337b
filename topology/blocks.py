"""One layer's neurons matched anew while all other layers stay: an assignment, solved exactly.

What matching neuron k of A with k' of B is worth, all else fixed, is their own similarity and what
it adds to the similarities of the layer above. There I_m of each neuron m of A (matched with m') is
linear in this layer's matching, and f(I) = I / (S - I) is convex, so that for any I and the present
I0

    f(I) >= f(I0) + S / (S - I0)^2 (I - I0),      S = d_m + d_m'

Hence gain(k, k') = f(I_kk') + the sum of S / (S - I0)^2 over the pairs of connections (k to m, k'
to m') of equal offset: where the assignment of greatest gain is better than the present one, the
true total is too, by at least as much. It cannot fall.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.assignment import UNMATCHED, assign, most_gain
from topology.compiled import compiled
from topology.gains import Gains, by_falling_gain
from topology.wiring import Wiring, common_connections, degree

# What a connection that is matched as well adds to the similarity of the neuron above:
TANGENT = 0  # at least, which makes an update an ascent;
CHORD = 1  # on average on the way to the most that its two degrees allow;
REMAINING = 2  # the same, and nothing where the most is reached.

# Updates without an end would be a defect of rounding; 5 to 30 are usual.
_MOST_UPDATES = 300
_ROUNDING = 1e-9


# Pairs per neuron above which a solver gains more by having them sorted than the sorting costs.
_SORTED = 128


class _Row(NamedTuple):
    """What is known of one neuron of A with those of B, (n_b,) each, all 0 between neurons.

    Attributes:
        common: int32; common connections.
        reward: float64; the gain besides.
        found: int32; the neurons for which there is any, first to last.
    """

    common: NDArray[np.int32]
    reward: NDArray[np.float64]
    found: NDArray[np.int32]


@compiled
def block_gains(
    a: Wiring,
    b: Wiring,
    matching: NDArray[np.int64],
    common: NDArray[np.int64],
    layer: int,
    slope: int,
    both_empty: float,
    least: float,
    noise: float,
    seed: int,
) -> Gains:
    """What each pair of neurons of a layer is worth, the other layers being matched as they are.

    Args:
        common: I0 of the layer above.
        slope: TANGENT, CHORD or REMAINING.
        both_empty: what a pair without incoming connections is worth in itself; 1 in truth.
        least: pairs must be worth more than this.
        noise: each gain times 1 to 1 + noise, at random from `seed`.
    """
    start, end = a.base[layer + 1], a.base[layer + 2]
    start_b, n_b = b.base[layer + 1], b.base[layer + 2] - b.base[layer + 1]
    indptr = np.zeros(end - start + 1, dtype=np.int64)
    indices, values = np.empty(n_b, dtype=np.int32), np.empty(n_b)
    work = _Row(np.zeros(n_b, dtype=np.int32), np.zeros(n_b), np.empty(n_b, dtype=np.int32))
    degrees_b = np.diff(b.in_ptr[start_b : start_b + n_b + 1])
    empty = np.flatnonzero(degrees_b == 0)
    random = np.uint64(seed)
    n = 0
    for i in range(start, end):
        found = 0
        d = degree(a, i)
        if a.counted[layer]:
            found = _count_common(a, b, matching, layer, i, work)
            if d == 0 and both_empty > 0:
                for j in empty:
                    work.reward[j] = both_empty
                    work.found[found] = j
                    found += 1
        if layer + 1 < len(a.counted) and a.counted[layer + 1]:
            found = _add_rewards(a, b, matching, common, layer, i, slope, work, found)
        if n + found > len(indices):
            more = len(indices) + found
            indices = np.append(indices, np.empty(more, dtype=np.int32))
            values = np.append(values, np.empty(more))
        for k in range(found):
            j = work.found[k]
            gain = work.reward[j]
            c = work.common[j]
            if c:
                gain += c / (d + degrees_b[j] - c)
            work.common[j], work.reward[j] = 0, 0.0
            if noise > 0:
                random = random * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                gain *= 1.0 + noise * (np.float64(random >> np.uint64(11)) / 9007199254740992.0)
            if gain > least:
                indices[n], values[n] = j, gain
                n += 1
        indptr[i - start + 1] = n
    if n > _SORTED * len(indptr):
        return by_falling_gain(indptr, indices[:n], values[:n])
    return Gains(indptr, indices[:n], values[:n], np.inf)


@compiled
def _count_common(
    a: Wiring, b: Wiring, matching: NDArray[np.int64], layer: int, i: int, row: _Row
) -> int:
    """Common connections of A's neuron i with neurons of B."""
    start, start_b, group = b.key_base[layer], b.base[layer + 1], b.group[layer]
    found = 0
    for c in range(a.in_ptr[i], a.in_ptr[i + 1]):
        p = matching[a.in_source[c]]
        if p == UNMATCHED:
            continue
        key = start + (p - b.base[layer]) * group + a.in_offset[c]
        for e in range(b.out_ptr[key], b.out_ptr[key + 1]):
            j = b.out_target[e] - start_b
            if row.common[j] == 0:
                row.found[found] = j
                found += 1
            row.common[j] += 1
    return found


@compiled
def _add_rewards(
    a: Wiring,
    b: Wiring,
    matching: NDArray[np.int64],
    common: NDArray[np.int64],
    layer: int,
    i: int,
    slope: int,
    row: _Row,
    found: int,
) -> int:
    """What matching A's neuron i with neurons of B adds to the similarities above."""
    group, start_b = a.group[layer + 1], b.base[layer + 1]
    key = a.key_base[layer + 1] + (i - a.base[layer + 1]) * group
    for offset in range(group):
        for e in range(a.out_ptr[key + offset], a.out_ptr[key + offset + 1]):
            above = a.out_target[e]
            match = matching[above]
            if match == UNMATCHED:
                continue
            worth = _slope(slope, common[above], degree(a, above), degree(b, match))
            if worth <= 0:
                continue
            for c in range(b.in_ptr[match], b.in_ptr[match + 1]):
                if b.in_offset[c] == offset:
                    j = b.in_source[c] - start_b
                    if row.common[j] == 0 and row.reward[j] == 0:
                        row.found[found] = j
                        found += 1
                    row.reward[j] += worth
    return found


@compiled
def _slope(kind: int, common: int, degree_a: int, degree_b: int) -> float:
    both = degree_a + degree_b
    if kind == TANGENT:
        return both / (both - common) ** 2
    most = min(degree_a, degree_b)
    if kind == CHORD:
        common = min(common, most - 1)
    if most == 0 or common == most:
        return 0.0
    highest = most / max(degree_a, degree_b)
    return (highest - common / (both - common)) / (most - common)


@compiled
def ascend(
    a: Wiring,
    b: Wiring,
    matching: NDArray[np.int64],
    order: NDArray[np.int64],
    gaps: NDArray[np.float64],
) -> float:
    """Update one layer after the other, in place, until none gets better.

    Args:
        matching: any. As many neurons as possible are matched in the end.
        order: the layers whose neurons may be matched anew, in the order of the updates.
        gaps: (layers,) to be filled, for the layers in `order`, with the primal-dual gap of the
            assignment that was solved last; or (0,).

    Returns:
        The total similarity, which is not below that of the matching given.
    """
    layers = len(a.counted)
    common = np.zeros(len(matching), dtype=np.int64)
    totals = np.zeros(layers + 1)  # the last one stays 0: nothing is above the last layer
    for layer in range(layers):
        if a.counted[layer]:
            totals[layer] = common_connections(a, b, matching, layer, common)
    settled = 0
    for step in range(_MOST_UPDATES):
        if settled == len(order):
            break
        layer = order[step % len(order)]
        part = matching[a.base[layer + 1] : a.base[layer + 2]]
        before, below, above = part.copy(), totals[layer], totals[layer + 1]
        gains = block_gains(a, b, matching, common, layer, TANGENT, 1.0, 0.0, 0.0, 0)
        found, prices = assign(gains, b.base[layer + 2] - b.base[layer + 1])
        if len(gaps):
            gaps[layer] = most_gain(gains, prices) - _gained(gains, found)
        replace(part, found, b.base[layer + 1], len(prices))
        _count(a, b, matching, layer, common, totals)
        gained = totals[layer] + totals[layer + 1] - below - above
        settled = 1 if gained > _ROUNDING else settled + 1
        if gained < 0:
            part[:] = before
            _count(a, b, matching, layer, common, totals)
    for layer in order:  # only a reverted update can have left neurons unmatched
        part = matching[a.base[layer + 1] : a.base[layer + 2]]
        n_b = b.base[layer + 2] - b.base[layer + 1]
        if (part == UNMATCHED).sum() > max(0, len(part) - n_b):
            replace(part, np.full(len(part), UNMATCHED, dtype=np.int64), b.base[layer + 1], n_b)
            _count(a, b, matching, layer, common, totals)
    return float(totals.sum())


@compiled
def replace(part: NDArray[np.int64], found: NDArray[np.int64], start_b: int, n_b: int) -> None:
    """Replace a layer's part of a matching by what an assignment found.

    Neurons that it left unmatched keep their match where that is still to be had; the others are
    matched with what is left, both in their order.
    """
    taken = np.zeros(n_b, dtype=np.bool_)
    for j in found:
        if j != UNMATCHED:
            taken[j] = True
    for i in range(len(part)):
        if found[i] != UNMATCHED:
            part[i] = start_b + found[i]
        elif part[i] != UNMATCHED and not taken[part[i] - start_b]:
            taken[part[i] - start_b] = True
        else:
            part[i] = UNMATCHED
    j = 0
    for i in range(len(part)):
        if part[i] == UNMATCHED:
            while j < n_b and taken[j]:
                j += 1
            if j < n_b:
                part[i] = start_b + j
                j += 1


@compiled
def _count(
    a: Wiring,
    b: Wiring,
    matching: NDArray[np.int64],
    layer: int,
    common: NDArray[np.int64],
    totals: NDArray[np.float64],
) -> None:
    """Count again what a layer's matching has a part in: its similarities and the next one's."""
    for touched in range(layer, min(layer + 2, len(a.counted))):
        if a.counted[touched]:
            totals[touched] = common_connections(a, b, matching, touched, common)


@compiled
def _gained(gains: Gains, found: NDArray[np.int64]) -> float:
    total = 0.0
    for i in range(len(found)):
        if found[i] != UNMATCHED:
            for k in range(gains.indptr[i], gains.indptr[i + 1]):
                if gains.indices[k] == found[i]:
                    total += gains.values[k]
                    break
    return total
