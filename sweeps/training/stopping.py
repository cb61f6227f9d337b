"""Early stopping: a training ends once its validation split has seen nothing better for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from storage.errors import InputError
from sweeps.training.settings import Settings


class PatienceSettings(Settings):
    """Early stopping.

    ``patience``: the training ends after so many epochs in a row whose ``patience_metric`` is not
    better than the best before them; null: never. It needs ``data.validation``. The weights and
    masks that are kept are the last ones, not those of the best epoch; learning-rate schedules run
    as if the training went on.
    """

    patience: Annotated[int, Field(ge=1)] | None = None
    patience_metric: Literal["validation_loss", "validation_accuracy"] = "validation_loss"

    def unused(self) -> frozenset[str]:
        """All of it where nothing stops early."""
        own = {"patience", "patience_metric"} if self.patience is None else set()
        return super().unused() | own


class EarlyStopping:
    """Counts the epochs since the best one.

    Args:
        settings: what the study says.
        n_validation: samples of the validation split.
        rounds: whether the method trains in rounds, all of which it needs.

    Raises:
        InputError: there is nothing to judge by, or rounds would be missing.
    """

    def __init__(self, settings: PatienceSettings, n_validation: int, rounds: bool = False) -> None:
        if settings.patience is not None and not n_validation:
            raise InputError(
                f"optimizer.patience: {settings.patience} is not allowed: it needs a validation "
                "split, and data.validation is 0"
            )
        if settings.patience is not None and rounds:
            raise InputError(
                f"optimizer.patience: {settings.patience} is not allowed with a method that "
                "trains in rounds: it would end before its last one"
            )
        self._settings = settings
        self._best: float | None = None
        self._waited = 0

    @property
    def ended(self) -> bool:
        """Whether the training is over before its last epoch."""
        patience = self._settings.patience
        return patience is not None and self._waited >= patience

    def note(self, metrics: Mapping[str, float]) -> None:
        """Take an epoch's metrics into account."""
        if self._settings.patience is None:
            return
        name = self._settings.patience_metric
        value = metrics[name] if name == "validation_accuracy" else -metrics[name]
        if self._best is None or value > self._best:
            self._best, self._waited = value, 0
        else:
            self._waited += 1

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, larger being better, and the epochs since."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]
