"""Methods whose topology evolves while it trains: SET, RigL, sparse momentum, ITOP, chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from storage.durations import parse_duration
from storage.errors import InputError
from sweeps.training import positions
from sweeps.training.initial import NEW_WEIGHTS
from sweeps.training.masking import Change, evolve
from sweeps.training.method_settings import EvolvingSettings, Fraction
from sweeps.training.methods import Length, Saliency, Static
from sweeps.training.models import Layer
from sweeps.training.positions import Positions
from sweeps.training.rules import CHUNK_WEIGHTS, DROPS, GROWS, FloatArray, LayerState, Need
from sweeps.training.schedules import DECAYS, Periodic, Schedule
from sweeps.training.settings import Settings
from sweeps.training.streams import Purpose, Streams


class SetSettings(EvolvingSettings):
    """Sparse evolutionary training (Mocanu et al. 2018).

    Each ``update_every`` (``1ep`` epochs or ``100it`` steps) ``drop_fraction`` (zeta, in (0, 1))
    of the positive and of the negative weights are dropped, those nearest zero, and as many new
    connections grow at random; ``new_weights`` says what they start from.
    """

    name: Literal["set"] = "set"


class RiglSettings(EvolvingSettings):
    """RigL (Evci et al. 2020): the weights nearest zero go, new ones grow where the gradient of
    all weights, taken at updates only, is largest; the fraction falls as a cosine until 75% of
    training."""

    name: Literal["rigl"] = "rigl"
    drop: Literal["by_sign", "magnitude"] = "magnitude"
    grow: Literal["random", "random_elsewhere", "unexplored", "gradient", "momentum"] = "gradient"
    decay: Literal["constant", "cosine", "linear"] = "cosine"
    update_every: str = "100it"
    update_until: Annotated[float, Field(gt=0, le=1)] = 0.75


class SnfsSettings(EvolvingSettings):
    """Sparse momentum (Dettmers and Zettlemoyer 2019, "sparse networks from scratch"): growth
    where the gradients' running mean is largest, more of it in layers whose connections have a
    larger one on average (unless ``redistribute: none``)."""

    name: Literal["snfs"] = "snfs"
    drop: Literal["by_sign", "magnitude"] = "magnitude"
    grow: Literal["random", "random_elsewhere", "unexplored", "gradient", "momentum"] = "momentum"
    drop_fraction: Fraction = 0.5
    decay: Literal["constant", "cosine", "linear"] = "cosine"
    redistribute: Literal["none", "momentum"] = "momentum"


class ItopSettings(EvolvingSettings):
    """In-time over-parameterisation (Liu et al. 2021): a longer time between updates lets new
    connections prove themselves, and many of them over training make up for the sparsity.

    The paper's intervals are 1,500 steps for random and 4,000 for gradient growth, with batches of
    128 of CIFAR's 50,000 samples: about 4 and 10 epochs. ``grow: unexplored`` takes connections
    that have never been; metric ``exploration`` says what share has.
    """

    name: Literal["itop"] = "itop"
    drop: Literal["by_sign", "magnitude"] = "magnitude"
    drop_fraction: Fraction = 0.5
    decay: Literal["constant", "cosine", "linear"] = "cosine"
    update_every: str = "4ep"


class ChainSettings(SetSettings):
    """A chain of similar starts, then SET (Liu et al. 2020, the networks of its figure 4).

    Network ``link`` = k of a chain starts with round(k * ``moved`` * nnz) connections of each
    layer moved from where network 0 has them; what network k has moved, network k + 1 has moved,
    too. Network 0 is SET's own start of the same seed.
    """

    name: Literal["chain"] = "chain"  # type: ignore[assignment]
    link: Annotated[int, Field(ge=0)] = 0
    moved: Annotated[float, Field(gt=0, le=1)] = 0.01


class Set(Static):
    """Static, and at intervals weights near zero make room for new connections."""

    Settings: ClassVar[type[Settings]] = SetSettings

    @property
    def needs(self) -> Need:
        return GROWS[self.settings.grow].needs

    def schedule(self, length: Length) -> Schedule:
        settings = self.settings
        return Periodic(
            parse_duration(settings.update_every).steps(length.steps_per_epoch),
            settings.drop_fraction,
            max(1, round(settings.update_until * length.steps)),
            DECAYS[settings.decay],
        )

    def update(
        self,
        layers: Mapping[str, LayerState],
        fraction: float,
        rng_of: Callable[[str], np.random.Generator],
    ) -> dict[str, Change]:
        drop, grow = DROPS[self.settings.drop], GROWS[self.settings.grow]
        dropped = {name: drop(layer, fraction) for name, layer in layers.items()}
        counts = {name: len(own) for name, own in dropped.items()}
        if self.settings.redistribute == "momentum":
            counts = redistributed(layers, counts)
        return {
            name: evolve(layer, dropped[name], grow, counts[name], rng_of(name))
            for name, layer in layers.items()
        }

    def new_weights(self, rng: np.random.Generator, fan_in: Positions) -> FloatArray:
        return NEW_WEIGHTS[self.settings.new_weights](rng, fan_in)


class Rigl(Set):
    """SET with other defaults."""

    Settings: ClassVar[type[Settings]] = RiglSettings


class Snfs(Set):
    """SET with other defaults."""

    Settings: ClassVar[type[Settings]] = SnfsSettings


class Itop(Set):
    """SET with other defaults."""

    Settings: ClassVar[type[Settings]] = ItopSettings


class Chain(Set):
    """SET from the k-th start of a chain."""

    Settings: ClassVar[type[Settings]] = ChainSettings

    def start(
        self, layers: Sequence[Layer], streams: Streams, saliency: Saliency
    ) -> dict[str, Positions]:
        first = super().start(layers, streams, saliency)
        return {
            layer.name: self._link(first[layer.name], layer, streams, index)
            for index, layer in enumerate(layers)
            if layer.name in first
        }

    def _link(self, first: Positions, layer: Layer, streams: Streams, index: int) -> Positions:
        count = round(self.settings.link * self.settings.moved * len(first))
        # In one order for all links: what is moved once stays moved.
        leaving = streams.for_topology(Purpose.CHAIN, index, 0).permutation(first)[:count]
        free = layer.size - len(first)
        if count > min(len(first), free):
            raise AssertionError("a chain was not checked against its layers")
        rng = streams.for_topology(Purpose.CHAIN, index, 1)
        numbers = _first_of_a_permutation(free, count, rng)
        return Change(leaving, np.sort(positions.nth_free(first, numbers))).after(first)

    def counts(self, layers: Sequence[Layer]) -> dict[str, int]:
        counts = super().counts(layers)
        share = self.settings.link * self.settings.moved
        for layer in self.masked(layers):
            nnz = counts[layer.name]
            if round(share * nnz) > min(nnz, layer.size - nnz):
                raise InputError(
                    f"method.link: {self.settings.link} is not allowed with moved "
                    f"{self.settings.moved}: layer {layer.name} has {nnz} connections and "
                    f"{layer.size - nnz} free places to move them to"
                )
        return counts


def _first_of_a_permutation(n: int, count: int, rng: np.random.Generator) -> Positions:
    """The first ``count`` of the numbers 0 to n - 1 in a random order, which does not depend on
    ``count``; of many numbers without listing them all."""
    if n <= CHUNK_WEIGHTS:
        return rng.permutation(n)[:count]
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < count:
        drawn = np.concatenate([drawn, rng.integers(0, n, 4096)])
        drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    return drawn[:count]


def redistributed(layers: Mapping[str, LayerState], dropped: Mapping[str, int]) -> dict[str, int]:
    """How many connections grow in each layer: the sum of all that were dropped, in proportion to
    the mean |momentum| of the layers' connections (Dettmers and Zettlemoyer 2019, section 3.2).

    The total is kept exactly: shares are rounded down and the rest goes by largest remainders; no
    layer gets more than it has free places, and what it cannot take goes to the others.
    """
    left = {name: layer.size - len(layer.connected) + dropped[name]
            for name, layer in layers.items()}  # fmt: skip
    means = {name: mean_score(layer) for name, layer in layers.items()}
    if not any(means.values()):
        means = dict.fromkeys(means, 1.0)
    counts = dict.fromkeys(layers, 0)
    total = sum(dropped.values())
    while total:
        takers = [name for name in layers if left[name] and means[name]] or [
            name for name in layers if left[name]
        ]
        weight = sum(means[name] or 1.0 for name in takers)
        shares = {name: total * (means[name] or 1.0) / weight for name in takers}
        given = {name: min(int(shares[name]), left[name]) for name in takers}
        for name in sorted(takers, key=lambda name: int(shares[name]) - shares[name]):
            if sum(given.values()) < total and given[name] < left[name]:
                given[name] += 1
        for name, count in given.items():
            counts[name] += count
            left[name] -= count
        total -= sum(given.values())
    return counts


def mean_score(layer: LayerState) -> float:
    """The mean of |score| over a layer's connections."""
    if layer.scores is None or not len(layer.connected):
        return 0.0
    total, width = 0.0, layer.shape[1]
    step = max(1, CHUNK_WEIGHTS // width)
    for start in range(0, layer.shape[0], step):
        stop = min(start + step, layer.shape[0])
        inside = slice(*np.searchsorted(layer.connected, [start * width, stop * width]))
        found = layer.scores.rows(start, stop).ravel()[layer.connected[inside] - start * width]
        total += float(np.abs(found).sum(dtype=np.float64))
    return total / len(layer.connected)
