"""Calls side by side: each once, and none is left behind."""

import threading
from contextlib import closing

import pytest

from storage.parallel_calls import outcomes


@pytest.mark.parametrize("at_once", [1, 4])
def test_every_item_has_its_outcome(at_once: int) -> None:
    def halve(number: int) -> float:
        if number % 2:
            raise ValueError(number)
        return number / 2

    found = {item: (value, error) for item, value, error in outcomes(halve, range(50), at_once)}
    assert {item: value for item, (value, _) in found.items() if item % 2 == 0} == {
        number: number / 2 for number in range(0, 50, 2)
    }
    assert all(isinstance(found[number][1], ValueError) for number in range(1, 50, 2))
    assert list(outcomes(halve, [], at_once)) == []


def test_several_are_under_way_at_once() -> None:
    together = threading.Barrier(4)
    assert len(list(outcomes(lambda _: together.wait(timeout=30), range(4), at_once=4))) == 4
    assert not together.broken


@pytest.mark.parametrize("at_once", [1, 4])
def test_nothing_begins_after_a_stop_and_nothing_goes_on_after_the_end(at_once: int) -> None:
    stop, begun = threading.Event(), []

    def work(number: int) -> None:
        begun.append(number)
        if number == 10:
            stop.set()

    assert len(list(outcomes(work, range(100), at_once, stop))) == len(begun)
    assert 11 <= len(begun) < 11 + at_once
    begun.clear()
    with closing(outcomes(begun.append, range(1000), at_once)) as calls:
        next(calls)
    left = len(begun)
    assert left <= 1000
    assert not any(thread.name.startswith("call-") for thread in threading.enumerate())
    assert len(begun) == left
