"""Means over seeds and how sure they are."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from sweeps.readable import decimals

LEVEL = 0.95


class Interval(NamedTuple):
    """The mean of n values and its confidence interval, mean ± half; NaN where n leaves none."""

    n: int
    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def text(self, digits: int) -> str:
        """`96.54 ± 0.21`, or the mean alone where there is no interval."""
        known = f" ± {self.half:.{digits}f}" if math.isfinite(self.half) else ""
        return f"{decimals(self.mean, digits)}{known}"


def interval(values: Iterable[float]) -> Interval:
    """The mean and its 95% confidence interval by Student's t, t_{n-1} s / sqrt(n).

    Holds for values that are independent and about normally distributed, such as the accuracies of
    different seeds.

    >>> interval([1.0, 2.0, 3.0]).text(2)
    '2.00 ± 2.48'
    """
    array = np.array(list(values), dtype=np.float64)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    if n < 2:
        return Interval(n, mean, math.nan)
    t = float(stdtrit(n - 1, (1 + LEVEL) / 2))
    return Interval(n, mean, t * float(array.std(ddof=1)) / math.sqrt(n))
