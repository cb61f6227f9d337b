"""Methods that choose their connections once, before training, by looking at the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from sweeps.training.method_settings import SparseSettings
from sweeps.training.methods import Saliency, Static, drawn
from sweeps.training.models import Layer
from sweeps.training.positions import Positions
from sweeps.training.rules import largest
from sweeps.training.settings import Settings
from sweeps.training.streams import Streams


class SnipSettings(SparseSettings):
    """SNIP (Lee et al. 2019): the connections with the largest |weight * gradient| at the start.

    The saliency is that of the dense network on the training's first batch; the largest are kept
    over all masked layers together, so ``distribution`` decides the total alone.
    """

    name: Literal["snip"] = "snip"
    first_weights: Literal["fan_in", "layer"] = "layer"


class RandomPrunedSettings(SnipSettings):
    """A random topology with the layers' numbers of connections that SNIP finds (layer-wise ratios
    are most of what pruning at the start does: Su et al. 2020; Frankle et al. 2021)."""

    name: Literal["random_pruned"] = "random_pruned"  # type: ignore[assignment]


class Snip(Static):
    """Static, with connections chosen by their saliency."""

    Settings: ClassVar[type[Settings]] = SnipSettings

    def start(
        self, layers: Sequence[Layer], streams: Streams, saliency: Saliency
    ) -> dict[str, Positions]:
        scores = saliency()
        names = list(scores)
        flat = np.concatenate([scores[name] for name in names])
        # The most salient connection of every layer stays: without one a network is cut in two.
        starts = np.cumsum([0, *(len(scores[name]) for name in names)])
        best = [s + int(np.argmax(scores[n])) for s, n in zip(starts[:-1], names, strict=True)]
        flat[best] = np.inf
        kept = largest(flat, sum(self.counts(layers).values()))
        return {
            name: kept[slice(*np.searchsorted(kept, [start, stop]))] - start
            for name, start, stop in zip(names, starts[:-1], starts[1:], strict=True)
        }


class RandomPruned(Snip):
    """SNIP's numbers of connections, at random places."""

    Settings: ClassVar[type[Settings]] = RandomPrunedSettings

    def start(
        self, layers: Sequence[Layer], streams: Streams, saliency: Saliency
    ) -> dict[str, Positions]:
        chosen = super().start(layers, streams, saliency)
        return drawn(layers, {name: len(own) for name, own in chosen.items()}, streams)
