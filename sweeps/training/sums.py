"""The running sums of an epoch: loss and hits of its batches, each as it was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class EpochSums:
    """Loss, hits, changed connections and seconds of the epoch that is under way.

    Steps are only noted as they are made; ``settle`` adds them up, one look at a GPU for all of
    them. The sums are the same whenever that happens: losses are added one by one, in order.
    """

    def __init__(self) -> None:
        self.loss = 0.0
        self.correct = 0
        self.changed = 0
        self.seconds = 0.0
        self._noted: list[tuple[Tensor, Tensor, Tensor]] = []

    def note(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """A step's mean loss (), class scores (batch, n_classes) and labels (batch,)."""
        self._noted.append((loss.detach(), scores.detach(), labels))

    def settle(self, step: int, failure: Callable[[str, float, int], Exception]) -> None:
        """Add up what was noted; ``step`` is the number of the last step noted.

        Raises what ``failure`` makes of the first loss that is not finite and its step.
        """
        if not self._noted:
            return
        losses, scores, labels = zip(*self._noted, strict=True)
        self._noted = []
        first = step - len(losses) + 1
        values = torch.stack(losses).tolist()
        for number, (value, batch) in enumerate(zip(values, labels, strict=True), start=first):
            if not math.isfinite(value):
                raise failure("loss", value, number)
            self.loss += value * len(batch)
        hits = torch.cat(scores).argmax(dim=1) == torch.cat(labels)
        self.correct += int(hits.sum())

    def state_dict(self) -> dict[str, Any]:
        """The settled sums."""
        return {
            "loss": self.loss,
            "correct": self.correct,
            "changed": self.changed,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loss, self.correct = state["loss"], state["correct"]
        self.changed, self.seconds = state["changed"], state["seconds"]
