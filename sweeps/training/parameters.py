"""A model's parameters as one flat tensor, and their gradients as another.

One tensor makes an optimiser step a handful of operations, whatever the number of layers: on small
networks that is most of the time of a step. Layers keep their own views.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sweeps.training.masking import Change, FloatArray


class FlatParameters:
    """``values`` and ``gradients``, one float32 vector each, that the model's parameters view.

    In order: the masked weights (``values[:n_masked]``), the other weights
    (``values[:n_weights]`` holds both), then everything that is no connection: biases and the
    parameters of activations. ``mask`` is 1 where a connection is, 0 elsewhere, (n_masked,).
    """

    def __init__(
        self, model: nn.Module, masked: Iterable[nn.Parameter], weights: Iterable[nn.Parameter]
    ) -> None:
        masked, weights = list(masked), list(weights)
        ordered = list(dict.fromkeys([*masked, *weights, *model.parameters()]))
        self.n_masked = sum(parameter.numel() for parameter in masked)
        self.n_weights = sum(parameter.numel() for parameter in dict.fromkeys([*masked, *weights]))
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in ordered])
        self.gradients = torch.zeros_like(self.values)
        self.mask = torch.ones_like(self.values[: self.n_masked])
        self._slices: dict[nn.Parameter, slice] = {}
        start = 0
        for parameter in ordered:
            stop = start + parameter.numel()
            parameter.data = self.values[start:stop].view_as(parameter)
            parameter.grad = self.gradients[start:stop].view_as(parameter)
            self._slices[parameter] = slice(start, stop)
            start = stop

    def slice_of(self, parameter: nn.Parameter) -> slice:
        """Where a parameter of the model lies in ``values`` and in every slot."""
        return self._slices[parameter]

    def mask_gradients(self) -> None:
        """No gradient where there is no connection, so nothing there ever moves."""
        if self.n_masked:
            self.gradients[: self.n_masked].mul_(self.mask)

    def change(
        self, where: slice, change: Change, new_weights: FloatArray, slots: Mapping[str, Tensor]
    ) -> None:
        """Carry out one layer's change: the layer lies at ``where``.

        Dropped weights become 0, grown ones get ``new_weights`` (one a grown position, in its
        order); both lose whatever the optimiser's slots remembered of them.
        """
        device = self.values.device
        dropped = torch.from_numpy(change.dropped + where.start).to(device)
        grown = torch.from_numpy(change.grown + where.start).to(device)
        self.values[dropped] = 0.0
        self.mask[dropped] = 0.0
        self.values[grown] = torch.from_numpy(new_weights).to(device)
        self.mask[grown] = 1.0
        for slot in slots.values():
            slot[dropped] = 0.0
            slot[grown] = 0.0

    def new_slot(self) -> Tensor:
        """Zeros for an optimiser, one number a parameter."""
        return torch.zeros_like(self.values)
