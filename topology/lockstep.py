"""Many pairs matched layer by layer in lockstep, their common connections counted on a device.

A pair's next layer cannot be counted before this one is matched, but another pair's can: all pairs
go through a layer before any goes on to the next, and the device counts one pair while the CPU
matches another. Matchings and distances are those of `layerwise.match_layerwise`, bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from topology.canonical import CanonicalForm
from topology.gains import gains_of_counts, jaccard_gains
from topology.layerwise import Layerwise, Matching, in_place, match_layer, places_after
from topology.overlap_torch import WIDE, Counter, Pair, pays

# Pairs in lockstep: enough that starting and ending a layer hardly counts, few enough that their
# matchings are small beside their networks.
_TOGETHER = 256


@dataclass
class _Walk:
    """One pair on its way through its layers."""

    a: CanonicalForm
    b: CanonicalForm
    distances: list[float] = field(default_factory=list)
    matchings: list[Matching] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def pair(self) -> Pair:
        """The layers to come, and where the inputs of one lie among the other's."""
        a, b = (form.layers[len(self.matchings)] for form in (self.a, self.b))
        return Pair(a, b, places_after(self.matchings, a, b))

    def matched(self, distance: float, matching: Matching, gap: float = 0.0) -> None:
        """Go on to the next layer."""
        self.distances.append(distance)
        self.matchings.append(matching)
        self.gaps.append(gap)


def layerwise_many(
    pairs: Sequence[tuple[CanonicalForm, CanonicalForm]],
    labelled_outputs: bool,
    device: str,
    wide: int = WIDE,
) -> Iterator[Layerwise]:
    """What `layerwise.match_layerwise` returns for each pair, in turn.

    Args:
        pairs: each in the order that `match_layerwise` would get it in; all of one depth. Those
            that share a network had better be near one another.
        labelled_outputs: as `match_layerwise` takes it.
        device: as torch names it; `overlap_torch.device_for` says which.
        wide: layers below this width are counted on the CPU.
    """
    counter = Counter(device)
    for start in range(0, len(pairs), _TOGETHER):
        walks = [_Walk(a, b) for a, b in pairs[start : start + _TOGETHER]]
        depth = len(walks[0].a.layers)
        for index in range(depth):
            if labelled_outputs and index == depth - 1:
                for walk in walks:
                    walk.matched(*in_place(*walk.pair()))
            else:
                _match_layers(walks, index, counter, wide)
        for walk in walks:
            yield walk.distances, walk.matchings, walk.gaps


def _match_layers(walks: Sequence[_Walk], index: int, counter: Counter, wide: int) -> None:
    """Match one layer of every pair."""
    pairs = [walk.pair() for walk in walks]
    on_device = [pays(pair.a, pair.b, wide) for pair in pairs]
    counts = counter.counts(pair for pair, counted in zip(pairs, on_device, strict=True) if counted)
    for walk, pair, counted in zip(walks, pairs, on_device, strict=True):
        if counted:
            gains = gains_of_counts(next(counts), pair.a.degrees, pair.b.degrees)
        else:
            gains = jaccard_gains(*pair)
        walk.matched(*match_layer(walk.a, walk.b, index, gains))
    counts.close()
