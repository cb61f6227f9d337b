"""When a topology is updated, and how much of it: two questions, no state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """Two questions about a step, the number of optimiser steps done."""

    def due(self, step: int) -> bool:
        """Is an update due after ``step`` steps? It is made before step + 1, if there is one."""
        ...

    def fraction(self, step: int) -> float:
        """The fraction of the connections to drop then, in (0, 1)."""
        ...


@dataclass(frozen=True)
class Never:
    """A topology that stays as it is."""

    def due(self, step: int) -> bool:
        return False

    def fraction(self, step: int) -> float:
        return 0.0


@dataclass(frozen=True)
class Periodic:
    """The same fraction each time: due at every multiple of ``interval`` steps but step 0.

    The update that is due at the very end of training has no step after it and is never made.

    >>> schedule = Periodic(interval=100, drop_fraction=0.3)
    >>> [step for step in range(301) if schedule.due(step)]
    [100, 200, 300]
    """

    interval: int
    drop_fraction: float

    def due(self, step: int) -> bool:
        return step > 0 and step % self.interval == 0

    def fraction(self, step: int) -> float:
        return self.drop_fraction
