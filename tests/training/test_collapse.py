"""A training that falls apart fails with its reason; one that does not is left alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweeps.training import Training, TrainingFailed
from sweeps.training.collapse import EPOCHS, Collapse

Config = dict[str, Any]
ConfigOf = Callable[..., Config]

TEN = np.repeat(np.arange(10), 100)


def one(labels: np.ndarray, accuracies: list[float], whole: bool = False) -> int | None:
    """The epoch at which a training with these training accuracies is given up; ``whole``: there
    are no epochs after them."""
    collapse = Collapse({"train_accuracy": labels})
    for epoch, accuracy in enumerate(accuracies, start=1):
        ended = whole and epoch == len(accuracies)
        if collapse.note({"train_accuracy": accuracy}, epoch, ended):
            return epoch
    return None


@pytest.mark.parametrize("chance", [0.1, 0.07, 0.14])
def test_chance_level_for_some_epochs_in_a_row_after_having_learned_is_a_collapse(
    chance: float,
) -> None:
    assert one(TEN, [0.5, 0.9] + 20 * [chance]) == 2 + EPOCHS


@pytest.mark.parametrize(
    "accuracies",
    [
        30 * [0.1],  # never learned
        [0.3, 0.1] * 10,  # never far above chance
        [0.9] + 20 * [0.2],  # forgot most, not all
        ([0.9] + (EPOCHS - 1) * [0.1]) * 5,  # comes back each time
        [0.9] + (EPOCHS - 1) * [0.1],  # not yet
    ],
)
def test_what_is_no_collapse(accuracies: list[float]) -> None:
    assert one(TEN, accuracies) is None


def test_a_training_that_ends_at_chance_has_collapsed_however_late() -> None:
    assert one(TEN, [0.5, 0.9, 0.1], whole=True) == 3
    assert one(TEN, [0.1, 0.1, 0.1], whole=True) is None
    assert one(TEN, [0.5, 0.9, 0.2], whole=True) is None


def test_chance_is_the_share_of_the_largest_class() -> None:
    unequal = np.repeat([0, 1], [800, 200])
    assert one(unequal, [0.79] + 20 * [0.5]) is None  # 79% is below chance here
    assert one(unequal, [0.9] + 20 * [0.8]) == 1 + EPOCHS


def test_few_samples_are_no_evidence() -> None:
    assert one(np.repeat([0, 1], 5), [1.0] + 20 * [0.5]) is None
    assert one(np.zeros(1000, dtype=int), [1.0] + 20 * [1.0]) is None


def both(train: list[float], validation: list[float], ended: bool = False) -> str | None:
    collapse = Collapse({"train_accuracy": TEN, "validation_accuracy": TEN})
    for epoch, (a, b) in enumerate(zip(train, validation, strict=True), start=1):
        last = ended and epoch == len(train)
        reason = collapse.note({"train_accuracy": a, "validation_accuracy": b}, epoch, last)
        if reason:
            return reason
    return None


def test_evaluation_alone_may_be_poor_for_a_while_but_not_at_the_end() -> None:
    train, poor = 11 * [0.9], [0.9] + 10 * [0.1]
    assert both(train, poor) is None
    reason = both(train, poor, ended=True)
    assert reason == (
        "accuracy fell to chance after 0.9 at epoch 1: train_accuracy is 0.9, "
        "validation_accuracy is 0.1"
    )
    assert both(train, 11 * [0.1], ended=True) is None  # it never was any better


def test_both_at_chance_is_a_collapse() -> None:
    assert both([0.9] + 9 * [0.1], [0.9] + 9 * [0.1]) is not None


def test_a_method_that_resets_its_weights_is_not_held_to_what_was_before() -> None:
    collapse = Collapse({"train_accuracy": TEN})
    for round_ in range(4):
        for epoch, accuracy in enumerate([0.1, 0.1, 0.1, 0.1, 0.3, 0.9, 0.9], start=7 * round_):
            assert collapse.note({"train_accuracy": accuracy}, epoch, ended=False) is None
        collapse.forget()
    assert collapse.note({"train_accuracy": 0.1}, 29, ended=True) is None


@given(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=1, max_size=25), st.data())
def test_a_state_goes_on_as_if_nothing_had_happened(
    accuracies: list[float], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(accuracies)))
    collapse = Collapse({"train_accuracy": TEN})
    ended = None
    for epoch, accuracy in enumerate(accuracies, start=1):
        if epoch - 1 == at:
            state = collapse.state_dict()
            collapse = Collapse({"train_accuracy": TEN})
            collapse.load_state_dict(state)
        if collapse.note({"train_accuracy": accuracy}, epoch, ended=False):
            ended = epoch
            break
    assert ended == one(TEN, accuracies)


def fall_apart(training: Training) -> None:
    """As a network does whose neurons all died: its scores are the same for every input."""
    training.parameters.values[: training.parameters.n_weights] = 0.0
    for slot in training.optimizer.slots.values():
        slot.zero_()


@pytest.mark.parametrize("method", ["dense", "static", "set"])
@pytest.mark.parametrize("validation", [0.0, 0.1])
def test_a_training_that_falls_apart_fails_and_says_when_and_from_where(
    config_of: ConfigOf, method: str, validation: float
) -> None:
    config = config_of(method, epochs=20, data={"validation": validation})
    training = Training(config)
    for _ in range(3):
        training.run_epoch()
    fall_apart(training)
    for _ in range(EPOCHS - 1):
        training.run_epoch()
    with pytest.raises(TrainingFailed) as caught:
        training.run_epoch()
    epoch, step = 3 + EPOCHS, (3 + EPOCHS) * training.steps_per_epoch
    assert str(caught.value).startswith("accuracy fell to chance after 0.")
    assert str(caught.value).endswith(f" at epoch {epoch}, step {step}")


def test_resumed_it_falls_apart_at_the_same_epoch(config_of: ConfigOf) -> None:
    config = config_of("set", epochs=20)
    reasons = []
    for interrupted in (False, True):
        training = Training(config)
        for _ in range(3):
            training.run_epoch()
        fall_apart(training)
        for _ in range(EPOCHS - 1):
            training.run_epoch()
            if interrupted:
                state = training.state_dict()
                training = Training(config)
                training.load_state_dict(state)
        with pytest.raises(TrainingFailed) as caught:
            training.run_epoch()
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]


def test_lottery_begins_anew_as_often_as_it_likes(config_of: ConfigOf) -> None:
    method = {"rounds": 2, "density": 0.5}
    training = Training(config_of("lottery", method=method, epochs=12))
    while not training.finished:
        training.run_epoch()
        if training.epoch in (4, 8):
            assert training.verdict.state_dict()["collapse"]["best"]
        if training.epoch in (5, 9):  # of one epoch only: rewound at its start
            assert all(
                best[1] == training.epoch
                for best in training.verdict.state_dict()["collapse"]["best"].values()
            )


def test_a_hopeless_training_is_not_a_collapse(config_of: ConfigOf) -> None:
    training = Training(config_of("set", optimizer={"lr": 1e-9}, epochs=2 * EPOCHS))
    while not training.finished:
        training.run_epoch()


def test_the_state_is_safe_to_store(config_of: ConfigOf, tmp_path: Any) -> None:
    training = Training(config_of("dense", epochs=4))
    for _ in range(3):
        training.run_epoch()
    torch.save(training.state_dict(), tmp_path / "state")
    read = torch.load(tmp_path / "state", weights_only=True)
    assert read["verdict"] == training.state_dict()["verdict"]
    assert read["verdict"]["collapse"]["best"].keys() >= {"train_accuracy"}
