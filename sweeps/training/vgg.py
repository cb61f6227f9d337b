"""A convolutional network in the style of VGG (Simonyan and Zisserman 2015) for small images."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field, field_validator
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

KERNEL = 3
POOL = "pool"
MOST_CHANNELS = 65_536

# Configuration D of the paper, VGG-16.
VGG_16: list[int | str] = [
    64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL,
]  # fmt: skip


class VGGSettings(Settings):
    """Convolutions of 3 x 3 with ReLU, then fully connected layers.

    ``channels``: those of each convolution, and ``pool`` where maximum pooling of 2 x 2 halves
    the images; the default, VGG-16, needs 32 x 32. ``batch_norm`` normalises after each
    convolution. ``classifier``: the widths of the hidden layers behind them, which may be none;
    ``dropout``, in [0, 1), after each of these, or before the output where there are none.
    """

    name: Literal["vgg"] = "vgg"
    channels: list[int | str] = Field(default=VGG_16, min_length=1, max_length=1000)
    batch_norm: bool = True
    classifier: list[Width] = Field(default=[512, 512], max_length=1000)
    dropout: Rate = 0.0

    @field_validator("channels")
    @classmethod
    def _are_channels(cls, channels: list[int | str]) -> list[int | str]:
        for value in channels:
            if value != POOL and not (isinstance(value, int) and 1 <= value <= MOST_CHANNELS):
                raise ValueError(f"{str(value)[:40]!r} is neither pool nor 1 to {MOST_CHANNELS}")
        if channels[0] == POOL:
            raise ValueError("pool comes after a convolution")
        return channels


class VGG(ConvolutionalNetwork):
    """3 x 3 convolutions, padded; a normalised one has no bias, which would be taken off again."""

    Settings = VGGSettings

    def __init__(self, settings: VGGSettings, input_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        layers = self.layers(settings, input_shape, n_classes)
        convolutions = [layer for layer in layers if layer.name.startswith("conv_")]
        self.connected = nn.ModuleDict(
            {
                layer.name: convolution(
                    layer.shape[1] // KERNEL**2,
                    layer.shape[0],
                    KERNEL,
                    bias=not settings.batch_norm,
                )
                for layer in convolutions
            }
        )
        self.connected.update(linear_modules(layers[len(convolutions) :]))
        self.norm = nn.ModuleDict()
        if settings.batch_norm:
            self.norm.update({layer.name: nn.BatchNorm2d(layer.shape[0]) for layer in convolutions})
        self.dropout = classifier_dropout(settings.classifier, settings.dropout)
        # The convolutions in turn, and None where images are halved.
        names = iter(layer.name for layer in convolutions)
        self._steps = [None if value == POOL else next(names) for value in settings.channels]

    @staticmethod
    def layers(settings: VGGSettings, input_shape: tuple[int, ...], n_classes: int) -> list[Layer]:
        """conv_1, conv_2, ..., hidden_1, ..., output."""
        before, height, width = image_size(settings.name, input_shape)
        layers: list[Layer] = []
        for value in settings.channels:
            if isinstance(value, int):
                name = f"conv_{len(layers) + 1}"
                layers.append(convolution_layer(name, before, value, KERNEL, height * width))
                before = value
            else:
                height, width = height // 2, width // 2
        if not height * width:
            most = min(input_shape[1:]).bit_length() - 1
            raise InputError(
                f"model.channels: {settings.channels.count(POOL)} times {POOL} is not allowed: at "
                f"most {most} for images of {input_shape[1]} x {input_shape[2]} pixels"
            )
        return layers + classifier_layers(before, height * width, settings.classifier, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (batch, n_classes) of images (batch, channels, height, width)."""
        for name in self._steps:
            if name is None:
                x = F.max_pool2d(x, 2)
                continue
            x = self.connected[name](x)
            x = F.relu(self.norm[name](x) if self.norm else x)
        classifier = [
            module for name, module in self.connected.items() if isinstance(module, nn.Linear)
        ]
        return classify(x, classifier, self.dropout)
