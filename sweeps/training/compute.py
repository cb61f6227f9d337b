"""How masked layers are computed: as dense matrices with a mask, or by their connections alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from storage.errors import InputError
from sweeps.training.config import TrialConfig
from sweeps.training.models import Layer

Compute = Literal["auto", "masked", "sparse"]
Chosen = Literal["masked", "sparse"]


def choose_compute(
    asked: Compute, trial: TrialConfig, layers: Sequence[Layer], device: str
) -> Chosen:
    """What a trial is computed with: a function of its configuration and of whether it runs on a
    GPU, never of what the machine does at the moment.

    Raises InputError where ``sparse`` is asked for and cannot be.
    """
    obstacle = _obstacle(trial, device)
    if asked == "sparse" and obstacle is not None:
        raise InputError(f"resources.compute: 'sparse' is not allowed {obstacle}")
    if asked == "auto":
        return "sparse" if obstacle is None and _pays(trial, layers) else "masked"
    return asked


def _obstacle(trial: TrialConfig, device: str) -> str | None:
    if device != "cpu":
        return "on a GPU: 'masked' is"
    if not getattr(trial.model_class, "takes_sparse", False):
        return f"with model {trial.model.name}, which has other layers than Linear ones"
    if trial.method.needs == "momentum":
        return (
            f"with method {trial.method.settings.name} and grow: 'momentum', which needs the "
            "gradients of all weights at every step"
        )
    return None


def _pays(trial: TrialConfig, layers: Sequence[Layer]) -> bool:
    return False
