"""The connections of a network while it trains: the mask of every layer, and its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sweeps.training.initial import he_by_fan_in
from sweeps.training.masking import BoolArray, Change, FloatArray, draw_mask
from sweeps.training.models import Layer
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

    def change(self, name: str, change: Change) -> tuple[BoolArray, int]:
        """Carry out one layer's change; returns its new mask and how many connections of it were
        not in the old one (those that were dropped and grown again were)."""
        old = self.masks[name]
        mask = old.copy()
        mask.flat[change.dropped] = False
        mask.flat[change.grown] = True
        self.masks[name] = mask
        self.ever[name] |= mask
        return mask, int(np.count_nonzero(mask & ~old))

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

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The masks that are not full, and where they have been, one bit a weight."""
        return {
            "masks": {layer.name: _packed(self.masks[layer.name]) for layer in self.masked},
            "ever": {layer.name: _packed(self.ever[layer.name]) for layer in self.masked},
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        for layer in self.masked:
            self.masks[layer.name] = _unpacked(state["masks"][layer.name], layer.shape)
            self.ever[layer.name] = _unpacked(state["ever"][layer.name], layer.shape)


def _packed(mask: BoolArray) -> Tensor:
    return torch.from_numpy(np.packbits(mask))


def _unpacked(bits: Tensor, shape: tuple[int, int]) -> BoolArray:
    mask = np.unpackbits(bits.numpy(), count=shape[0] * shape[1])
    return mask.astype(bool).reshape(shape)
