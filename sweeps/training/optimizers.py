"""Optimisers over one flat tensor of parameters.

Weight decay is of connections only: biases and the parameters of activations are left alone (an
SReLU's right slope would be pulled from 1 to 0). Where there is no connection the gradient is 0
before the step, the slots are 0, and so the weight stays exactly 0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field
from torch import Tensor

from sweeps.training.entries import Registry
from sweeps.training.parameters import MaskedParameters
from sweeps.training.settings import Settings

Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]
BatchSize = Annotated[int, Field(ge=1)]


class Optimizer(Protocol):
    """``slots``: its memory of each parameter, flat tensors that a checkpoint holds and that a
    topology update clears at the connections it drops and grows."""

    slots: dict[str, Tensor]

    @staticmethod
    def slot_names(settings: Any) -> list[str]:
        """The slots that these settings need."""
        ...

    def step(self, step: int) -> None:
        """Step number ``step`` (the first is 1), from the gradients in the flat parameters."""
        ...


class SGDSettings(Settings):
    """Stochastic gradient descent. ``momentum`` in [0, 1); ``batch_size`` samples a step (an
    epoch's last batch holds what is left)."""

    name: Literal["sgd"] = "sgd"
    lr: Rate = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Decay = 0.0005
    batch_size: BatchSize = 64


class SGD:
    """v <- momentum v + (g + weight_decay w);  w <- w - lr v."""

    Settings = SGDSettings

    def __init__(self, settings: SGDSettings, parameters: MaskedParameters) -> None:
        self.settings = settings
        self.parameters = parameters
        self.slots = {name: parameters.new_slot() for name in self.slot_names(settings)}

    @staticmethod
    def slot_names(settings: SGDSettings) -> list[str]:
        return ["momentum"] if settings.momentum else []

    def step(self, step: int) -> None:
        settings, parameters = self.settings, self.parameters
        _decay(parameters, settings.weight_decay)
        direction = parameters.gradients
        if self.slots:
            direction = self.slots["momentum"].mul_(settings.momentum).add_(direction)
        parameters.values.add_(direction, alpha=-settings.lr)


class AdamSettings(Settings):
    """Adam. ``weight_decay`` is added to the gradient; ``batch_size`` as for sgd."""

    name: Literal["adam"] = "adam"
    lr: Rate = 0.001
    weight_decay: Decay = 0.0
    batch_size: BatchSize = 64


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with beta1 = 0.9, beta2 = 0.999, eps = 1e-8.

    The bias correction counts the steps of the trial; a new connection's slots start at 0 later.
    """

    Settings = AdamSettings
    betas = (0.9, 0.999)
    eps = 1e-8

    def __init__(self, settings: AdamSettings, parameters: MaskedParameters) -> None:
        self.settings = settings
        self.parameters = parameters
        self.slots = {name: parameters.new_slot() for name in self.slot_names(settings)}

    @staticmethod
    def slot_names(settings: AdamSettings) -> list[str]:
        return ["mean", "square"]

    def step(self, step: int) -> None:
        settings, parameters, (beta1, beta2) = self.settings, self.parameters, self.betas
        _decay(parameters, settings.weight_decay)
        gradients = parameters.gradients
        mean = self.slots["mean"].lerp_(gradients, 1 - beta1)
        square = self.slots["square"].mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        spread = (square / (1 - beta2**step)).sqrt_().add_(self.eps)
        parameters.values.addcdiv_(mean, spread, value=-settings.lr / (1 - beta1**step))


OPTIMIZERS = Registry(
    "optimizer",
    "toposweep.optimizers",
    {"sgd": SGD, "adam": Adam},
    needs=("slot_names", "step"),
    fields=("batch_size",),
)


def _decay(parameters: MaskedParameters, weight_decay: float) -> None:
    if weight_decay:
        n = parameters.n_weights
        parameters.gradients[:n].add_(parameters.values[:n], alpha=weight_decay)
