"""Methods of sparse training: each is what it changes over the one before.

A method answers these questions: which connections does each layer start with, when is the
topology updated, and what is an update. The loop in ``loop.py`` is the same for all. To add a
method of your own see docs/methods.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from sweeps.training import positions
from sweeps.training.distributions import DISTRIBUTIONS, Target
from sweeps.training.initial import FIRST_WEIGHTS, FirstWeights
from sweeps.training.masking import Change
from sweeps.training.method_settings import SparseSettings
from sweeps.training.models import Layer
from sweeps.training.positions import Positions
from sweeps.training.rules import FloatArray, LayerState, Need
from sweeps.training.schedules import Never, Schedule
from sweeps.training.settings import Settings
from sweeps.training.streams import Purpose, Streams

Saliency = Callable[[], Mapping[str, FloatArray]]


@dataclass(frozen=True)
class Length:
    """How long a training is."""

    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


class DenseSettings(Settings):
    """Every connection, always."""

    name: Literal["dense"] = "dense"


class StaticSettings(SparseSettings):
    """A sparse topology that stays as it was drawn."""

    name: Literal["static"] = "static"


class Dense:
    """Nothing is masked and nothing changes. Every method is one of these.

    ``needs``: which scores of all weights an update looks at, ``gradient`` or ``momentum``.
    """

    Settings: ClassVar[type[Settings]] = DenseSettings

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def needs(self) -> Need:
        return "nothing"

    @property
    def first_weights(self) -> FirstWeights:
        """How first weights are drawn."""
        return FIRST_WEIGHTS["fan_in"]

    def masked(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers that have a mask; the others are dense and outside every density."""
        return []

    def counts(self, layers: Sequence[Layer]) -> dict[str, int]:
        """The number of connections of each masked layer that the settings ask for.

        Raises InputError where a layer would have none.
        """
        return {}

    def most(self, layers: Sequence[Layer]) -> dict[str, int]:
        """The most connections that each masked layer has at any time, about."""
        return self.counts(layers)

    def start(
        self, layers: Sequence[Layer], streams: Streams, saliency: Saliency
    ) -> dict[str, Positions]:
        """The first connections of each masked layer, sorted positions.

        ``saliency()`` gives |weight * gradient| of every weight of the masked layers, flat, of
        the dense network at its start on the training's first batch.
        """
        return {}

    def schedule(self, length: Length) -> Schedule:
        """When the topology is updated. Raises InputError where that does not fit the length."""
        return Never()

    def update(
        self,
        layers: Mapping[str, LayerState],
        fraction: float,
        rng_of: Callable[[str], np.random.Generator],
    ) -> dict[str, Change]:
        """One update of the masked layers, where the schedule says that one is due."""
        raise AssertionError("a method that never updates was asked to")

    def new_weights(self, rng: np.random.Generator, fan_in: Positions) -> FloatArray:
        """What grown connections start from; ``fan_in`` is their neuron's, (n,)."""
        return np.zeros(len(fan_in), dtype=np.float32)

    def rewinds_to(self, length: Length) -> int | None:
        """The step whose weights come back after each update, if any."""
        return None

    def round_steps(self, length: Length) -> int:
        """The steps that a schedule of learning rates spans: a round, where the method begins
        again after each one, else the whole training."""
        return length.steps


class Static(Dense):
    """A sparse topology, drawn once."""

    Settings: ClassVar[type[Settings]] = StaticSettings

    @property
    def first_weights(self) -> FirstWeights:
        return FIRST_WEIGHTS[self.settings.first_weights]

    def masked(self, layers: Sequence[Layer]) -> list[Layer]:
        return [layer for layer in layers if layer.role != "output" or self.settings.mask_output]

    def counts(self, layers: Sequence[Layer]) -> dict[str, int]:
        masked = self.masked(layers)
        asked = self.settings.resolved()
        target = Target(asked.get("density"), asked.get("epsilon"), asked.get("densities"))
        counts = DISTRIBUTIONS[self.settings.distribution](
            [layer.tensor_shape for layer in masked], target
        )
        return {layer.name: count for layer, count in zip(masked, counts, strict=True)}

    def start(
        self, layers: Sequence[Layer], streams: Streams, saliency: Saliency
    ) -> dict[str, Positions]:
        return drawn(layers, self.counts(layers), streams)


def drawn(
    layers: Sequence[Layer], counts: Mapping[str, int], streams: Streams
) -> dict[str, Positions]:
    """So many connections of each layer named, at random; a layer's draw depends on its place in
    the network and on its own count alone."""
    return {
        layer.name: positions.draw(
            layer.size, counts[layer.name], streams.for_topology(Purpose.FIRST_MASK, index)
        )
        for index, layer in enumerate(layers)
        if layer.name in counts
    }
