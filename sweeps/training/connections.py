"""The connections of a network while it trains: those of every layer, and their history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sweeps.training import positions
from sweeps.training.masking import Change
from sweeps.training.models import Layer
from sweeps.training.positions import BoolArray, Positions


class Connections:
    """The sorted positions of every masked layer, on the CPU; ``ever`` is where one has been.

    The masked layers are the ones that a method thins out, the ones that densities and
    exploration speak of; the others are full. A network without masked layers speaks of all.
    """

    def __init__(self, layers: Sequence[Layer], masked: Mapping[str, Positions]) -> None:
        self.layers = list(layers)
        self.masked = [layer for layer in layers if layer.name in masked]
        self._connected = dict(masked)
        self.ever = dict(masked)

    def of(self, layer: Layer) -> Positions:
        """The positions of a layer's connections, sorted."""
        if layer.name in self._connected:
            return self._connected[layer.name]
        return np.arange(layer.size)

    def connected(self) -> dict[str, Positions]:
        """The positions of every masked layer's connections, sorted."""
        return dict(self._connected)

    def change(self, layer: Layer, change: Change) -> int:
        """Carry out one layer's change; returns how many connections of its new mask were not in
        the old one (those that were dropped and grown again were)."""
        old = self.of(layer)
        new = change.after(old)
        self._connected[layer.name] = new
        self.ever[layer.name] = positions.united(self.ever[layer.name], new)
        return int(np.count_nonzero(~positions.contained(new, old)))

    def mask(self, layer: Layer) -> BoolArray:
        """A layer's mask, (n_out, n_in)."""
        return positions.as_mask(self.of(layer), layer.shape)

    def counts(self) -> dict[str, int]:
        """The number of connections of each layer."""
        return {
            layer.name: len(self._connected.get(layer.name, range(layer.size)))
            for layer in self.layers
        }

    def metrics(self) -> dict[str, float]:
        """connections (of all layers), density_<layer>, density and exploration.

        density: connections over weights of the masked layers together, what a study asks for.
        exploration: the ITOP rate, weights that have ever been connected over all weights, of
        the masked layers (Liu et al. 2021).
        """
        counts = self.counts()
        metrics = {
            f"density_{layer.name}": counts[layer.name] / layer.size for layer in self.layers
        }
        measured = self.masked or self.layers
        size = sum(layer.size for layer in measured)
        explored = sum(len(self.ever.get(layer.name, range(layer.size))) for layer in measured)
        metrics["density"] = sum(counts[layer.name] for layer in measured) / size
        metrics["exploration"] = explored / size
        metrics["connections"] = float(sum(counts.values()))
        return metrics

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The positions of the masked layers, and where they have been."""
        return {"connected": self.packed(self._connected), "ever": self.packed(self.ever)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        self._connected = self.unpacked(state["connected"])
        self.ever = self.unpacked(state["ever"])

    def packed(self, connected: Mapping[str, Positions]) -> dict[str, Tensor]:
        """Positions of every masked layer, as a checkpoint holds them."""
        return {layer.name: _packed(connected[layer.name], layer) for layer in self.masked}

    def unpacked(self, packed: Mapping[str, Tensor]) -> dict[str, Positions]:
        """What ``packed`` was made of."""
        return {layer.name: _unpacked(packed[layer.name], layer) for layer in self.masked}


def _packed(connected: Positions, layer: Layer) -> Tensor:
    """One bit a weight (uint8) or 64 a position, whichever is less."""
    if 64 * len(connected) < layer.size:
        return torch.from_numpy(connected)
    return torch.from_numpy(np.packbits(positions.as_mask(connected, layer.shape)))


def _unpacked(packed: Tensor, layer: Layer) -> Positions:
    if packed.dtype == torch.int64:
        return packed.numpy()
    return np.flatnonzero(np.unpackbits(packed.numpy(), count=layer.size))
