"""All layers of two networks matched together.

Over the matchings pi_l of each hidden layer (network inputs stay in place, and so do labelled
outputs) the total similarity is to be as great as possible:

    sum over counted layers l, neurons i of  f(I_l(i)),     f(I) = I / (d_i + d_pi(i) - I)

where I_l(i) is the number of i's incoming connections that pi_(l-1) brings onto those of pi_l(i)
(`wiring`). Layers that are full in both networks are not counted, but matched. The network distance
is 1 - total / (sum of max(n_a, n_b) over the counted layers). The exact maximum is a quadratic
assignment problem; this is a search:

1. From each start, block updates until no layer gets better (`blocks`). Starts are those given and
   two of structure: sure pairs first, from the layerwise matching and from none (`starts`).
2. The best mixture of all that was found (`recombination`), which is updated again.
3. Rounds of the same from the best matching, with gains changed a little at random, as long as the
   work allows.

Everything is a function of the two networks as they come. In canonical order (`canonical`), the
pair ordered too, the result therefore follows from structure alone, random numbers included.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topology.assignment import UNMATCHED
from topology.blocks import CHORD, REMAINING, ascend
from topology.prepared import Layer
from topology.recombination import take_better
from topology.starts import Sweeps, sweep
from topology.wiring import Wiring, layer_matchings, total_similarity, whole_matching, wire

Matching = NDArray[np.int64]

# Chosen on the published networks and on small ones that share 30 to 70% of their connections.
_FROM_LAYERWISE = np.array([0.3, 0.2, 0.15, 0.1])
_FROM_NONE = np.array([0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1])
_AGAIN = np.array([0.5, 0.3, 0.1])
_NOISE = (0.3, 1.0)  # in turn, after a first round without

# Pairs of connections that meet in one sweep, times rounds: one round for the published networks.
_WORK = 150_000
_MOST_ROUNDS = 24


@dataclass(frozen=True, eq=False)
class JointMatching:
    """All layers' matchings.

    Attributes:
        matchings: one (n_a,) array a layer: the neuron of B for each of A's, -1 for none.
        gaps: the primal-dual gap, per neuron, of each layer's last assignment: no block update of
            that layer gains more.
    """

    matchings: list[Matching]
    gaps: list[float]


def match_jointly(
    a: Sequence[Layer],
    b: Sequence[Layer],
    labelled_outputs: bool,
    starts: Mapping[str, Sequence[Matching]],
) -> JointMatching:
    """Match all layers of two networks together, never worse than any start that is given.

    Args:
        a, b: comparable networks' layers, in canonical order.
        labelled_outputs: the last layer's neurons carry labels and stay in place.
        starts: by name, matchings, one (n_a,) array a layer; `layerwise` is among them.
    """
    counted = [not (x.full and y.full) for x, y in zip(a, b, strict=True)]
    wired_a, wired_b = wire(a, counted), wire(b, counted)
    free = np.arange(len(a) - 1 if labelled_outputs else len(a), dtype=np.int64)
    given = {name: whole_matching(wired_a, wired_b, start) for name, start in starts.items()}
    search = _Search(wired_a, wired_b, free)
    for start in given.values():
        search.consider(start)
    layerwise = given["layerwise"]
    if not search.perfect:
        search.sweep(layerwise, Sweeps(_FROM_LAYERWISE, REMAINING, 0.0, 0))
        search.sweep(_blank(wired_a, free, layerwise), Sweeps(_FROM_NONE, REMAINING, 0.0, 0))
        for name, start in given.items():
            if name != "layerwise":  # from there the first sweeps have come
                search.ascend(start)
    for number in range(_rounds(wired_a, wired_b)):
        noise = _NOISE[number % len(_NOISE)] if number else 0.0
        if not search.perfect:
            search.sweep(search.best, Sweeps(_AGAIN, CHORD, noise, number << 16))
    gaps = search.finish(given.values())
    return JointMatching(layer_matchings(wired_a, wired_b, search.best), gaps)


class _Search:
    """The best matching so far."""

    def __init__(self, a: Wiring, b: Wiring, free: Matching) -> None:
        self.a, self.b, self.free = a, b, free
        self.best = np.empty(0, dtype=np.int64)
        self._widths = np.maximum(np.diff(a.base), np.diff(b.base))[1:]
        self._total = -1.0

    @property
    def perfect(self) -> bool:
        """Nothing is left to gain."""
        return self._total >= float(self._widths[self.a.counted].sum())

    def sweep(self, start: Matching, sweeps: Sweeps) -> None:
        """Match anew from a start, update, take over what is better."""
        matching = start.copy()
        sweep(self.a, self.b, matching, self.free, sweeps)
        self.ascend(matching)

    def ascend(self, start: Matching) -> None:
        """Update from a start, take over what is better."""
        matching = start.copy()
        ascend(self.a, self.b, matching, self.free, np.empty(0))
        self.consider(matching)

    def consider(self, matching: Matching) -> None:
        """Take over what is better."""
        if len(self.best) == 0:
            self.best = matching.copy()
        else:
            take_better(self.a, self.b, self.best, matching)
        self._total = total_similarity(self.a, self.b, self.best)

    def finish(self, given: Iterable[Matching]) -> list[float]:
        """Update the best matching; returns each layer's gap, per neuron, of its last update.

        Where rounding has put it below a start that was given, it is that start.
        """
        gaps = np.zeros(len(self.a.counted))
        ascend(self.a, self.b, self.best, self.free, gaps)
        self.best = max(
            (self.best, *given), key=lambda matching: total_similarity(self.a, self.b, matching)
        )
        per_neuron: list[float] = np.maximum(0.0, gaps / self._widths).tolist()
        return per_neuron


def _blank(a: Wiring, free: Matching, matching: Matching) -> Matching:
    """The matching without the neurons of the free layers."""
    blank = matching.copy()
    for layer in free:
        blank[a.base[layer + 1] : a.base[layer + 2]] = UNMATCHED
    return blank


def _rounds(a: Wiring, b: Wiring) -> int:
    """How many rounds the work allows: by counting, for a clock would change the result."""
    work = 0.0
    for layer in np.flatnonzero(a.counted).tolist():
        sizes = np.diff(b.base)[layer : layer + 2]
        pairs = _connections(a, layer) * _connections(b, layer)
        work += pairs * float((1 / sizes).sum())
    return int(min(_MOST_ROUNDS, _WORK // max(1.0, work)))


def _connections(wiring: Wiring, layer: int) -> float:
    """How many a layer has; a float, for products of two may be large."""
    start, end = wiring.base[layer + 1], wiring.base[layer + 2]
    return float(wiring.in_ptr[end] - wiring.in_ptr[start])
