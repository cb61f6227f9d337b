"""How masked layers are computed: as dense matrices with a mask, or by their connections alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from storage.errors import InputError
from sweeps.training.config import TrialConfig, parse_config
from sweeps.training.dataset import Dataset
from sweeps.training.layers import Layer

Compute = Literal["auto", "masked", "sparse"]
Chosen = Literal["masked", "sparse"]

# How many times as fast a training step of 784-w-w-w-10 is by connections alone, batch 128,
# momentum SGD, one thread (tests/benchmarks/bench_sparse_linear.py, processor time):
#
#      w   0.6%    2%    5%   10%   20%
#    128    1.3   1.3   1.1   1.2   0.8
#    256    2.2   2.0   1.9   1.4   1.0
#    784    7.8   5.4   3.3   2.1   1.1
#   2000   13.3   8.0   4.4   2.3   1.1
#
# Batches of 16 to 512 give about the same. An evaluation gains less: at 20% it is slower (0.7 to
# 0.9), and so are narrow layers with small batches (0.4 to 0.8 at w = 64).
LEAST_WEIGHTS = 256 * 256  # of a masked layer, on average
MOST_DENSITY = 0.1


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


def check_compute(asked: Compute, config: Mapping[str, Any], dataset: Dataset, device: str) -> None:
    """Raise InputError where a resolved configuration cannot be computed as is asked for."""
    trial = parse_config(config)
    choose_compute(asked, trial, trial.layers(dataset), device)


def _obstacle(trial: TrialConfig, device: str) -> str | None:
    if device != "cpu":
        return "on a GPU: 'masked' is"
    if not getattr(trial.model_class, "takes_sparse", False):
        return f"with model {trial.model.name}, whose layers cannot be of connections alone"
    if trial.method.needs == "momentum":
        return (
            f"with method {trial.method.settings.name} and grow: 'momentum', which needs the "
            "gradients of all weights at every step"
        )
    return None


def _pays(trial: TrialConfig, layers: Sequence[Layer]) -> bool:
    """Whether the masked layers are wide and sparse enough, all together."""
    masked = trial.method.masked(layers)
    size: int = sum(layer.size for layer in masked)
    connections: int = sum(trial.method.most(layers).values())
    return size >= LEAST_WEIGHTS * max(1, len(masked)) and connections <= round(MOST_DENSITY * size)
