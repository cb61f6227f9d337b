"""Learning rates against torch's schedulers, which step an optimiser."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from storage.errors import InputError
from sweeps.training import Training, check_training, load_dataset
from sweeps.training.data import DigitsSettings
from sweeps.training.learning_rates import LearningRates, RateSettings

Config = dict[str, Any]
PER_EPOCH, TOTAL, LR = 7, 91, 0.3


def ours(**settings: Any) -> list[float]:
    rates = LearningRates(RateSettings(lr=LR, **settings), PER_EPOCH, TOTAL)
    return [rates.at(step) for step in range(TOTAL)]


def by_torch(make: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warmed_up(steps: int) -> Callable[[torch.optim.Optimizer], Any]:
    return lambda o: lr_scheduler.LinearLR(o, 1 / steps, 1.0, total_iters=steps - 1)


def in_turn(*parts: tuple[int, Callable[[torch.optim.Optimizer], Any]]) -> Any:
    return lambda o: lr_scheduler.SequentialLR(
        o, [make(o) for _, make in parts], [steps for steps, _ in parts[:-1]]
    )


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
        ({"lr_schedule": "step"}, lambda o: lr_scheduler.MultiStepLR(o, [46, 68], 0.1)),
        ({"lr_schedule": "step", "milestones": ["50it", 0.2, "3ep"], "gamma": 0.5},
         lambda o: lr_scheduler.MultiStepLR(o, [18, 21, 50], 0.5)),
        ({"lr_schedule": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL)),
        ({"lr_schedule": "cosine", "final_fraction": 0.1},
         lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1 * LR)),
        ({"lr_schedule": "one_cycle", "final_fraction": 4e-6},
         lambda o: lr_scheduler.OneCycleLR(o, LR, TOTAL + 1, cycle_momentum=False)),
        ({"lr_schedule": "one_cycle", "peak_at": 0.6, "final_fraction": 0.004},
         lambda o: lr_scheduler.OneCycleLR(o, LR, TOTAL + 1, pct_start=0.6, final_div_factor=10,
                                           cycle_momentum=False)),
        ({"warmup": "10it"}, warmed_up(10)),
        ({"warmup": "2ep", "lr_schedule": "cosine"},
         in_turn((14, warmed_up(14)), (77, lambda o: lr_scheduler.CosineAnnealingLR(o, 77)))),
    ],
)  # fmt: skip
def test_every_rate_is_torchs(settings: dict[str, Any], theirs: Any) -> None:
    if settings.get("lr_schedule") == "one_cycle":
        # torch refuses a step after the last: its cycle is given one more, and we the same.
        rates = LearningRates(RateSettings(lr=LR, **settings), PER_EPOCH, TOTAL + 1)
        got = [rates.at(step) for step in range(TOTAL)]
    else:
        got = ours(**settings)
    np.testing.assert_allclose(got, by_torch(theirs), rtol=1e-9, atol=1e-15)


@given(
    st.sampled_from(["constant", "step", "cosine", "one_cycle"]),
    st.integers(1, 300),
    st.integers(0, 299),
    st.floats(0.01, 0.99),
    st.floats(0, 0.99),
)
def test_rates_stay_between_zero_and_the_peak_and_rise_only_where_they_should(
    schedule: str, total: int, warmup: int, at: float, final: float
) -> None:
    warmup = min(warmup, total - 1)
    settings = RateSettings.model_validate({
        "lr": LR, "lr_schedule": schedule, "peak_at": at, "final_fraction": final,
        "milestones": [at], "warmup": f"{warmup}it" if warmup else None,
    })  # fmt: skip
    rates = LearningRates(settings, steps_per_epoch=1, total_steps=total)
    values = np.array([rates.at(step) for step in range(total + 5)])
    assert (values >= 0).all()
    assert (values <= LR * (1 + 1e-12)).all()
    assert values[0] > 0 or total - warmup <= 1  # a cycle of one step is its end
    rising = np.flatnonzero(np.diff(values) > 1e-12)
    up = warmup + (at * (total - warmup) if schedule == "one_cycle" else 0)
    assert (rising <= max(up, warmup)).all()


def test_without_a_warm_up_the_constant_schedule_is_the_rate_itself() -> None:
    assert set(ours()) == {LR}


def test_settings_of_other_schedules_are_no_part_of_a_configuration() -> None:
    kept = {
        schedule: set(RateSettings(lr_schedule=schedule).resolved()) - {"lr", "lr_schedule"}
        for schedule in ("constant", "step", "cosine", "one_cycle")
    }
    assert kept == {
        "constant": set(),
        "step": {"milestones", "gamma"},
        "cosine": {"final_fraction"},
        "one_cycle": {"final_fraction", "peak_at"},
    }
    assert RateSettings(warmup="02ep").resolved()["warmup"] == "2ep"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"lr_schedule": "cosin"}, "optimizer.lr_schedule: 'cosin' is not allowed"),
        ({"lr_schedule": "step", "milestones": []}, "optimizer.milestones: [] is not allowed"),
        ({"milestones": 0.5}, "optimizer.milestones: 0.5 is not allowed: should be a valid list"),
        ({"milestones": [0.5, 30]}, "optimizer.milestones: [0.5, 30] is not allowed: 30 should be "
         "a fraction of the training, above 0 and below 1, or a duration"),
        ({"milestones": ["soon"]}, "optimizer.milestones: ['soon'] is not allowed: 'soon' is no "),
        ({"milestones": [None]}, "optimizer.milestones: [None] is not allowed: None should be"),
        ({"lr_schedule": "step", "milestones": ["4ep"]},
         "optimizer.milestones: 4ep is not allowed: the schedule lasts 39it"),
        ({"gamma": 1}, "optimizer.gamma: 1 is not allowed"),
        ({"final_fraction": -0.1}, "optimizer.final_fraction: -0.1 is not allowed"),
        ({"peak_at": 1.0}, "optimizer.peak_at: 1.0 is not allowed"),
        ({"warmup": "long"}, "optimizer.warmup: 'long' is no duration"),
        ({"warmup": "3ep"}, "optimizer.warmup: 3ep is not allowed: the schedule lasts 39it"),
    ],
)  # fmt: skip
def test_a_wrong_value_costs_one_line(
    config_of: Callable[..., Config], values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_training(config_of(optimizer=values), load_dataset(DigitsSettings()))
    assert str(caught.value).startswith(expected)


def test_the_metric_is_the_rate_of_the_epochs_last_step(config_of: Callable[..., Config]) -> None:
    config = config_of("set", optimizer={"lr_schedule": "cosine", "warmup": "1ep"})
    training = Training(config)
    got = [training.run_epoch()["learning_rate"] for _ in range(3)]
    rates = by_torch_cosine(training.steps_per_epoch, 3, 0.05)
    np.testing.assert_allclose(got, rates, rtol=1e-9)


def test_each_round_of_lottery_goes_back_to_the_rate_of_the_step_rewound_to(
    config_of: Callable[..., Config],
) -> None:
    config = config_of("lottery", method={"rounds": 2, "rewind_to": "3it"}, epochs=6)
    config["optimizer"] |= {"lr_schedule": "cosine", "lr": LR}
    training = Training(config)
    seen = []
    step = training.optimizer.step

    def watched(number: int, lr: float) -> None:
        seen.append((number, lr))
        step(number, lr)

    training.optimizer.step = watched
    while not training.finished:
        training.run_epoch()
    length = 2 * training.steps_per_epoch
    first = LearningRates(RateSettings(lr=LR, lr_schedule="cosine"), 1, length)
    own = [first.at(step) for step in range(length)]
    again = [first.at(3 + step) for step in range(length)]  # the last three are the final rate
    assert [lr for _, lr in seen] == own + again + again
    assert [number for number, _ in seen] == 3 * list(range(1, length + 1))


def by_torch_cosine(steps: int, epochs: int, lr: float) -> list[float]:
    """Rates at the ends of epochs: one of warm-up, then half a cosine."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = in_turn(
        (steps, warmed_up(steps)),
        (steps, lambda o: lr_scheduler.CosineAnnealingLR(o, steps * (epochs - 1))),
    )(optimizer)
    rates = []
    for _ in range(steps * epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates[steps - 1 :: steps]
