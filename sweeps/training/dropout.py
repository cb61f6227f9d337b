"""Dropout whose draws follow from the trial's seed, the step and the layer's place alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from sweeps.training.streams import Purpose, Streams


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014): in training each number is 0 with probability
    ``rate``, in [0, 1), and otherwise divided by 1 - rate; in evaluation nothing is done.

    It draws on the CPU from the stream that `Draws` has told it, so that a step drops the same
    neurons on every device, however often it is done again.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator: Callable[[], np.random.Generator] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if self.generator is None:
            raise RuntimeError("dropout in training needs Draws to say which step this is")
        kept = self.generator().random(x.shape, dtype=np.float32) >= self.rate
        return x * torch.from_numpy(kept).to(x.device) / (1 - self.rate)


class Draws:
    """All dropout layers of a model, told before each step whose draws are due."""

    def __init__(self, model: nn.Module, streams: Streams) -> None:
        self._layers = [module for module in model.modules() if isinstance(module, Dropout)]
        self._streams = streams

    def at(self, step: int) -> None:
        """``step`` optimiser steps are done."""
        for place, layer in enumerate(self._layers):
            layer.generator = partial(self._streams.for_weights, Purpose.DROPOUT, step, place)
