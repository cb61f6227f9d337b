"""The multilayer perceptron, and the activation that SET's authors use in it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sweeps.training.dropout import Dropout
from sweeps.training.layers import Layer, linear
from sweeps.training.positions import Positions
from sweeps.training.settings import Settings
from sweeps.training.sparse_linear import SparseLinear
from sweeps.training.streams import Purpose, Streams

Width = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class MLPSettings(Settings):
    """Fully connected layers. ``hidden``: the width of each hidden layer, first to last;
    ``dropout``, in [0, 1), after the activation of each."""

    name: Literal["mlp"] = "mlp"
    hidden: list[Width] = Field(default=[64, 64], min_length=1, max_length=1000)
    activation: Literal["relu", "srelu"] = "relu"
    dropout: Rate = 0.0


class SReLU(nn.Module):
    """S-shaped rectified linear unit (Jin et al. 2016, eq. 1), four learned parameters a neuron.

    f(x) = t_r + a_r (x - t_r) for x >= t_r,  x in between,  t_l + a_l (x - t_l) for x <= t_l.

    t_r = t_l + |width| keeps the right threshold right of the left one, and the start is that of
    the Keras layer that the authors of SET used: t_l = 0, a_l ~ U(0, 1), width ~ U(0, 5), a_r = 1.
    """

    def __init__(self, neurons: int) -> None:
        super().__init__()
        self.t_left = nn.Parameter(torch.zeros(neurons))
        self.a_left = nn.Parameter(torch.zeros(neurons))
        self.width = nn.Parameter(torch.zeros(neurons))
        self.a_right = nn.Parameter(torch.ones(neurons))

    def forward(self, x: Tensor) -> Tensor:
        t_right = self.t_left + self.width.abs()
        middle = torch.clamp(x, self.t_left, t_right)
        beyond = x - middle
        return middle + torch.where(beyond > 0, self.a_right, self.a_left) * beyond


class MLP(nn.Module):
    """Linear layers with an activation between them; the last one gives the class scores.

    ``sparse``: the layers that are made of their connections alone, and their sorted positions.
    """

    Settings = MLPSettings
    takes_sparse = True

    def __init__(
        self,
        settings: MLPSettings,
        input_shape: tuple[int, ...],
        n_classes: int,
        sparse: Mapping[str, Positions] | None = None,
    ) -> None:
        super().__init__()
        layers = self.layers(settings, input_shape, n_classes)
        self.linear = nn.ModuleDict({layer.name: _linear(layer, sparse or {}) for layer in layers})
        self.activation = nn.ModuleDict()
        if settings.activation == "srelu":
            self.activation.update({layer.name: SReLU(layer.shape[0]) for layer in layers[:-1]})
        self.dropout = nn.ModuleDict(
            {layer.name: Dropout(settings.dropout) for layer in layers[:-1]}
        )

    @staticmethod
    def layers(settings: MLPSettings, input_shape: tuple[int, ...], n_classes: int) -> list[Layer]:
        """hidden_1, hidden_2, ..., output; inputs of any shape are flattened."""
        widths = [prod(input_shape), *settings.hidden, n_classes]
        last = len(settings.hidden)
        return [
            Layer(
                name="output" if index == last else f"hidden_{index + 1}",
                shape=(widths[index + 1], widths[index]),
                role="output" if index == last else "hidden",
            )
            for index in range(len(widths) - 1)
        ]

    def weight(self, layer: str) -> nn.Parameter:
        weight = self.linear[layer].weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def draw_activations(self, streams: Streams) -> None:
        for index, srelu in enumerate(self.activation.values()):
            assert isinstance(srelu, SReLU)
            rng = streams.for_weights(Purpose.ACTIVATION, index)
            for parameter, high in ((srelu.a_left, 1.0), (srelu.width, 5.0)):
                draw = torch.from_numpy(rng.uniform(0, high, len(parameter)))
                parameter.data.copy_(draw)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (batch, n_classes) of inputs (batch, *input_shape)."""
        x = x.flatten(1)
        for name, layer in self.linear.items():
            x = layer(x)
            if name != "output":
                x = self.activation[name](x) if self.activation else F.relu(x)
                x = self.dropout[name](x)
        return x


def _linear(layer: Layer, sparse: Mapping[str, Positions]) -> nn.Module:
    if layer.name in sparse:
        return SparseLinear(layer.shape, sparse[layer.name])
    return linear(layer.shape[1], layer.shape[0])
