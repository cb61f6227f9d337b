"""Residual networks for small images (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

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
from sweeps.training.mlp import Rate
from sweeps.training.settings import Settings

KERNEL = 3


class ResNetSettings(Settings):
    """Residual network of ``depth`` 6n + 2: a convolution, three stages of n blocks of two
    convolutions each, and the output; 20, 32, 44, 56 and 110 are those of the paper.

    ``width``: the channels of the first stage; the second has twice, the third four times as many.
    ``dropout``, in [0, 1), before the output. Every convolution is followed by batch norm.
    Distances between such networks are those of method ``in_place`` alone.
    """

    batch_norm: ClassVar[bool] = True

    name: Literal["resnet"] = "resnet"
    depth: Annotated[int, Field(ge=8, le=10_000)] = 20
    width: Annotated[int, Field(ge=1, le=16_384)] = 16
    dropout: Rate = 0.0

    @field_validator("depth")
    @classmethod
    def _is_a_depth(cls, depth: int) -> int:
        if depth % 6 != 2:
            raise ValueError("6n + 2, such as 8, 14, 20, 32, 44, 56 or 110")
        return depth


@dataclass(frozen=True)
class _Block:
    """Two convolutions, of which the first goes from n_in to n_out channels with a stride."""

    name: str
    n_in: int
    n_out: int
    stride: int


class ResNet(ConvolutionalNetwork):
    """The residual networks that He et al. trained on CIFAR-10.

    Shortcuts have no parameters (their option A): where a stage begins, every second pixel is taken
    and channels of zeros are appended. A block adds its second convolution to its input, channel by
    channel: these convolutions and the first one have the role ``residual``, for all of them name
    their neurons alike. No neuron of one can be matched with one of another index, unless those of
    the others are as well: what ``layerwise``, ``reference`` and ``joint`` do layer by layer
    is not defined here, and they refuse such networks.
    """

    Settings = ResNetSettings

    def __init__(
        self, settings: ResNetSettings, input_shape: tuple[int, ...], n_classes: int
    ) -> None:
        super().__init__()
        colours, _, _ = image_size(settings.name, input_shape)
        convolutions = {"conv_1": convolution(colours, settings.width, KERNEL, bias=False)}
        self._blocks = list(_blocks(settings))
        for block in self._blocks:
            first, second = _names(block)
            convolutions[first] = convolution(
                block.n_in, block.n_out, KERNEL, block.stride, bias=False
            )
            convolutions[second] = convolution(block.n_out, block.n_out, KERNEL, bias=False)
        self.norm = nn.ModuleDict(
            {name: nn.BatchNorm2d(conv.out_channels) for name, conv in convolutions.items()}
        )
        output = classifier_layers(self._blocks[-1].n_out, 1, [], n_classes)
        self.connected = nn.ModuleDict({**convolutions, **linear_modules(output)})
        self.dropout = classifier_dropout([], settings.dropout)

    @staticmethod
    def layers(
        settings: ResNetSettings, input_shape: tuple[int, ...], n_classes: int
    ) -> list[Layer]:
        """conv_1, stage_1_block_1_conv_1, stage_1_block_1_conv_2, ..., output."""
        colours, height, width = image_size(settings.name, input_shape)
        layers = [
            convolution_layer("conv_1", colours, settings.width, KERNEL, height * width, True)
        ]
        for block in _blocks(settings):
            height, width = -(-height // block.stride), -(-width // block.stride)
            first, second = _names(block)
            pixels = height * width
            layers += [
                convolution_layer(first, block.n_in, block.n_out, KERNEL, pixels),
                convolution_layer(second, block.n_out, block.n_out, KERNEL, pixels, True),
            ]
        # Averaging over all pixels leaves one input a channel.
        return layers + classifier_layers(layers[-1].shape[0], 1, [], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (batch, n_classes) of images (batch, channels, height, width)."""
        x = F.relu(self._normalised("conv_1", x))
        for block in self._blocks:
            first, second = _names(block)
            inner = F.relu(self._normalised(first, x))
            shortcut = F.pad(
                x[:, :, :: block.stride, :: block.stride],
                (0, 0, 0, 0, 0, block.n_out - block.n_in),
            )
            x = F.relu(self._normalised(second, inner) + shortcut)
        return classify(x.mean(dim=(2, 3)), [self.connected["output"]], self.dropout)

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm[name](self.connected[name](x))
        return normalised


def _blocks(settings: ResNetSettings) -> Iterator[_Block]:
    n_in = settings.width
    for stage in range(3):
        for block in range((settings.depth - 2) // 6):
            n_out = settings.width * 2**stage
            stride = 2 if stage and not block else 1
            yield _Block(f"stage_{stage + 1}_block_{block + 1}", n_in, n_out, stride)
            n_in = n_out


def _names(block: _Block) -> tuple[str, str]:
    return f"{block.name}_conv_1", f"{block.name}_conv_2"
