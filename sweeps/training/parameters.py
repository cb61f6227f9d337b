"""A model's parameters as one flat tensor, and their gradients as another.

One tensor makes an optimiser step a handful of operations, whatever the number of layers: on small
networks that is most of the time of a step. Layers keep their own views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sweeps.training import positions
from sweeps.training.masking import Change
from sweeps.training.positions import Positions
from sweeps.training.rules import FloatArray, Scores


@dataclass(frozen=True)
class MatrixScores:
    """Scores that are there as a whole: a tensor with n_in columns to a row."""

    values: Tensor
    n_in: int

    def rows(self, start: int, stop: int) -> FloatArray:
        part: FloatArray = self.values[start * self.n_in : stop * self.n_in].cpu().numpy()
        return part.reshape(stop - start, self.n_in)


class Parameters(Protocol):
    """What the loop and the optimisers ask of either kind; see ``MaskedParameters`` and
    ``SparseParameters``. ``values`` and ``gradients`` may become other tensors by a change."""

    values: Tensor
    gradients: Tensor

    @property
    def n_masked(self) -> int: ...

    @property
    def n_weights(self) -> int: ...

    def new_slot(self) -> Tensor: ...

    def where(self, name: str) -> slice: ...

    def show(
        self, connected: Mapping[str, Positions], slots: MutableMapping[str, Tensor]
    ) -> None: ...

    def mask_gradients(self) -> None: ...

    def weights(self, name: str, connected: Positions) -> FloatArray: ...

    def scores(self, of: Tensor) -> Mapping[str, Scores]: ...

    def gradient_scores(self, backward: Callable[[], object]) -> Mapping[str, Scores]: ...

    def change(
        self, name: str, change: Change, new_weights: FloatArray, slots: MutableMapping[str, Tensor]
    ) -> None: ...

    def compact(self, vector: Tensor, connected: Mapping[str, Positions]) -> Tensor: ...

    def expand(
        self, vector: Tensor, compact: Tensor, connected: Mapping[str, Positions]
    ) -> None: ...


class MaskedParameters:
    """Every weight is there, connected or not; those without a connection stay exactly 0.

    ``values`` and ``gradients``, one float32 vector each, that the model's parameters view. In
    order: the masked weights (``values[:n_masked]``), the other weights (``values[:n_weights]``
    holds both), then everything that is no connection: biases, the parameters of activations and
    of normalisation.

    Args:
        model: its parameters move into ``values``.
        masked: the weights of the masked layers by name, in order.
        weights: the other layers' weights.
        connected: the positions of each masked layer's connections.
    """

    def __init__(
        self,
        model: nn.Module,
        masked: Mapping[str, nn.Parameter],
        weights: Sequence[nn.Parameter],
        connected: Mapping[str, Positions],
    ) -> None:
        ordered = list(dict.fromkeys([*masked.values(), *weights, *model.parameters()]))
        self.n_masked = sum(parameter.numel() for parameter in masked.values())
        self.n_weights = self.n_masked + sum(parameter.numel() for parameter in weights)
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in ordered])
        self.gradients = torch.zeros_like(self.values)
        self._mask = torch.zeros_like(self.values[: self.n_masked])
        self._slices: dict[str, slice] = {}
        self._n_in = {name: p.numel() // p.shape[0] for name, p in masked.items()}
        names = {parameter: name for name, parameter in masked.items()}
        start = 0
        for parameter in ordered:
            stop = start + parameter.numel()
            parameter.data = self.values[start:stop].view_as(parameter)
            parameter.grad = self.gradients[start:stop].view_as(parameter)
            if parameter in names:
                self._slices[names[parameter]] = slice(start, stop)
            start = stop
        self.show(connected, {})

    def new_slot(self) -> Tensor:
        """Zeros for an optimiser, one number a parameter."""
        return torch.zeros_like(self.values)

    def where(self, name: str) -> slice:
        """Where a masked layer's weights lie in ``values`` and in every slot."""
        return self._slices[name]

    def show(self, connected: Mapping[str, Positions], slots: MutableMapping[str, Tensor]) -> None:
        """Let these be the connections; weights and slots are yet to be filled."""
        self._mask.zero_()
        for name, where in connected.items():
            self._mask[self._at(name, where)] = 1.0

    def mask_gradients(self) -> None:
        """No gradient where there is no connection, so nothing there ever moves."""
        if self.n_masked:
            self.gradients[: self.n_masked].mul_(self._mask)

    def weights(self, name: str, connected: Positions) -> FloatArray:
        """The weights of a masked layer's connections, (nnz,), on the CPU."""
        values: FloatArray = self.values[self._at(name, connected)].cpu().numpy()
        return values

    def scores(self, of: Tensor) -> dict[str, Scores]:
        """Each masked layer's part of a vector like ``gradients[:n_masked]``."""
        return {
            name: MatrixScores(of[where], self._n_in[name]) for name, where in self._slices.items()
        }

    def gradient_scores(self, backward: Callable[[], object]) -> dict[str, Scores]:
        """The gradients of all weights of the masked layers after ``backward()``."""
        backward()
        return self.scores(self.gradients)

    def change(
        self, name: str, change: Change, new_weights: FloatArray, slots: MutableMapping[str, Tensor]
    ) -> None:
        """Carry out one layer's change.

        Dropped weights become 0, grown ones get ``new_weights`` (one a grown position, in its
        order); both lose whatever the optimiser's slots remembered of them.
        """
        dropped, grown = self._at(name, change.dropped), self._at(name, change.grown)
        self.values[dropped] = 0.0
        self._mask[dropped] = 0.0
        self.values[grown] = torch.from_numpy(new_weights).to(self.values.device)
        self._mask[grown] = 1.0
        for slot in slots.values():
            slot[dropped] = 0.0
            slot[grown] = 0.0

    def compact(self, vector: Tensor, connected: Mapping[str, Positions]) -> Tensor:
        """What a checkpoint holds of ``values`` or a slot, on the CPU: the connections' numbers,
        layer after layer, then everything from ``n_masked`` on."""
        parts = [vector[self._at(name, where)] for name, where in connected.items()]
        return torch.cat([*parts, vector[self.n_masked :]]).cpu()

    def expand(self, vector: Tensor, compact: Tensor, connected: Mapping[str, Positions]) -> None:
        """Fill ``vector`` from what ``compact`` gave."""
        vector[: self.n_masked] = 0.0
        start = 0
        for name, where in connected.items():
            part = compact[start : start + len(where)]
            vector[self._at(name, where)] = part.to(vector.device)
            start += len(where)
        vector[self.n_masked :] = compact[start:].to(vector.device)

    def _at(self, name: str, where: Positions) -> Tensor:
        return torch.from_numpy(where + self._slices[name].start).to(self.values.device)


def carried(
    compact: Tensor, before: Mapping[str, Positions], after: Mapping[str, Positions]
) -> Tensor:
    """What ``compact`` gave for the connections ``before``, as it would be for ``after``: numbers
    follow their connections, and where there was none they are 0."""
    parts, start = [], 0
    for name, where in before.items():
        there = positions.contained(after[name], where)
        found = start + np.searchsorted(where, after[name][there])
        part = torch.zeros(len(there), dtype=compact.dtype)
        part[torch.from_numpy(there)] = compact[torch.from_numpy(found)]
        parts.append(part)
        start += len(where)
    return torch.cat([*parts, compact[start:]])
