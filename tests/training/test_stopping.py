"""Early stopping: when it ends a training, and that an interruption does not move that."""

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InputError
from sweeps.training import Training, check_training, load_dataset
from sweeps.training.data import DigitsSettings
from sweeps.training.stopping import EarlyStopping, PatienceSettings

Config = dict[str, Any]
ConfigOf = Callable[..., Config]
Outcome = Callable[[Training], dict[str, Any]]


def stops_after(values: Sequence[float], patience: int, metric: str) -> int | None:
    """The first epoch with ``patience`` epochs behind it, itself among them, none of which is
    better than the best before those."""
    sign = -1 if metric == "validation_loss" else 1
    for epoch in range(patience + 1, len(values) + 1):
        before, latest = values[: epoch - patience], values[epoch - patience : epoch]
        if max(sign * value for value in latest) <= max(sign * value for value in before):
            return epoch
    return None


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=20),
    st.integers(1, 5),
    st.sampled_from(["validation_loss", "validation_accuracy"]),
)
def test_it_ends_when_nothing_better_came_for_that_many_epochs(
    values: list[float], patience: int, metric: str
) -> None:
    stopping = EarlyStopping(
        PatienceSettings.model_validate({"patience": patience, "patience_metric": metric}), 100
    )
    ended = None
    for epoch, value in enumerate(values, start=1):
        other = {"validation_loss": 0.5, "validation_accuracy": 0.5}
        stopping.note({**other, metric: value})
        if stopping.ended:
            ended = epoch
            break
    assert ended == stops_after(values, patience, metric)


def test_without_patience_nothing_ends() -> None:
    stopping = EarlyStopping(PatienceSettings(), 0)
    for _ in range(50):
        stopping.note({})
    assert not stopping.ended
    assert PatienceSettings().resolved() == {}


def test_it_needs_a_validation_split(config_of: ConfigOf) -> None:
    config = config_of("set", data={"validation": 0.0}, optimizer={"patience": 3})
    expected = r"^optimizer\.patience: 3 is not allowed: it needs a validation split"
    with pytest.raises(InputError, match=expected):
        check_training(config, load_dataset(DigitsSettings()))
    with pytest.raises(InputError, match=expected):
        Training(config)


def test_it_would_end_a_method_of_rounds_before_its_last_one(config_of: ConfigOf) -> None:
    config = config_of("lottery", method={"rounds": 2}, optimizer={"patience": 3})
    with pytest.raises(InputError, match=r"^optimizer\.patience: 3 is not allowed with a method"):
        check_training(config, load_dataset(DigitsSettings()))


def stopping_early(config_of: ConfigOf) -> Config:
    options = {"lr": 0.5, "batch_size": 200, "patience": 2, "lr_schedule": "cosine"}
    return config_of("set", optimizer=options, epochs=30)


def rest(training: Training) -> list[dict[str, float]]:
    rows = []
    while not training.finished:
        rows.append(training.run_epoch())
        del rows[-1]["seconds"]
    return rows


def test_the_training_ends_at_the_epoch_that_its_metrics_say(config_of: ConfigOf) -> None:
    training = Training(stopping_early(config_of))
    rows = rest(training)
    losses = [row["validation_loss"] for row in rows]
    assert stops_after(losses, 2, "validation_loss") == len(rows) == training.epoch < 30
    assert training.step < training.total_steps
    with pytest.raises(ValueError, match="steps are done"):
        training.run_epoch()


class StopHere(Exception):
    pass


def test_interrupted_after_any_step_it_ends_at_the_same_epoch(
    config_of: ConfigOf, outcome: Outcome
) -> None:
    config = stopping_early(config_of)
    whole = Training(config)
    rows = rest(whole)
    expected = outcome(whole)
    for at in range(1, whole.step + 1):
        training = Training(config)
        buffer = io.BytesIO()

        def stop(step: int, training: Training = training, at: int = at) -> None:
            if step == at:
                torch.save(training.state_dict(), buffer)  # noqa: B023
                raise StopHere

        with suppress(StopHere):
            while not training.finished:
                training.run_epoch(stop)
        buffer.seek(0)
        resumed = Training(config)
        resumed.load_state_dict(torch.load(buffer, weights_only=True))
        assert rest(resumed) == rows[at // whole.steps_per_epoch :], f"stopped after step {at}"
        assert outcome(resumed) == expected
    finished = Training(config)
    finished.load_state_dict(whole.state_dict())
    assert finished.finished
