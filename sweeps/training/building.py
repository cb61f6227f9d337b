"""A model as its training begins: built, with its first weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sweeps.training.config import TrialConfig
from sweeps.training.connections import Connections
from sweeps.training.dataset import Dataset
from sweeps.training.dropout import Draws
from sweeps.training.parameters import MaskedParameters, Parameters
from sweeps.training.positions import Positions
from sweeps.training.rules import FloatArray
from sweeps.training.sparse_parameters import SparseParameters
from sweeps.training.streams import Purpose


def build_model(
    trial: TrialConfig,
    dataset: Dataset,
    device: torch.device,
    sparse: Mapping[str, Positions] | None = None,
) -> Any:
    """The model of a trial, its weights yet to be drawn; ``sparse`` has the positions of the
    layers that are made of their connections alone."""
    more = {"sparse": sparse} if sparse else {}
    model = trial.model_class(trial.model, dataset.input_shape, dataset.n_classes, **more)
    model.draw_activations(trial.streams)
    return model.to(device)


def draw_weights(model: Any, connections: Connections, trial: TrialConfig) -> None:
    """First weights of every layer, exactly 0 off the mask."""
    rule = trial.method.first_weights
    for index, layer in enumerate(connections.layers):
        connected = connections.of(layer)
        rng = trial.streams.for_weights(Purpose.FIRST_WEIGHTS, index)
        weight = model.weight(layer.name).data.view(-1)
        drawn = torch.from_numpy(rule(connected, layer.shape, rng)).to(weight.device)
        if len(weight) == len(connected):  # all of a dense layer's, or what a sparse one has
            weight.copy_(drawn)
        else:
            weight.zero_()
            weight[torch.from_numpy(connected).to(weight.device)] = drawn


def flat_parameters(model: Any, connections: Connections, compute: str) -> Parameters:
    """The model's parameters as one tensor, with its masked layers as ``compute`` has them."""
    masked = {layer.name: model.weight(layer.name) for layer in connections.masked}
    others = [model.weight(layer.name) for layer in connections.layers if layer.name not in masked]
    if compute == "sparse":
        return SparseParameters(model, masked, others)
    return MaskedParameters(model, masked, others, connections.connected())


def dense_saliency(
    trial: TrialConfig, dataset: Dataset, x: Tensor, y: Tensor
) -> dict[str, FloatArray]:
    """|weight * gradient| of every weight of the layers that the method masks, flat, of the dense
    network at its start on the samples x (n, ...), y (n,) (Lee et al. 2019, eq. 6)."""
    layers = trial.layers(dataset)
    model = build_model(trial, dataset, x.device)
    draw_weights(model, Connections(layers, {}), trial)
    Draws(model, trial.streams).at(0)
    loss = F.cross_entropy(model(x), y)
    names = [layer.name for layer in trial.method.masked(layers)]
    weights = [model.weight(name) for name in names]
    gradients = torch.autograd.grad(loss, weights)
    return {
        name: (weight.detach() * gradient).abs().flatten().cpu().numpy()
        for name, weight, gradient in zip(names, weights, gradients, strict=True)
    }
