"""Optimisers over one flat tensor of parameters.

Weight decay is of connections only: biases and the parameters of activations are left alone (an
SReLU's right slope would be pulled from 1 to 0). Where there is no connection the gradient is 0
before the step, the slots are 0, and so the weight stays exactly 0.

What is the same for all of them stands elsewhere: the learning rate of each step in
``learning_rates``, the loss and its gradient in ``objective``, early stopping in ``stopping``.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field
from torch import Tensor

from sweeps.training.entries import Registry
from sweeps.training.learning_rates import Rate, RateSettings
from sweeps.training.objective import ObjectiveSettings
from sweeps.training.parameters import Parameters
from sweeps.training.settings import Settings
from sweeps.training.stopping import PatienceSettings

Decay = Annotated[float, Field(ge=0)]
BatchSize = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Protocol):
    """``slots``: its memory of each parameter, flat tensors that a checkpoint holds and that a
    topology update clears at the connections it drops and grows."""

    slots: dict[str, Tensor]

    @staticmethod
    def slot_names(settings: Any) -> list[str]:
        """The slots that these settings need."""
        ...

    def step(self, step: int, lr: float) -> None:
        """Step number ``step`` (the first with empty slots is 1) at learning rate ``lr``, from the
        gradients in the flat parameters."""
        ...


class _Basics(Settings):
    """What comes first in every optimiser's settings."""

    name: str = ""
    lr: Rate = 0.05
    weight_decay: Decay = 0.0
    batch_size: BatchSize = 64


class OptimizerSettings(ObjectiveSettings, PatienceSettings, RateSettings, _Basics):
    """What every optimiser takes: ``lr`` and its schedule, ``weight_decay`` (of connections only),
    ``batch_size`` samples a step (an epoch's last batch holds what is left), the loss, clipping,
    and when to stop early."""


class SGDSettings(OptimizerSettings):
    """Stochastic gradient descent. ``momentum`` in [0, 1), with ``nesterov`` the accelerated one;
    ``weight_decay`` is added to the gradient."""

    name: Literal["sgd"] = "sgd"
    lr: Rate = 0.05
    weight_decay: Decay = 0.0005
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False

    def unused(self) -> frozenset[str]:
        """Without a momentum there is nothing to accelerate."""
        return super().unused() | (set() if self.momentum else {"nesterov"})


class SGD:
    """g <- g + weight_decay w;  v <- momentum v + g;  w <- w - lr v, with ``nesterov``
    w <- w - lr (g + momentum v): Sutskever et al. 2013 in torch's form, the rate outside of v."""

    Settings = SGDSettings

    def __init__(self, settings: SGDSettings, parameters: Parameters) -> None:
        self.settings = settings
        self.parameters = parameters
        self.slots = {name: parameters.new_slot() for name in self.slot_names(settings)}

    @staticmethod
    def slot_names(settings: SGDSettings) -> list[str]:
        return ["momentum"] if settings.momentum else []

    def step(self, step: int, lr: float) -> None:
        settings, parameters = self.settings, self.parameters
        _add_decay(parameters, settings.weight_decay)
        direction = parameters.gradients
        if self.slots:
            velocity = self.slots["momentum"].mul_(settings.momentum).add_(direction)
            if settings.nesterov:
                direction.add_(velocity, alpha=settings.momentum)
            else:
                direction = velocity
        parameters.values.add_(direction, alpha=-lr)


class AdamSettings(OptimizerSettings):
    """Adam. ``beta1`` and ``beta2`` in [0, 1); ``weight_decay`` is added to the gradient."""

    name: Literal["adam"] = "adam"
    lr: Rate = 0.001
    weight_decay: Decay = 0.0
    beta1: Beta = 0.9
    beta2: Beta = 0.999


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with eps = 1e-8.

    The bias correction counts the steps since all slots were empty; those of a new connection
    start at 0 later.
    """

    Settings: ClassVar[type[OptimizerSettings]] = AdamSettings
    eps = 1e-8

    def __init__(self, settings: AdamSettings | AdamWSettings, parameters: Parameters) -> None:
        self.settings = settings
        self.parameters = parameters
        self.slots = {name: parameters.new_slot() for name in self.slot_names(settings)}

    @staticmethod
    def slot_names(settings: AdamSettings | AdamWSettings) -> list[str]:
        return ["mean", "square"]

    def step(self, step: int, lr: float) -> None:
        self.decay(lr)
        parameters, beta1, beta2 = self.parameters, self.settings.beta1, self.settings.beta2
        gradients = parameters.gradients
        mean = self.slots["mean"].lerp_(gradients, 1 - beta1)
        square = self.slots["square"].mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        spread = (square / (1 - beta2**step)).sqrt_().add_(self.eps)
        parameters.values.addcdiv_(mean, spread, value=-lr / (1 - beta1**step))

    def decay(self, lr: float) -> None:
        """What weight decay does before the step."""
        _add_decay(self.parameters, self.settings.weight_decay)


class AdamWSettings(OptimizerSettings):
    """AdamW: Adam whose ``weight_decay`` is no part of the gradient; ``beta1``, ``beta2`` as for
    adam."""

    name: Literal["adamw"] = "adamw"
    lr: Rate = 0.001
    weight_decay: Decay = 0.01
    beta1: Beta = 0.9
    beta2: Beta = 0.999


class AdamW(Adam):
    """Adam with w <- w - lr weight_decay w before each step (Loshchilov and Hutter 2019, algorithm
    2, in torch's form: the decay follows the learning rate)."""

    Settings: ClassVar[type[OptimizerSettings]] = AdamWSettings

    def decay(self, lr: float) -> None:
        n = self.parameters.n_weights
        self.parameters.values[:n].mul_(1 - lr * self.settings.weight_decay)


OPTIMIZERS = Registry(
    "optimizer",
    "toposweep.optimizers",
    {"sgd": SGD, "adam": Adam, "adamw": AdamW},
    needs=("slot_names", "step"),
    settings=OptimizerSettings,
)


def _add_decay(parameters: Parameters, weight_decay: float) -> None:
    if weight_decay:
        n = parameters.n_weights
        parameters.gradients[:n].add_(parameters.values[:n], alpha=weight_decay)
