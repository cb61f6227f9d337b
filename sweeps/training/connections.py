"""The connections of a network while it trains: its masks, and what changes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from sweeps.training.initial import he_by_fan_in
from sweeps.training.masking import BoolArray, Change, FloatArray, LayerState, draw_mask
from sweeps.training.models import Layer
from sweeps.training.optimizers import Optimizer
from sweeps.training.parameters import FlatParameters
from sweeps.training.streams import Purpose, Streams


class Connections:
    """The mask of every layer, (n_out, n_in), on the CPU; ``ever`` is where one has been.

    ``masked`` names the layers that a method thins out, the ones that densities and exploration
    speak of; the others are full. A network without masked layers speaks of all its layers.
    """

    def __init__(
        self, layers: Sequence[Layer], counts: Mapping[str, int], streams: Streams
    ) -> None:
        self.layers = list(layers)
        self.masked = [layer for layer in layers if layer.name in counts]
        self.masks: dict[str, BoolArray] = {}
        for index, layer in enumerate(layers):
            rng = streams.for_topology(Purpose.FIRST_MASK, index)
            count = counts.get(layer.name, layer.shape[0] * layer.shape[1])
            self.masks[layer.name] = draw_mask(layer.shape, count, rng)
        self.ever = {layer.name: self.masks[layer.name].copy() for layer in self.masked}

    def first_weights(self, streams: Streams) -> Iterator[tuple[str, FloatArray]]:
        """The start of each layer's weights in turn, exactly 0 off the mask."""
        for index, layer in enumerate(self.layers):
            rng = streams.for_weights(Purpose.FIRST_WEIGHTS, index)
            yield layer.name, he_by_fan_in(self.masks[layer.name], rng)

    def replace(self, name: str, mask: BoolArray) -> int:
        """Give a layer another mask; returns how many of its connections are new to it."""
        new = int(np.count_nonzero(mask & ~self.masks[name]))
        self.masks[name] = mask
        self.ever[name] |= mask
        return new

    def counts(self) -> dict[str, int]:
        return {name: int(np.count_nonzero(mask)) for name, mask in self.masks.items()}

    def metrics(self) -> dict[str, float]:
        """connections (of all layers), density_<layer>, density and exploration.

        density: connections over weights of the masked layers together, what a study asks for.
        exploration: the ITOP rate, weights that have ever been connected over all weights, of
        the masked layers (Liu et al. 2021).
        """
        counts = self.counts()
        metrics = {
            f"density_{layer.name}": counts[layer.name] / self.masks[layer.name].size
            for layer in self.layers
        }
        measured = self.masked or self.layers
        size = sum(self.masks[layer.name].size for layer in measured)
        explored = sum(
            int(np.count_nonzero(self.ever.get(layer.name, self.masks[layer.name])))
            for layer in measured
        )
        metrics["density"] = sum(counts[layer.name] for layer in measured) / size
        metrics["exploration"] = explored / size
        metrics["connections"] = float(sum(counts.values()))
        return metrics


def layer_state(parameters: FlatParameters, where: slice, mask: BoolArray) -> LayerState:
    """One layer as drop and grow rules see it: its weights on the CPU, (n_out, n_in)."""
    weights = parameters.values[where].cpu().numpy().reshape(mask.shape)
    return LayerState(weights, mask)


def apply_change(
    parameters: FlatParameters,
    optimizer: Optimizer,
    where: slice,
    change: Change,
    new_weights: FloatArray,
) -> None:
    """Carry one layer's change over to the device.

    Dropped weights become 0, grown ones get ``new_weights`` (one a grown position, in its order);
    both lose whatever the optimiser remembered of them.
    """
    device = parameters.values.device
    dropped = torch.from_numpy(change.dropped + where.start).to(device)
    grown = torch.from_numpy(change.grown + where.start).to(device)
    parameters.values[dropped] = 0.0
    parameters.mask[dropped] = 0.0
    parameters.values[grown] = torch.from_numpy(new_weights).to(device)
    parameters.mask[grown] = 1.0
    for slot in optimizer.slots.values():
        slot[dropped] = 0.0
        slot[grown] = 0.0
