"""Methods that thin out a dense start: gradual magnitude pruning and lottery tickets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from storage.durations import parse_duration
from storage.errors import InputError
from sweeps.training.masking import Change
from sweeps.training.method_settings import PruningSettings, checked_duration
from sweeps.training.methods import Length, Saliency, Static
from sweeps.training.models import Layer
from sweeps.training.positions import Positions
from sweeps.training.rules import LayerState, drop_smallest
from sweeps.training.schedules import Gradual, Rounds, Schedule
from sweeps.training.settings import Settings
from sweeps.training.streams import Streams


class GmpSettings(PruningSettings):
    """Gradual magnitude pruning (Zhu and Gupta 2018): from dense to ``density`` by a cubic law.

    The weights nearest zero are dropped each ``update_every`` between the shares ``prune_from`` and
    ``update_until`` of training.
    """

    name: Literal["gmp"] = "gmp"
    update_every: str = "100it"
    prune_from: Annotated[float, Field(ge=0, lt=1)] = 0.0
    update_until: Annotated[float, Field(gt=0, le=1)] = 0.75

    _duration = field_validator("update_every")(checked_duration)

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> GmpSettings:
        if self.prune_from >= self.update_until:
            raise ValueError(
                f"prune_from: {self.prune_from} is not allowed: less than update_until "
                f"({self.update_until}) is needed"
            )
        return self


class LotterySettings(PruningSettings):
    """Lottery tickets: iterative magnitude pruning with rewinding (Frankle and Carbin 2019; Frankle
    et al. 2020).

    The epochs are divided into ``rounds`` + 1 equal rounds. After each round but the last the
    weights nearest zero are dropped, so that the density falls by the same factor each time, and
    all that is left goes back to its values at ``rewind_to`` (``0it``: the first weights); the
    optimiser forgets, and its schedule goes back to that step, too. Each round ends with a
    snapshot of its ticket.
    """

    name: Literal["lottery"] = "lottery"
    rounds: Annotated[int, Field(ge=1, le=1000)] = 4
    rewind_to: str = "0it"

    @field_validator("rewind_to")
    @classmethod
    def _duration_or_start(cls, value: str) -> str:
        return checked_duration(value, minimum=0)


class Gmp(Static):
    """Dense at first; the smallest weights go, little by little."""

    Settings: ClassVar[type[Settings]] = GmpSettings

    def __init__(self, settings: PruningSettings) -> None:
        super().__init__(settings)
        self._final: dict[str, int] = {}

    def start(
        self, layers: Sequence[Layer], streams: Streams, saliency: Saliency
    ) -> dict[str, Positions]:
        self._final = self.counts(layers)
        return {layer.name: np.arange(layer.size) for layer in self.masked(layers)}

    def most(self, layers: Sequence[Layer]) -> dict[str, int]:
        return {layer.name: layer.size for layer in self.masked(layers)}

    def schedule(self, length: Length) -> Schedule:
        settings = self.settings
        begin = round(settings.prune_from * length.steps)
        end = max(begin + 1, round(settings.update_until * length.steps))
        interval = parse_duration(settings.update_every).steps(length.steps_per_epoch)
        return Gradual(interval, begin, end)

    def kept(self, size: int, final: int, fraction: float) -> int:
        """How many of ``size`` weights are left when ``fraction`` of what is to go has gone."""
        return size - round(fraction * (size - final))

    def update(
        self,
        layers: Mapping[str, LayerState],
        fraction: float,
        rng_of: Callable[[str], np.random.Generator],
    ) -> dict[str, Change]:
        final = self._final
        nothing = np.empty(0, dtype=np.int64)
        if self.settings.scope == "global":
            size = sum(layer.size for layer in layers.values())
            dropped = _smallest_of_all(layers, self.kept(size, sum(final.values()), fraction))
        else:
            dropped = {}
            for name, layer in layers.items():
                kept = self.kept(layer.size, final[name], fraction)
                dropped[name] = drop_smallest(layer, len(layer.connected) - kept)
        return {name: Change(np.sort(own), nothing) for name, own in dropped.items()}


class Lottery(Gmp):
    """Dense at first; round by round the smallest weights go, and the rest begins anew."""

    Settings: ClassVar[type[Settings]] = LotterySettings

    def schedule(self, length: Length) -> Schedule:
        rounds = self.settings.rounds
        if length.epochs % (rounds + 1):
            raise InputError(
                f"method.rounds: {rounds} is not allowed with {length.epochs} epochs: they are "
                f"divided into rounds + 1 equal rounds"
            )
        round_steps = self.round_steps(length)
        if self.rewinds_to(length) >= round_steps:
            raise InputError(
                f"method.rewind_to: {self.settings.rewind_to!r} is not allowed: a round has "
                f"{length.epochs // (rounds + 1)} epochs"
            )
        return Rounds(round_steps, rounds)

    def rewinds_to(self, length: Length) -> int:
        return parse_duration(self.settings.rewind_to, minimum=0).steps(length.steps_per_epoch)

    def round_steps(self, length: Length) -> int:
        return int(length.steps // (self.settings.rounds + 1))

    def kept(self, size: int, final: int, fraction: float) -> int:
        return round(float(size * (final / size) ** fraction))


def _smallest_of_all(layers: Mapping[str, LayerState], kept: int) -> dict[str, Positions]:
    """The connections to drop so that ``kept`` are left in all; ties: the earlier layer, then the
    earlier position. One connection a layer stays at least."""
    names = list(layers)
    sizes = np.concatenate([np.abs(layers[name].weights) for name in names])
    owner = np.repeat(np.arange(len(names)), [len(layers[name].connected) for name in names])
    places = np.concatenate([layers[name].connected for name in names])
    protected = np.zeros(len(sizes), dtype=bool)
    start = 0
    for name in names:
        nnz = len(layers[name].connected)
        protected[start + int(np.argmax(sizes[start : start + nnz]))] = True
        start += nnz
    order = np.lexsort((sizes, protected))
    gone = np.sort(order[: max(0, len(sizes) - max(kept, len(names)))])
    return {name: places[gone[owner[gone] == index]] for index, name in enumerate(names)}
