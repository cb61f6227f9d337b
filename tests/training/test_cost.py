"""The estimate of a trial against the trial itself."""

from collections.abc import Callable
from typing import Any

import pytest

from sweeps.training import Training, estimate

Config = dict[str, Any]


@pytest.mark.parametrize("method", ["dense", "static", "set"])
@pytest.mark.parametrize("activation", ["relu", "srelu"])
def test_counts_and_steps_are_those_of_the_training(
    config_of: Callable[..., Config], method: str, activation: str
) -> None:
    config = config_of(method, model={"activation": activation})
    training = Training(config)
    cost = estimate(config, measure_for=0)
    assert cost.seconds_per_epoch is None
    assert cost.steps_per_epoch == training.steps_per_epoch
    assert cost.total_steps == training.total_steps
    assert cost.parameters == len(training.parameters.values)
    assert cost.connections == {name: int(mask.sum()) for name, mask, _, _ in training.masks()}


def test_memory_covers_what_a_training_holds(config_of: Callable[..., Config]) -> None:
    config = config_of("set", model={"hidden": [300, 300]})
    training = Training(config)
    flat = training.parameters
    held = [flat.values, flat.gradients, flat.values, *training.optimizer.slots.values()]
    tensors = sum(tensor.nbytes for tensor in [*held, *training.dataset.tensors("cpu")])
    masks = sum(where.nbytes for where in training.connections.connected().values())
    ever = sum(where.nbytes for where in training.connections.ever.values())
    cost = estimate(config, measure_for=0)
    assert tensors + masks + ever < cost.memory_bytes < 3 * (tensors + masks + ever)


def test_seconds_are_measured_and_leave_nothing_behind(config_of: Callable[..., Config]) -> None:
    config = config_of("set")
    before = Training(config).run_epoch()
    cost = estimate(config, measure_for=0.01)
    assert cost.seconds_per_epoch is not None
    assert cost.seconds_per_epoch > 0
    after = Training(config).run_epoch()
    assert {**before, "seconds": 0} == {**after, "seconds": 0}


def test_a_trial_that_would_fail_still_gets_its_estimate(config_of: Callable[..., Config]) -> None:
    cost = estimate(config_of("dense", optimizer={"lr": 1e30}), measure_for=0.01)
    assert cost.seconds_per_epoch is not None


def test_mixed_precision_is_not_timed_where_it_cannot_run(
    config_of: Callable[..., Config],
) -> None:
    config = config_of("set", optimizer={"mixed_precision": True})
    assert estimate(config).seconds_per_epoch is None


def test_a_network_of_any_size_is_estimated_without_building_it(
    config_of: Callable[..., Config],
) -> None:
    config = config_of("set", model={"hidden": [1_000_000, 1_000_000]}, method={"density": 1e-6})
    cost = estimate(config, measure_for=0, compute="masked")
    assert cost.parameters > 10**12
    assert cost.memory_bytes > 4 * 10**12
    assert estimate(config, measure_for=0, compute="sparse").memory_bytes < 10**10
    assert sum(list(cost.connections.values())[:2]) == round(1e-6 * (64 * 10**6 + 10**12))
