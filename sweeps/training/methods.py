"""Methods of sparse training: each is what it changes over the one before.

A method answers three questions: how many connections does each layer get, when is the topology
updated, and what is an update. The loop in ``loop.py`` is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from storage.durations import parse_duration
from storage.errors import InputError
from sweeps.training.distributions import DISTRIBUTIONS, Target
from sweeps.training.initial import NEW_WEIGHTS
from sweeps.training.masking import DROPS, GROWS, Change, FloatArray, LayerState, Positions, evolve
from sweeps.training.models import Layer
from sweeps.training.schedules import Never, Periodic, Schedule
from sweeps.training.settings import Settings as BaseSettings


class DenseSettings(BaseSettings):
    """Every connection, always."""

    name: Literal["dense"] = "dense"


class SparseSettings(BaseSettings):
    """What every sparse start needs.

    ``density`` in (0, 1]: connections over weights, of the masked layers together;
    ``distribution`` says how the layers share them; ``epsilon`` > 0 is SET's own control, used by
    distribution ``epsilon`` alone, which has no use for the density. The output layer stays
    dense and outside the density, as in the code of SET's authors, unless ``mask_output``.
    """

    density: Annotated[float, Field(gt=0, le=1)] = 0.1
    distribution: Literal["uniform", "erdos_renyi", "epsilon"] = "erdos_renyi"
    epsilon: Annotated[float, Field(gt=0)] | None = None
    mask_output: bool = False

    @model_validator(mode="after")
    def _epsilon_is_there(self) -> SparseSettings:
        if self.distribution == "epsilon" and self.epsilon is None:
            raise ValueError("epsilon is missing: distribution epsilon needs it")
        return self

    def unused(self) -> frozenset[str]:
        return frozenset({"density" if self.distribution == "epsilon" else "epsilon"})


class StaticSettings(SparseSettings):
    """A sparse topology that stays as it was drawn."""

    name: Literal["static"] = "static"


class SetSettings(SparseSettings):
    """Sparse evolutionary training (Mocanu et al. 2018).

    Each ``update_every`` (``1ep`` epochs or ``100it`` steps) ``drop_fraction`` (zeta, in (0, 1))
    of the positive and of the negative weights are dropped, those nearest zero, and as many new
    connections grow at random; ``new_weights`` says what they start from.
    """

    name: Literal["set"] = "set"
    drop_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    update_every: str = "1ep"
    new_weights: Literal["zero", "normal", "he_uniform"] = "zero"

    @field_validator("update_every")
    @classmethod
    def _is_a_duration(cls, value: str) -> str:
        try:
            return str(parse_duration(value))
        except InputError as error:
            raise ValueError(str(error)) from None


class Dense:
    """Nothing is masked and nothing changes."""

    Settings: ClassVar[type[BaseSettings]] = DenseSettings

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def masked(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers that have a mask; the others are dense and outside every density."""
        return []

    def counts(self, layers: Sequence[Layer]) -> dict[str, int]:
        """The exact number of connections of each masked layer.

        Raises InputError where a layer would have none.
        """
        return {}

    def schedule(self, steps_per_epoch: int) -> Schedule:
        return Never()


class Static(Dense):
    """A sparse topology, drawn once."""

    Settings: ClassVar[type[BaseSettings]] = StaticSettings

    def masked(self, layers: Sequence[Layer]) -> list[Layer]:
        return [layer for layer in layers if layer.role != "output" or self.settings.mask_output]

    def counts(self, layers: Sequence[Layer]) -> dict[str, int]:
        masked = self.masked(layers)
        asked = self.settings.resolved()
        target = Target(asked.get("density"), asked.get("epsilon"))
        counts = DISTRIBUTIONS[self.settings.distribution](
            [layer.shape for layer in masked], target
        )
        return {layer.name: count for layer, count in zip(masked, counts, strict=True)}


class Set(Static):
    """Static, and at intervals the weights nearest zero make room for new connections."""

    Settings: ClassVar[type[BaseSettings]] = SetSettings
    drop = staticmethod(DROPS["by_sign"])
    grow = staticmethod(GROWS["random"])

    def schedule(self, steps_per_epoch: int) -> Schedule:
        interval = parse_duration(self.settings.update_every).steps(steps_per_epoch)
        return Periodic(interval, self.settings.drop_fraction)

    def update(self, layer: LayerState, fraction: float, rng: np.random.Generator) -> Change:
        """One update of one layer, made where the schedule says that one is due."""
        return evolve(layer, fraction, self.drop, self.grow, rng)

    def new_weights(self, rng: np.random.Generator, fan_in: Positions) -> FloatArray:
        return NEW_WEIGHTS[self.settings.new_weights](rng, fan_in)


METHODS: Mapping[str, Any] = {"dense": Dense, "static": Static, "set": Set}
