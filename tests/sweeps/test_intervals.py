import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sweeps.intervals import interval
from sweeps.readable import readable_count


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_an_interval_is_students_t_of_the_mean(values: list[float]) -> None:
    found = interval(values)
    error = float(scipy.stats.sem(values))
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    if error > 1e-9:
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert interval([3.25]).text(1) == "3.2"
    assert math.isnan(interval([3.0]).half)
    assert interval([]).n == 0
    assert math.isnan(interval([]).mean)


def test_95_of_100_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(0)
    held = sum(abs(found.mean - 5) <= found.half
               for found in (interval(rng.normal(5, 2, 4)) for _ in range(4000)))  # fmt: skip
    assert held / 4000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (950, "950"), (3142, "3.14 k"), (999_600, "1 M"), (2.4e7, "24 M"), (1.8e9, "1.8 G"),
     (5.25e13, "52.5 T"), (2e16, "20 P")],
)  # fmt: skip
def test_counts_are_readable(count: float, text: str) -> None:
    assert readable_count(count) == text
