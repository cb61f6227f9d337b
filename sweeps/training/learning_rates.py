"""The learning rate of every step: pure functions of the step, so nothing of it is ever stored.

Each schedule gives a share of the peak, `lr`; `step` is the number of steps done before.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from storage.durations import Duration, parse_duration
from storage.errors import InputError
from sweeps.training.settings import Settings

Rate = Annotated[float, Field(gt=0)]

ONE_CYCLE_START = 1 / 25  # of the peak: what fastai and torch's OneCycleLR begin with

_USED = {
    "constant": frozenset[str](),
    "step": frozenset({"milestones", "gamma"}),
    "cosine": frozenset({"final_fraction"}),
    "one_cycle": frozenset({"final_fraction", "peak_at"}),
}


class RateSettings(Settings):
    """The learning rate over the training.

    ``lr`` is its peak. ``lr_schedule``: ``constant``; ``step``, times ``gamma`` at each of the
    ``milestones``, which are fractions of the training (0.5) or durations from its start (``30ep``,
    ``500it``); ``cosine``, half a cosine from ``lr`` to ``final_fraction`` of it; ``one_cycle``, up
    from lr / 25 until ``peak_at`` of the training and down to ``final_fraction``, in half cosines
    (momentum stays as it is). ``warmup`` (``1ep`` or ``100it``): the rate first grows in a line
    from 0 to where its schedule begins; cosine and one_cycle have the rest of the training.
    """

    lr: Rate = 0.05
    lr_schedule: Literal["constant", "step", "cosine", "one_cycle"] = "constant"
    milestones: list[float | str] = Field(default=[0.5, 0.75], min_length=1)
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    final_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    peak_at: Annotated[float, Field(gt=0, lt=1)] = 0.3
    warmup: str | None = None

    @field_validator("milestones", mode="before")
    @classmethod
    def _are_moments(cls, values: Any) -> Any:
        if not isinstance(values, list):
            return values  # refused by its type
        return [_checked_milestone(value) for value in values]

    @field_validator("warmup")
    @classmethod
    def _is_a_duration(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(parse_duration(value))
        except InputError as error:
            raise ValueError(str(error)) from None

    def unused(self) -> frozenset[str]:
        """The fields of other schedules, and a warm-up that is not there."""
        unused = frozenset[str]().union(*_USED.values()) - _USED[self.lr_schedule]
        warmup = {"warmup"} if self.warmup is None else set()
        return super().unused() | unused | warmup


@dataclass(frozen=True)
class LearningRates:
    """The learning rate of each step of one training.

    Args:
        settings: what the study says.
        steps_per_epoch: of the training.
        total_steps: that the schedule spans: the training as it was planned, even if it ends early,
            or one round of a method that trains in rounds.

    Raises:
        InputError: the warm-up takes all of the training, or a milestone lies beyond it.
    """

    settings: RateSettings
    steps_per_epoch: int
    total_steps: int

    def __post_init__(self) -> None:
        lasts = f"the schedule lasts {self.total_steps}it"
        warmup = self.settings.warmup
        if warmup is not None and self._warmup >= self.total_steps:
            raise InputError(f"optimizer.warmup: {warmup} is not allowed: {lasts}")
        if self.settings.lr_schedule == "step":
            milestones = zip(self.settings.milestones, self._milestones, strict=True)
            for milestone, step in milestones:
                if step > self.total_steps:
                    raise InputError(f"optimizer.milestones: {milestone} is not allowed: {lasts}")

    def at(self, step: int) -> float:
        """The learning rate of the step that follows ``step`` steps.

        >>> rates = LearningRates(RateSettings(lr=0.1, warmup="2it"), 10, total_steps=40)
        >>> [rates.at(step) for step in range(4)]
        [0.05, 0.1, 0.1, 0.1]
        """
        settings, total = self.settings, self.total_steps
        since = max(step - self._warmup, 0)
        left = total - self._warmup
        share = 1.0
        if settings.lr_schedule == "step":
            share = step_decay(step, self._milestones, settings.gamma)
        elif settings.lr_schedule == "cosine":
            share = cosine(since, left, settings.final_fraction)
        elif settings.lr_schedule == "one_cycle":
            share = one_cycle(since, left, settings.peak_at, settings.final_fraction)
        return settings.lr * warm_up(step, self._warmup) * share

    @cached_property
    def _warmup(self) -> int:
        text = self.settings.warmup
        return 0 if text is None else parse_duration(text).steps(self.steps_per_epoch)

    @cached_property
    def _milestones(self) -> list[int]:
        moments = [_moment(milestone) for milestone in self.settings.milestones]
        return sorted(
            round(moment * self.total_steps)
            if isinstance(moment, float)
            else moment.steps(self.steps_per_epoch)
            for moment in moments
        )


def warm_up(step: int, steps: int) -> float:
    """(step + 1) / steps until that is 1 (Goyal et al. 2017, section 2.2): a line from 0, which no
    step is made with, since it would change nothing. Without ``steps`` always 1.

    >>> [warm_up(step, 4) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    return min((step + 1) / steps, 1.0) if steps else 1.0


def step_decay(step: int, milestones: Sequence[int], gamma: float) -> float:
    """gamma^k after k of the ``milestones``, steps in ascending order.

    >>> [step_decay(step, [2, 3], 0.5) for step in range(5)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """
    return float(gamma ** bisect_right(milestones, step))


def cosine(step: int, total: int, final: float) -> float:
    """final + (1 - final) / 2 (1 + cos(pi step / total)): SGDR without restarts (Loshchilov and
    Hutter 2017, eq. 5). ``final`` is reached after the last step, and stays.

    >>> [round(cosine(step, 4, 0.0), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    return _between(1.0, final, min(step / total, 1.0))


def one_cycle(step: int, total: int, peak_at: float, final: float) -> float:
    """Up from ``ONE_CYCLE_START`` to 1 and down to ``final``, in half cosines: the 1cycle policy
    (Smith and Topin 2018) in fastai's form, without its cycle of the momentum.

    The peak is at step peak_at * total - 1 and ``final`` at step total - 1, the last one, as in
    torch's OneCycleLR; where that puts the peak before the first step, the way down is all there
    is.

    >>> [round(one_cycle(step, 6, peak_at=0.5, final=0.0), 3) for step in range(6)]
    [0.04, 0.52, 1.0, 0.75, 0.25, 0.0]
    """
    peak, last = peak_at * total - 1, total - 1
    if step < peak:
        return _between(ONE_CYCLE_START, 1.0, step / peak)
    return _between(1.0, final, min((step - peak) / (last - peak), 1.0))


def _between(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` (progress 0) to ``end`` (progress 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


def _moment(milestone: float | str) -> float | Duration:
    return parse_duration(milestone) if isinstance(milestone, str) else float(milestone)


def _checked_milestone(value: Any) -> float | str:
    allowed = "a fraction of the training, above 0 and below 1, or a duration like 30ep or 500it"
    if isinstance(value, str):
        try:
            return str(parse_duration(value))
        except InputError as error:
            raise ValueError(str(error)) from None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise ValueError(f"{value!r:.40} should be {allowed}")
    return float(value)
