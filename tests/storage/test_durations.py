from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import InputError
from storage.durations import Duration, parse_duration


@settings(deadline=None)
@given(st.integers(1, 10**12 - 1), st.sampled_from(["ep", "it"]), st.integers(1, 10**6))
def test_text_round_trips_and_steps_multiply_epochs(count, unit, steps_per_epoch):
    duration = parse_duration(f" {count}{unit} ")
    assert duration == Duration(count, unit)
    assert str(duration) == f"{count}{unit}"
    assert duration.steps(steps_per_epoch) == (count * steps_per_epoch if unit == "ep" else count)


@pytest.mark.parametrize(
    "wrong", ["", "5", "ep", "5 ep", "-1ep", "1.5ep", "5epit", "٣ep", 5, None, ["5ep"]]
)
def test_what_is_no_duration_is_quoted(wrong):
    with pytest.raises(InputError) as error:
        parse_duration(wrong)
    assert repr(wrong) in str(error.value)
    assert "5ep" in str(error.value)


def test_zero_is_a_step_but_no_interval():
    with pytest.raises(InputError, match="at least 1it"):
        parse_duration("0it")
    assert parse_duration("0ep", minimum=0).steps(10) == 0


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text):
    with suppress(InputError):
        assert str(parse_duration(text)).lstrip("0") in text
