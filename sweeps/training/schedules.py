"""When a topology is updated, and how much of it: two questions, no state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import Protocol


class Schedule(Protocol):
    """Two questions about a step, the number of optimiser steps done."""

    def due(self, step: int) -> bool:
        """Is an update due after ``step`` steps? It is made before step + 1, if there is one."""
        ...

    def fraction(self, step: int) -> float:
        """How much of the topology the update changes, in [0, 1]."""
        ...


@dataclass(frozen=True)
class Never:
    """A topology that stays as it is."""

    def due(self, step: int) -> bool:
        return False

    def fraction(self, step: int) -> float:
        return 0.0


def constant(progress: float) -> float:
    """The same fraction each time (SET)."""
    return 1.0


def cosine(progress: float) -> float:
    """(1 + cos(pi t / T_end)) / 2: from all to nothing (Dettmers and Zettlemoyer 2019; RigL)."""
    return (1 + cos(pi * progress)) / 2


def linear(progress: float) -> float:
    """1 - t / T_end."""
    return 1 - progress


DECAYS: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "linear": linear,
}


@dataclass(frozen=True)
class Periodic:
    """Due at every multiple of ``interval`` steps between 0 and ``end``, both excluded.

    The fraction is ``drop_fraction`` times the decay of t / T_end, with T_end = ``end``. The update
    that would be due at the very end of training has no step after it and is never made.

    >>> schedule = Periodic(interval=100, drop_fraction=0.3, end=300)
    >>> [step for step in range(301) if schedule.due(step)]
    [100, 200]
    >>> round(Periodic(100, 0.3, 300, cosine).fraction(150), 3)
    0.15
    """

    interval: int
    drop_fraction: float
    end: int
    decay: Callable[[float], float] = constant

    def due(self, step: int) -> bool:
        return 0 < step < self.end and step % self.interval == 0

    def fraction(self, step: int) -> float:
        return self.drop_fraction * self.decay(step / self.end)


@dataclass(frozen=True)
class Gradual:
    """Pruning by a cubic law: the share of what is to go that has gone by then.

    1 - (1 - (t - t_0) / (T - t_0))^3 between ``begin`` = t_0 and ``end`` = T (Zhu and Gupta 2018,
    eq. 1, with s = s_i + (s_f - s_i) * fraction), each ``interval`` steps and at the end itself.

    >>> schedule = Gradual(interval=10, begin=0, end=25)
    >>> [step for step in range(40) if schedule.due(step)]
    [10, 20, 25]
    >>> schedule.fraction(25)
    1.0
    """

    interval: int
    begin: int
    end: int

    def due(self, step: int) -> bool:
        if not self.begin < step <= self.end:
            return False
        return step == self.end or (step - self.begin) % self.interval == 0

    def fraction(self, step: int) -> float:
        left = 1 - (step - self.begin) / (self.end - self.begin)
        return float(1 - left**3)


@dataclass(frozen=True)
class Rounds:
    """Due at the end of each of ``rounds`` equally long rounds of ``length`` steps.

    ``fraction`` is the share of all rounds that are over.
    """

    length: int
    rounds: int

    def due(self, step: int) -> bool:
        return 0 < step <= self.length * self.rounds and step % self.length == 0

    def fraction(self, step: int) -> float:
        return step // self.length / self.rounds
