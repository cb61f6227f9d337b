"""After each epoch: does the training go on, has it ended early, has it collapsed?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.training.collapse import Collapse
from sweeps.training.split import Indices, Split
from sweeps.training.stopping import EarlyStopping, PatienceSettings


class Verdict:
    """What is known of the epochs so far, each judged once.

    Args:
        settings: when to stop early.
        split: of the training samples.
        labels: of all training samples (n,).
        rounds: whether the method trains in rounds.

    Raises:
        InputError: early stopping has nothing to judge by, or ends rounds that were asked for.
    """

    def __init__(
        self, settings: PatienceSettings, split: Split, labels: Indices, rounds: bool
    ) -> None:
        of = {"train_accuracy": labels[split.train]}
        if len(split.validation):
            of["validation_accuracy"] = labels[split.validation]
        self._stopping = EarlyStopping(settings, len(split.validation), rounds)
        self.collapse = Collapse(of)
        self.epochs = 0  # judged so far

    @property
    def ended(self) -> bool:
        """Whether early stopping has ended the training."""
        return self._stopping.ended

    def judge(self, metrics: Mapping[str, float], epoch: int, last: bool) -> str | None:
        """Judge epoch number ``epoch`` (the first is 1), ``last`` where no more were planned.

        Returns in a few words why the training has failed, if it has.
        """
        self.epochs = epoch
        self._stopping.note(metrics)
        return self.collapse.note(metrics, epoch, ended=last or self.ended)

    def state_dict(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "stopping": self._stopping.state_dict(),
            "collapse": self.collapse.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epochs = state["epochs"]
        self._stopping.load_state_dict(state["stopping"])
        self.collapse.load_state_dict(state["collapse"])
