"""A model's parameters as one flat tensor without the weights that are not connected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sweeps.training import positions
from sweeps.training.masking import Change
from sweeps.training.positions import Positions
from sweeps.training.rules import FloatArray, Scores
from sweeps.training.sparse_linear import ProductScores, SparseLinear


class SparseParameters:
    """Only connections have weights; a step, an optimiser's slot and a checkpoint are of their
    size. The counterpart of ``MaskedParameters``, in the same order.

    A change of the topology moves what is kept, values and slots, to its new place. Where the
    number of connections changes, ``values``, ``gradients`` and the slots become new tensors.

    Args:
        model: its parameters move into ``values``; the masked layers are ``SparseLinear``.
        masked: the weights of the masked layers by name, in order, (nnz,) each.
        weights: the other layers' weights.
    """

    def __init__(
        self,
        model: nn.Module,
        masked: Mapping[str, nn.Parameter],
        weights: Sequence[nn.Parameter],
    ) -> None:
        sparse = {own.weight: own for own in model.modules() if isinstance(own, SparseLinear)}
        self._layers = {name: sparse[weight] for name, weight in masked.items()}
        self._others = [
            parameter
            for parameter in dict.fromkeys([*weights, *model.parameters()])
            if parameter not in sparse
        ]
        self._n_others = sum(weight.numel() for weight in weights)
        ordered = [*masked.values(), *self._others]
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in ordered])
        self._slices: dict[str, slice] = {}
        self._share_out()

    @property
    def n_masked(self) -> int:
        """Connections of the masked layers."""
        return sum(len(layer.connected) for layer in self._layers.values())

    @property
    def n_weights(self) -> int:
        """These and the other layers' weights."""
        return self.n_masked + self._n_others

    def new_slot(self) -> Tensor:
        """Zeros for an optimiser, one number a parameter."""
        return torch.zeros_like(self.values)

    def where(self, name: str) -> slice:
        """Where a masked layer's weights lie in ``values`` and in every slot."""
        return self._slices[name]

    def show(self, connected: Mapping[str, Positions], slots: MutableMapping[str, Tensor]) -> None:
        """Let these be the connections, with weights and slots of zeros."""
        rest = self.n_masked
        nnz = sum(len(where) for where in connected.values())
        for name, where in connected.items():
            self._layers[name].connect(where)
        self.values = torch.cat([torch.zeros(nnz), self.values[rest:]])
        for name, slot in slots.items():
            slots[name] = torch.cat([torch.zeros(nnz), slot[rest:]])
        self._share_out()

    def mask_gradients(self) -> None:
        """There is nothing to mask."""

    def weights(self, name: str, connected: Positions) -> FloatArray:
        """The weights of a masked layer's connections, (nnz,)."""
        values: FloatArray = self.values[self._slices[name]].clone().numpy()
        return values

    def scores(self, of: Tensor) -> dict[str, Scores]:
        """No vector has a number for every weight here."""
        raise AssertionError("a method that keeps a mean of all gradients was not refused")

    def gradient_scores(self, backward: Callable[[], object]) -> dict[str, Scores]:
        """The gradients of all weights of the masked layers after ``backward()``; they are
        multiplied out some rows at a time."""
        for layer in self._layers.values():
            layer.watched = True
        backward()
        scores: dict[str, Scores] = {}
        for name, layer in self._layers.items():
            if layer.factors is None:
                raise AssertionError("a backward pass left out a layer")
            scores[name] = ProductScores(layer.factors)
            layer.watched, layer.factors = False, None
        return scores

    def change(
        self, name: str, change: Change, new_weights: FloatArray, slots: MutableMapping[str, Tensor]
    ) -> None:
        """Carry out one layer's change.

        Grown connections get ``new_weights`` (one a grown position, in its order) and slots of 0;
        kept ones take theirs along.
        """
        layer, own = self._layers[name], self._slices[name]
        old, new = layer.connected, change.after(layer.connected)
        stays = ~positions.contained(old, change.dropped)
        kept_from = torch.from_numpy(np.flatnonzero(stays))
        kept_to = torch.from_numpy(np.searchsorted(new, old[stays]))
        grown_to = torch.from_numpy(np.searchsorted(new, change.grown))

        def moved(vector: Tensor) -> Tensor:
            part = torch.zeros(len(new))
            part[kept_to] = vector[own][kept_from]
            return part

        weights = moved(self.values)
        weights[grown_to] = torch.from_numpy(new_weights)
        layer.connect(new)
        for slot_name, slot in slots.items():
            slots[slot_name] = _replaced(slot, own, moved(slot))
        self.values = _replaced(self.values, own, weights)
        if len(new) != len(old):
            self._share_out()

    def compact(self, vector: Tensor, connected: Mapping[str, Positions]) -> Tensor:
        """What a checkpoint holds of ``values`` or a slot: all of it."""
        return vector.clone()

    def expand(self, vector: Tensor, compact: Tensor, connected: Mapping[str, Positions]) -> None:
        """Fill ``vector`` from what ``compact`` gave."""
        vector.copy_(compact)

    def _share_out(self) -> None:
        """Let the model's parameters view ``values``, and their gradients a new vector."""
        self.gradients = torch.zeros_like(self.values)
        start = 0
        for name, layer in self._layers.items():
            own = slice(start, start + len(layer.connected))
            # A parameter of another length is another parameter.
            layer.weight = nn.Parameter(self.values[own])
            layer.weight.grad = self.gradients[own]
            self._slices[name] = own
            start = own.stop
        for parameter in self._others:
            stop = start + parameter.numel()
            parameter.data = self.values[start:stop].view_as(parameter)
            parameter.grad = self.gradients[start:stop].view_as(parameter)
            start = stop


def _replaced(vector: Tensor, where: slice, part: Tensor) -> Tensor:
    """``vector`` with ``part`` in the place ``where``: in place, where it fits."""
    if len(part) == where.stop - where.start:
        vector[where] = part
        return vector
    return torch.cat([vector[: where.start], part, vector[where.stop :]])
