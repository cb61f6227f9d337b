"""Noticing that a network which had learned something has lost all of it.

Very sparse networks can fall apart in the middle of a training: the loss stays finite, but the
scores no longer depend on the input. Nothing that comes after is worth the name of a result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

EPOCHS = 5  # in a row at chance level: less can be a bad patch that a training comes out of
FAR = 0.25  # of the way from chance level to no mistake: from here on it has learned something
NEAR = 0.05  # of that way: still chance level
STANDARD_ERRORS = 6.0  # above chance level that a small sample has to show as well


class Collapse:
    """Follows the accuracies of a training and says when it has collapsed.

    Chance level c of an accuracy is the share of the largest class in its samples: no network whose
    scores do not depend on the input is above it. Accuracy a is *far above* chance when
    a - c >= FAR (1 - c), and a - c >= STANDARD_ERRORS sqrt(c (1 - c) / n) for n samples, so that
    nothing is made of what a few samples say. It is *at* chance when a - c <= NEAR (1 - c).

    A training has collapsed when every accuracy that was once far above chance is at chance,
    - for EPOCHS epochs in a row; or
    - when the training ends, by the accuracy on the validation split, or else in training.

    So one that never learns has not collapsed: it was never far above chance. Nor has one that
    forgets most of what it knew, that comes back within a few epochs (after a rate that was too
    high, after much was pruned at once), or whose evaluation alone is poor for a while. A method
    that takes the weights away on purpose says so: ``forget``.

    Args:
        labels: the labels (n,) of the samples that each accuracy is of, by its metric's name:
            ``train_accuracy`` and, with a split, ``validation_accuracy``.
    """

    def __init__(self, labels: Mapping[str, npt.NDArray[np.integer[Any]]]) -> None:
        self._chance = {name: _chance(of) for name, of in labels.items()}
        self._needed = {name: _far(self._chance[name], len(of)) for name, of in labels.items()}
        self.forget()

    def forget(self) -> None:
        """The network begins anew: what it had learned is no longer expected of it."""
        self._best: dict[str, list[float]] = {}  # [accuracy, epoch] of what was far above chance
        self._fallen = 0

    def note(self, metrics: Mapping[str, float], epoch: int, ended: bool) -> str | None:
        """Take an epoch's metrics into account.

        Args:
            metrics: of the epoch, the accuracies among them.
            epoch: its number; the first is 1.
            ended: whether it is the last one.

        Returns:
            In a few words what happened, if the training has collapsed.
        """
        accuracies = {name: metrics[name] for name in self._chance}
        for name, accuracy in accuracies.items():
            far = accuracy - self._chance[name] >= self._needed[name]
            if far and accuracy > self._best.get(name, [0.0])[0]:
                self._best[name] = [accuracy, float(epoch)]
        fallen = [name for name in self._best if self._is_at_chance(name, accuracies[name])]
        self._fallen = self._fallen + 1 if fallen and len(fallen) == len(self._best) else 0
        # The validation split comes last, where there is one.
        judge = next((name for name in reversed(self._chance) if name in self._best), None)
        if self._fallen < EPOCHS and not (ended and judge in fallen):
            return None
        accuracy, best_epoch = self._best[fallen[0]]
        now = ", ".join(f"{name} is {accuracies[name]:.3g}" for name in accuracies)
        return f"accuracy fell to chance after {accuracy:.3g} at epoch {best_epoch:.0f}: {now}"

    def _is_at_chance(self, name: str, accuracy: float) -> bool:
        chance = self._chance[name]
        return accuracy - chance <= NEAR * (1 - chance)

    def state_dict(self) -> dict[str, Any]:
        """What was once reached, and for how many epochs it has been lost."""
        return {"best": {name: list(best) for name, best in self._best.items()},
                "fallen": self._fallen}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best = {name: list(best) for name, best in state["best"].items()}
        self._fallen = state["fallen"]


def _far(chance: float, n: int) -> float:
    """How much above chance level is far above it; never, where all labels are the same."""
    if chance == 1:
        return math.inf
    return max(FAR * (1 - chance), STANDARD_ERRORS * math.sqrt(chance * (1 - chance) / n))


def _chance(labels: npt.NDArray[np.integer[Any]]) -> float:
    return float(np.bincount(labels).max() / len(labels))
