from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import trial

from storage import InputError, MetricStore
from storage.attempts import claim_attempt
from storage.records import TrialRecord, write_record


@pytest.fixture
def store(tmp_path):
    return MetricStore(tmp_path)


def rows(*epochs, **more):
    return [{"epoch": e, "step": 10 * e, "train_loss": 1 / e, **more} for e in epochs]


def found(store):
    table = store.load()
    return list(zip(table.trial_id, table.epoch, table.attempt, strict=True))


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_come_back_in_order_with_new_metrics_as_new_columns(store, compacted):
    stored_at = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    store.append(trial(2), "tiny", 1, rows(1, 2))
    store.append(trial(1), "tiny", 1, rows(3, 2, 1, written_at=stored_at))
    store.append(trial(1), "tiny", 1, rows(4, test_loss=np.float32(0.5), density=None))
    if compacted:
        result = store.compact()
        assert (result.files, result.rows, result.corrupt) == (1, 6, [])
    table = store.load()
    assert list(zip(table.trial_id, table.epoch, strict=True)) == [
        (trial(1), 1), (trial(1), 2), (trial(1), 3), (trial(1), 4), (trial(2), 1), (trial(2), 2),
    ]  # fmt: skip
    np.testing.assert_array_equal(table.train_loss, [1, 1 / 2, 1 / 3, 1 / 4, 1, 1 / 2])
    np.testing.assert_array_equal(table.test_loss, [np.nan] * 3 + [0.5] + [np.nan] * 2)
    assert table.density.isna().all()
    assert (table.written_at[:3] == stored_at).all()
    assert table.written_at.notna().all()
    assert set(store.load([trial(2)]).trial_id) == {trial(2)}
    assert store.load([trial(3)]).empty
    assert store.verify() == []


def test_parts_with_other_columns_are_united(store):
    store.append(trial(1), "tiny", 1, rows(1, old=1))
    store.compact()
    store.append(trial(2), "tiny", 1, rows(1, new=2))
    store.compact()
    table = store.load()
    np.testing.assert_array_equal(table.old, [1, np.nan])
    np.testing.assert_array_equal(table.new, [np.nan, 2])
    assert store.verify() == []


def test_rows_appended_again_are_there_once(store):
    store.append(trial(1), "tiny", 1, rows(1, 2, 3))
    store.append(trial(1), "tiny", 1, rows(1, 2, 3))
    store.append(trial(1), "tiny", 1, rows(3))
    once = [(trial(1), epoch, 1) for epoch in (1, 2, 3)]
    assert found(store) == once
    assert store.usage()[0] == 1
    store.compact()
    store.append(trial(1), "tiny", 1, rows(2, 3))
    assert found(store) == once
    assert store.compact().rows == 3
    assert found(store) == once


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(1, 6), min_size=1, unique=True), min_size=1, max_size=5))
def test_no_append_takes_a_row_away(tmp_path_factory, flushes):
    """Whatever overlaps: every step that was ever appended is there, once."""
    store = MetricStore(tmp_path_factory.mktemp("out"))
    for number, epochs in enumerate(flushes):
        store.append(trial(1), "tiny", 1, rows(*epochs))
        if number == 2:
            store.compact()
    expected = sorted({epoch for epochs in flushes for epoch in epochs})
    assert [epoch for _, epoch, _ in found(store)] == expected


def test_a_later_attempt_fences_off_rows_inside_a_file(store):
    claim_attempt(store.out, trial(1), -1)
    store.append(trial(1), "tiny", 1, rows(1, 2, 3))
    claim_attempt(store.out, trial(1), 20)
    assert found(store) == [(trial(1), 1, 1), (trial(1), 2, 1)]
    store.append(trial(1), "tiny", 2, rows(3, 4))
    expected = [(trial(1), 1, 1), (trial(1), 2, 1), (trial(1), 3, 2), (trial(1), 4, 2)]
    assert found(store) == expected
    assert store.compact().rows == 4
    assert found(store) == expected


def test_the_configuration_can_stand_beside_the_metrics(store):
    store.append(trial(1), "tiny", 1, rows(1))
    write_record(store.out, TrialRecord(trial(1), "tiny", {"seed": 3}, "completed", 10, 10))
    assert store.load(with_config=True).seed.tolist() == [3]


def test_an_empty_store_loads_as_an_empty_table(store):
    assert store.load().empty
    assert list(store.load().columns) == [
        "study", "trial_id", "attempt", "epoch", "step", "written_at",
    ]  # fmt: skip
    assert store.append(trial(1), "tiny", 1, []) is None
    assert list(store.out.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([{"epoch": 1}], "step and epoch are needed"),
        ([*rows(1), *rows(1)], "two rows have the same step"),
        (rows(1, loss="low"), "a number is needed"),
        (rows(1, **{"a b": 1}), "is no name of a metric"),
        ([{"epoch": 1, "step": -1}], "step -1"),
    ],
)
def test_rows_that_cannot_be_right_are_refused_and_leave_nothing(store, wrong, why):
    with pytest.raises(InputError, match=why):
        store.append(trial(1), "tiny", 1, wrong)
    assert list(store.out.iterdir()) == []
