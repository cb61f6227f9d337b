"""What a study may say about a method: fields that several methods share, and their defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from storage.durations import parse_duration
from storage.errors import InputError
from sweeps.training.settings import Settings

Fraction = Annotated[float, Field(gt=0, lt=1)]


def checked_duration(value: str, minimum: int = 1) -> str:
    """A duration (``1ep``, ``100it``) in its usual spelling, for a validator."""
    try:
        return str(parse_duration(value, minimum))
    except InputError as error:
        raise ValueError(str(error)) from None


class SparseSettings(Settings):
    """What every sparse topology needs.

    ``density`` in (0, 1]: connections over weights, of the masked layers together;
    ``distribution`` says how the layers share them; ``epsilon`` > 0 is SET's own control, used by
    distribution ``epsilon`` alone, which has no use for the density; ``densities`` gives each
    masked layer's own, first to last, used by distribution ``explicit`` alone. The output layer
    stays dense and outside the density, as in the code of SET's authors, unless
    ``mask_output``. ``first_weights``: He's start by each neuron's own ``fan_in``, or by the
    dense ``layer``'s.
    """

    density: Annotated[float, Field(gt=0, le=1)] = 0.1
    distribution: Literal[
        "uniform", "uniform_plus", "erdos_renyi", "erk", "epsilon", "explicit"
    ] = "erdos_renyi"
    epsilon: Annotated[float, Field(gt=0)] | None = None
    densities: list[Annotated[float, Field(gt=0, le=1)]] | None = None
    mask_output: bool = False
    first_weights: Literal["fan_in", "layer"] = "fan_in"

    @model_validator(mode="after")
    def _distribution_has_its_own(self) -> SparseSettings:
        for name, key in (("epsilon", "epsilon"), ("explicit", "densities")):
            if self.distribution == name and getattr(self, key) is None:
                raise ValueError(f"{key} is missing: distribution {name} needs it")
        return self

    def unused(self) -> frozenset[str]:
        used = {"epsilon": "epsilon", "explicit": "densities"}.get(self.distribution, "density")
        return frozenset({"density", "epsilon", "densities"} - {used})


class EvolvingSettings(SparseSettings):
    """A topology that evolves: at intervals connections are dropped and as many grow.

    Each ``update_every`` (``1ep`` epochs or ``100it`` steps), until the share ``update_until`` of
    training is over, ``drop_fraction`` (in (0, 1)) of a layer's connections is dropped by the rule
    ``drop`` and as many grow by ``grow``; ``decay`` lets the fraction fall over that time.
    ``new_weights`` says what new connections start from. ``redistribute: momentum`` lets layers
    whose weights have larger mean momentum grow more of them than they dropped (growth by
    momentum only). ``momentum`` is the smoothing of the gradients' running mean, used by that
    growth alone.
    """

    drop: Literal["by_sign", "magnitude"] = "by_sign"
    grow: Literal["random", "random_elsewhere", "unexplored", "gradient", "momentum"] = "random"
    drop_fraction: Fraction = 0.3
    decay: Literal["constant", "cosine", "linear"] = "constant"
    update_every: str = "1ep"
    update_until: Annotated[float, Field(gt=0, le=1)] = 1.0
    new_weights: Literal["zero", "normal", "he_uniform"] = "zero"
    redistribute: Literal["none", "momentum"] = "none"
    momentum: Fraction = 0.9

    _duration = field_validator("update_every")(checked_duration)

    @model_validator(mode="after")
    def _rules_fit(self) -> EvolvingSettings:
        if self.redistribute == "momentum" and self.grow != "momentum":
            raise ValueError(
                f"redistribute: 'momentum' is not allowed with grow: {self.grow!r}, which keeps "
                "no momentum; grow: 'momentum' does"
            )
        return self

    def unused(self) -> frozenset[str]:
        no_momentum = {"momentum"} if self.grow != "momentum" else set()
        return super().unused() | no_momentum


class PruningSettings(SparseSettings):
    """A dense start that is thinned out; ``density`` and ``distribution`` are those of the end.

    ``scope: layer`` takes from each layer what its own share says; ``global`` takes the smallest
    weights of all masked layers together, whatever the distribution.
    """

    distribution: Literal[
        "uniform", "uniform_plus", "erdos_renyi", "erk", "epsilon", "explicit"
    ] = "uniform"
    scope: Literal["layer", "global"] = "layer"
