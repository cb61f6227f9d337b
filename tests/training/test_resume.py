"""A training that was interrupted anywhere ends as one that never was."""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch

from storage.errors import InputError
from sweeps.training import Training

Config = dict[str, Any]
ConfigOf = Callable[..., Config]
Outcome = Callable[[Training], dict[str, Any]]


class StopHere(Exception):
    pass


def stored_and_read(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    read: dict[str, Any] = torch.load(buffer, weights_only=True)
    return read


def rest(training: Training) -> list[dict[str, float]]:
    rows = []
    while not training.finished:
        row = training.run_epoch()
        del row["seconds"]
        rows.append(row)
    return rows


def interrupted(config: Config, at: int) -> dict[str, Any]:
    """The stored state of a training that is stopped after ``at`` steps."""
    training = Training(config)
    if at == 0:
        return stored_and_read(training.state_dict())
    caught: dict[str, Any] = {}

    def stop(step: int) -> None:
        if step == at:
            caught.update(stored_and_read(training.state_dict()))
            raise StopHere

    with suppress(StopHere):
        while not training.finished:
            training.run_epoch(stop)
    return caught


VARIANTS = [
    ("dense", {}, {"name": "sgd"}, "relu"),
    ("static", {}, {"name": "adam"}, "relu"),
    ("set", {}, {"name": "sgd"}, "relu"),
    ("set", {"update_every": "4it", "new_weights": "normal"}, {"name": "adam"}, "srelu"),
    ("set", {"update_every": "6it", "new_weights": "he_uniform", "mask_output": True},
     {"name": "sgd", "momentum": 0.0}, "srelu"),
    ("set", {"update_every": "4it"},
     {"name": "sgd", "nesterov": True, "lr_schedule": "one_cycle", "warmup": "3it",
      "clip_norm": 0.5, "label_smoothing": 0.1, "patience": 5}, "relu"),
    ("static", {}, {"name": "adamw", "lr_schedule": "step", "milestones": [0.4, "2ep"]}, "relu"),
    ("rigl", {"update_every": "3it"}, {"name": "adam"}, "relu"),
    ("snfs", {"update_every": "5it"}, {"name": "sgd"}, "relu"),
    ("itop", {"update_every": "4it", "grow": "unexplored"}, {"name": "sgd"}, "relu"),
    ("gmp", {"update_every": "2it"}, {"name": "sgd"}, "srelu"),
    ("lottery", {"rounds": 2, "rewind_to": "3it", "scope": "global"}, {"name": "adam"}, "relu"),
    ("snip", {}, {"name": "sgd"}, "relu"),
    ("random_pruned", {}, {"name": "sgd"}, "relu"),
    ("chain", {"link": 3, "update_every": "4it"}, {"name": "sgd"}, "relu"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options", "optimizer", "activation"), VARIANTS)
def test_stopped_after_any_step_and_resumed_equals_uninterrupted_to_the_last_bit(
    config_of: ConfigOf,
    outcome: Outcome,
    method: str,
    options: dict[str, Any],
    optimizer: dict[str, Any],
    activation: str,
) -> None:
    config = config_of(method, model={"activation": activation}, method=options)
    config["optimizer"] = {"batch_size": 200, **optimizer}
    whole = Training(config)
    rows = rest(whole)
    expected = outcome(whole)
    per_epoch = whole.steps_per_epoch
    for at in range(whole.total_steps):
        resumed = Training(config)
        resumed.load_state_dict(interrupted(config, at))
        assert resumed.step == at
        assert rest(resumed) == rows[at // per_epoch :], f"stopped after step {at}"
        assert outcome(resumed) == expected, f"stopped after step {at}"


CONVOLUTIONAL = [
    {"name": "lenet", "channels": [2, 3], "hidden": [10, 8], "dropout": 0.3},
    {"name": "vgg", "channels": [3, "pool", 4], "classifier": [8], "dropout": 0.5},
    {"name": "resnet", "depth": 8, "width": 2},
]


@pytest.mark.parametrize("model", CONVOLUTIONAL, ids=lambda model: model["name"])
def test_a_model_with_statistics_or_dropout_goes_on_to_the_last_bit_as_well(
    config_of: ConfigOf, outcome: Outcome, model: Config
) -> None:
    config = config_of("set", method={"update_every": "4it"})
    config["model"] = model
    config["optimizer"]["batch_size"] = 300
    whole = Training(config)
    rows = rest(whole)
    expected = outcome(whole)
    assert bool(expected["buffers"]) == (model["name"] in ("vgg", "resnet"))
    per_epoch = whole.steps_per_epoch
    for at in range(0, whole.total_steps, 2):
        resumed = Training(config)
        resumed.load_state_dict(interrupted(config, at))
        assert rest(resumed) == rows[at // per_epoch :], f"stopped after step {at}"
        assert outcome(resumed) == expected, f"stopped after step {at}"


def test_stopped_twice_in_one_epoch_keeps_that_epochs_metrics_whole(
    config_of: ConfigOf, outcome: Outcome
) -> None:
    config = config_of("set", method={"update_every": "3it"})
    whole = Training(config)
    rows = rest(whole)
    training = Training(config)
    for at in (2, 7, 8):

        def stop(step: int, at: int = at) -> None:
            if step == at:
                raise StopHere

        with pytest.raises(StopHere):
            training.run_epoch(stop)
        state = stored_and_read(training.state_dict())
        training = Training(config)
        training.load_state_dict(state)
    assert rest(training) == rows
    assert outcome(training) == outcome(whole)


def test_a_training_goes_on_where_on_step_stopped_it_without_any_state(
    config_of: ConfigOf, outcome: Outcome
) -> None:
    config = config_of("set")
    whole = Training(config)
    rows = rest(whole)
    training = Training(config)

    def stop(step: int) -> None:
        if step == 5:
            raise StopHere

    with pytest.raises(StopHere):
        training.run_epoch(stop)
    assert rest(training) == rows
    assert outcome(training) == outcome(whole)


def test_taking_a_state_changes_nothing_and_the_state_stays_as_it_was_taken(
    config_of: ConfigOf, outcome: Outcome
) -> None:
    config = config_of("set")
    watched, plain = Training(config), Training(config)
    states: list[dict[str, Any]] = []
    while not watched.finished:
        watched.run_epoch(lambda step: states.append(watched.state_dict()))
    rest(plain)
    assert outcome(watched) == outcome(plain)
    resumed = Training(config)
    resumed.load_state_dict(states[0])
    assert resumed.step == 1
    rest(resumed)
    assert outcome(resumed) == outcome(plain)


def test_the_state_of_another_trial_is_refused(config_of: ConfigOf) -> None:
    state = Training(config_of("set")).state_dict()
    with pytest.raises(InputError, match="another configuration"):
        Training(config_of("set", seeds={"data": 1})).load_state_dict(state)


def test_a_state_that_names_fewer_options_is_of_the_same_trial_when_they_are_at_their_default(
    config_of: ConfigOf,
) -> None:
    config = config_of("set")
    state = Training(config).state_dict()
    named = {**config, "method": {**config["method"], "decay": "constant", "drop": "by_sign"}}
    Training(named).load_state_dict(state)
    with pytest.raises(InputError, match="another configuration"):
        Training(config_of("set", method={"decay": "cosine"})).load_state_dict(state)
