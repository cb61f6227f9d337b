"""What a step of training minimises, in which precision, and how large its gradient may be."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from storage.errors import InputError
from sweeps.training.settings import Settings


class ObjectiveSettings(Settings):
    """What a step minimises.

    ``label_smoothing`` in [0, 1): that share of each label is spread evenly over all classes
    (Szegedy et al. 2016, section 7); it is in ``train_loss``, not in the losses of evaluations.
    ``clip_norm``: a gradient whose Euclidean norm, over all parameters together, is larger is
    scaled down to it; null: never. ``mixed_precision``: layers compute in bfloat16 where torch's
    autocast says so, weights and evaluations stay in float32; on CUDA devices only.
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    mixed_precision: bool = False

    def unused(self) -> frozenset[str]:
        """The norm where nothing is clipped."""
        return super().unused() | ({"clip_norm"} if self.clip_norm is None else set())


class Objective:
    """The loss of a batch, and the gradient as the optimiser may see it.

    Raises:
        InputError: mixed precision without a CUDA device, where it would be another training
            than the one that was asked for.
    """

    def __init__(self, settings: ObjectiveSettings, device: torch.device) -> None:
        if settings.mixed_precision and device.type != "cuda":
            raise InputError(
                "optimizer.mixed_precision: True is not allowed: it needs a CUDA device, "
                f"and this is {device.type}"
            )
        self._settings = settings

    def loss(self, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss () of a batch and its class scores (batch, n_classes), to be
        differentiated; labels y (batch,)."""
        with self._precision():
            scores = model(x)
            smoothing = self._settings.label_smoothing
            return F.cross_entropy(scores, y, label_smoothing=smoothing), scores

    def limit(self, gradients: Tensor) -> None:
        """Clip a flat gradient in place, the same as torch's ``clip_grad_norm_``: times
        clip_norm / (norm + 1e-6) where that is below 1 (Pascanu et al. 2013, algorithm 1)."""
        if self._settings.clip_norm is not None:
            norm = torch.linalg.vector_norm(gradients)
            gradients.mul_((self._settings.clip_norm / (norm + 1e-6)).clamp_(max=1.0))

    def _precision(self) -> AbstractContextManager[object]:
        # Autocast that is switched off still costs a small network a noticeable part of its step.
        if not self._settings.mixed_precision:
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)


@torch.no_grad()
def loss_and_accuracy(model: nn.Module, x: Tensor, y: Tensor, at_once: int) -> tuple[float, float]:
    """Mean loss and accuracy on samples x (n, ...), y (n,), ``at_once`` of them at a time."""
    loss, correct = 0.0, 0
    model.eval()
    for start in range(0, len(y), at_once):
        labels = y[start : start + at_once]
        scores = model(x[start : start + at_once])
        loss += F.cross_entropy(scores, labels, reduction="sum").item()
        correct += int((scores.argmax(dim=1) == labels).sum())
    model.train()
    return loss / len(y), correct / len(y)
