"""What convolutional networks have in common: convolutions, and Linear layers behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from storage.errors import InputError
from sweeps.training.dropout import Dropout
from sweeps.training.layers import Layer, linear, of_zeros
from sweeps.training.streams import Streams


class ConvolutionalNetwork(nn.Module):
    """A model whose layers lie in ``connected``, by name; nothing else of it is drawn at random."""

    connected: nn.ModuleDict

    def weight(self, layer: str) -> nn.Parameter:
        weight = self.connected[layer].weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def draw_activations(self, streams: Streams) -> None:
        """Nothing is drawn."""


def image_size(model: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of the inputs; InputError where they are no images."""
    if len(input_shape) != 3:
        raise InputError(
            f"model.name: {model!r} is not allowed: it takes images, and the data's inputs are "
            f"{' x '.join(map(str, input_shape))} numbers"
        )
    channels, height, width = input_shape
    return channels, height, width


def convolution(
    n_in: int, n_out: int, kernel: int, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    """A convolution of zeros, padded so that with stride 1 its output is as large as its input.

    ``kernel``: its height and width, odd.
    """
    return of_zeros(
        nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=bias, device="meta")
    )


def convolution_layer(
    name: str, n_in: int, n_out: int, kernel: int, pixels: int, residual: bool = False
) -> Layer:
    """The layer of a convolution whose output is ``pixels`` large."""
    return Layer(
        name=name,
        shape=(n_out, n_in * kernel**2),
        role="residual" if residual else "hidden",
        in_group=kernel**2,
        kernel=(kernel, kernel),
        places=pixels,
    )


def classifier_layers(
    channels: int, pixels: int, hidden: Sequence[int], n_classes: int
) -> list[Layer]:
    """hidden_1, hidden_2, ..., output behind ``channels`` maps of ``pixels`` each, flattened."""
    widths = [channels * pixels, *hidden, n_classes]
    last = len(hidden)
    return [
        Layer(
            name="output" if index == last else f"hidden_{index + 1}",
            shape=(widths[index + 1], widths[index]),
            role="output" if index == last else "hidden",
            in_group=1 if index else pixels,
        )
        for index in range(len(widths) - 1)
    ]


def linear_modules(layers: Iterable[Layer]) -> dict[str, nn.Module]:
    """The Linear modules of a classifier's layers, by name."""
    return {layer.name: linear(layer.shape[1], layer.shape[0]) for layer in layers}


def classifier_dropout(hidden: Sequence[int], rate: float) -> nn.ModuleList:
    """As `classify` takes it."""
    return nn.ModuleList(Dropout(rate) for _ in range(max(1, len(hidden))))


def classify(x: Tensor, layers: Sequence[nn.Module], dropout: nn.ModuleList) -> Tensor:
    """Class scores (batch, n_classes) of maps (batch, channels, height, width).

    ReLU and dropout follow each hidden layer; without any, dropout comes before the output.
    """
    x = x.flatten(1)
    *hidden, output = layers
    if not hidden:
        x = dropout[0](x)
    for layer, drop in zip(hidden, dropout, strict=False):
        x = drop(F.relu(layer(x)))
    scores: Tensor = output(x)
    return scores
