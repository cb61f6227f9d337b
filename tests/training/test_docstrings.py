"""Examples in docstrings run as written."""

import doctest

import pytest

from sweeps.training import distributions, learning_rates, schedules


@pytest.mark.parametrize("module", [distributions, learning_rates, schedules])
def test_docstring_examples_give_what_they_show(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0
