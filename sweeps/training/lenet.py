"""A convolutional network in the style of LeNet-5 (LeCun et al. 1998)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from storage.errors import InputError
from sweeps.training.convolutional import (
    ConvolutionalNetwork,
    classifier_dropout,
    classifier_layers,
    classify,
    convolution,
    convolution_layer,
    image_size,
    linear_modules,
)
from sweeps.training.layers import Layer
from sweeps.training.mlp import Rate, Width
from sweeps.training.settings import Settings

KERNEL = 5


class LeNetSettings(Settings):
    """Two convolutions of 5 x 5, each with ReLU and maximum pooling of 2 x 2, then fully connected
    layers. ``channels``: those of the two convolutions; ``hidden``: the widths of the two hidden
    layers; ``dropout``, in [0, 1), after each of these.
    """

    name: Literal["lenet"] = "lenet"
    channels: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(
        default=[6, 16], min_length=2, max_length=2
    )
    hidden: list[Width] = Field(default=[120, 84], min_length=2, max_length=2)
    dropout: Rate = 0.0


class LeNet(ConvolutionalNetwork):
    """LeNet-5's layers with ReLU, maximum pooling and full second convolution, as is usual now.

    Convolutions are padded, so that images of 4 x 4 and more will do: 28 x 28 ends as 7 x 7.
    """

    Settings = LeNetSettings

    def __init__(
        self, settings: LeNetSettings, input_shape: tuple[int, ...], n_classes: int
    ) -> None:
        super().__init__()
        layers = self.layers(settings, input_shape, n_classes)
        channels = [input_shape[0], *settings.channels]
        self.connected = nn.ModuleDict(
            {
                "conv_1": convolution(channels[0], channels[1], KERNEL),
                "conv_2": convolution(channels[1], channels[2], KERNEL),
                **linear_modules(layers[2:]),
            }
        )
        self.dropout = classifier_dropout(settings.hidden, settings.dropout)

    @staticmethod
    def layers(
        settings: LeNetSettings, input_shape: tuple[int, ...], n_classes: int
    ) -> list[Layer]:
        """conv_1, conv_2, hidden_1, hidden_2, output."""
        colours, height, width = image_size(settings.name, input_shape)
        if min(height, width) < 4:
            raise InputError(
                f"model.name: {settings.name!r} is not allowed: it takes images of 4 x 4 pixels "
                f"and more, and the data's have {height} x {width}"
            )
        first, second = settings.channels
        left = (height // 4) * (width // 4)
        return [
            convolution_layer("conv_1", colours, first, KERNEL, height * width),
            convolution_layer("conv_2", first, second, KERNEL, (height // 2) * (width // 2)),
            *classifier_layers(second, left, settings.hidden, n_classes),
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (batch, n_classes) of images (batch, channels, height, width)."""
        first, second, *classifier = self.connected.values()
        x = F.max_pool2d(F.relu(first(x)), 2)
        x = F.max_pool2d(F.relu(second(x)), 2)
        return classify(x, classifier, self.dropout)
