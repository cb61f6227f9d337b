"""Layers with connections, and what a model must say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import nn

from sweeps.training.streams import Streams

Role = Literal["hidden", "output", "residual"]

_Weighted = TypeVar("_Weighted", nn.Linear, nn.Conv2d)

# An evaluation takes as many samples at a time, or fewer where their activations are large.
_MOST_SAMPLES = 2048
_MOST_ACTIVATIONS = 2**26


@dataclass(frozen=True)
class Layer:
    """A layer with connections.

    Attributes:
        name: unique in its model.
        shape: (n_out, n_in) of its mask; a convolution's row is one filter, (in_channels, kh, kw)
            flattened.
        role: `output`: its neurons are the classes. `residual`: what its neurons give is added to
            what others give that have the same index, so that none of them can be renamed alone.
        in_group: inputs per neuron of the previous layer: 1 for Linear on Linear, kh * kw for a
            convolution, h * w for Linear after flattening.
        kernel: (height, width) of a convolution.
        places: how often each connection is used for one sample: the pixels of a convolution's
            output, 1 for Linear.
    """

    name: str
    shape: tuple[int, int]
    role: Role
    in_group: int = 1
    kernel: tuple[int, int] | None = None
    places: int = 1

    @property
    def size(self) -> int:
        """Weights, connected or not."""
        return self.shape[0] * self.shape[1]

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """(n_out, n_in), or (n_out, channels, height, width) of a convolution."""
        if self.kernel is None:
            return self.shape
        return (self.shape[0], self.shape[1] // prod(self.kernel), *self.kernel)


class Model(Protocol):
    """What the loop asks of a model class; an instance is an ``nn.Module`` as well.

    ``Settings.batch_norm``, where there is one, says that it normalises over the batch. A class
    with ``takes_sparse = True`` takes a fourth argument, ``sparse``: the positions of the layers
    that are to be ``SparseLinear``, by name.
    """

    Settings: ClassVar[type[Any]]

    @staticmethod
    def layers(settings: Any, input_shape: tuple[int, ...], n_classes: int) -> list[Layer]:
        """The layers in order, without building the model.

        Raises InputError where the model cannot take such inputs.
        """
        ...

    def weight(self, layer: str) -> nn.Parameter:
        """The weights of a layer: (n_out, n_in), or (n_out, in_channels, kh, kw)."""
        ...

    def draw_activations(self, streams: Streams) -> None:
        """Draw the start of parameters that belong to no connection."""
        ...


def linear(n_in: int, n_out: int) -> nn.Linear:
    """A Linear layer of zeros; through the meta device, because the usual start would draw from
    torch's global generator only to be drawn again from the trial's streams."""
    return of_zeros(nn.Linear(n_in, n_out, device="meta"))


def of_zeros(module: _Weighted) -> _Weighted:
    """A module that was made on the meta device, on the default one and full of zeros."""
    module.to_empty(device=torch.get_default_device())
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def evaluation_batch(layers: Sequence[Layer]) -> int:
    """Samples that are evaluated at once: 2,048, or fewer where they would take more than about
    256 MB (2**26 float32) between two layers."""
    return max(1, min(_MOST_SAMPLES, _MOST_ACTIVATIONS // widest(layers)))


def widest(layers: Sequence[Layer]) -> int:
    """The most numbers that one layer takes and gives for one sample."""
    given = [layers[0].shape[1] // layers[0].in_group * layers[0].places]
    given += [layer.shape[0] * layer.places for layer in layers]
    return max(before + after for before, after in pairwise(given))


def multiplications(layers: Sequence[Layer]) -> int:
    """Of one sample's way forward through the layers, were they all full."""
    return sum(layer.size * layer.places for layer in layers)
