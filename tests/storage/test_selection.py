from itertools import pairwise

import numpy as np
import pytest
from snapshots import trial

from storage import InputError, LayerMask, MaskStore
from storage.durations import Duration
from storage.records import TrialRecord, write_record
from storage.selection import Steps, parse_steps, select_snapshots

STEPS_PER_EPOCH = 10


def add(store, number, config, steps, sizes=(6, 5, 3), dense=False, record=True):
    """A trial with a snapshot at each of the steps."""
    for step in steps:
        rng = np.random.default_rng([number, step])
        layers = [
            LayerMask(
                f"l{n}",
                np.ones((n_out, n_in), dtype=np.bool_)
                if dense
                else rng.random((n_out, n_in)) < 0.5,
                "output" if n == len(sizes) - 2 else "hidden",
            )
            for n, (n_in, n_out) in enumerate(pairwise(sizes))
        ]
        store.append(trial(number), "s", step, step // STEPS_PER_EPOCH, 1, layers)
    if record:
        own = TrialRecord(trial(number), "s", config, "completed", STEPS_PER_EPOCH, 30)
        write_record(store.out, own)


@pytest.fixture
def store(tmp_path):
    store = MaskStore(tmp_path)
    add(store, 9, {"method": {"name": "set", "density": 0.05}, "seed": 1}, (0, 10, 30))
    add(store, 8, {"method": {"name": "set", "density": 0.2}, "seed": 0}, (0, 30))
    add(store, 7, {"method": {"name": "set", "density": 0.05}, "seed": 0}, (0, 10, 20))
    add(store, 1, {"method": {"name": "dense"}, "seed": 0}, (0, 30), dense=True)
    return store


def chosen(table):
    return [(int(key, 16), step) for key, step in zip(table.trial_id, table.step, strict=True)]


def test_the_last_snapshots_come_by_configuration_then_trial(store):
    table = select_snapshots(store.index())
    assert chosen(table) == [(7, 20), (9, 30), (8, 30)]
    assert list(table.columns) == [
        "trial_id", "step", "epoch", "group", "method_name", "method_density", "seed",
        "steps_per_epoch", "total_steps",
    ]  # fmt: skip
    assert table.epoch.tolist() == [2, 3, 3]
    assert table.method_density.tolist() == [0.05, 0.05, 0.2]
    assert table.index.tolist() == [0, 1, 2]


def test_the_order_does_not_follow_the_index(store):
    index = store.index()
    for seed in range(5):
        shuffled = select_snapshots(index.sample(frac=1, random_state=seed), "all")
        assert shuffled.equals(select_snapshots(index, "all"))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("first", [(7, 0), (9, 0), (8, 0)]),
        ("all", [(7, 0), (7, 10), (7, 20), (9, 0), (9, 10), (9, 30), (8, 0), (8, 30)]),
        ("1ep", [(7, 10), (9, 10)]),
        ("10it", [(7, 10), (9, 10)]),
        ("0ep, 3ep", [(7, 0), (9, 0), (9, 30), (8, 0), (8, 30)]),
        (["0it", "last"], [(7, 0), (7, 20), (9, 0), (9, 30), (8, 0), (8, 30)]),
        (Steps(("last",)), [(7, 20), (9, 30), (8, 30)]),
    ],
)
def test_steps_are_chosen_in_each_trial(store, steps, expected):
    assert chosen(select_snapshots(store.index(), steps)) == expected


def test_the_condition_comes_before_the_steps(store):
    table = select_snapshots(store.index(), "last", "step < 30 and method_density < 0.1")
    assert chosen(table) == [(7, 20), (9, 10)]


def test_dense_networks_stay_out_unless_asked_for(store):
    index = store.index()
    assert chosen(select_snapshots(index, include_dense=True))[0] == (1, 30)
    with pytest.raises(InputError, match="dense everywhere, which stay out unless include_dense"):
        select_snapshots(index, where="method_name == 'dense'")
    assert chosen(select_snapshots(index, where="method_name == 'dense'", include_dense=True))


def test_a_network_that_was_sparse_once_is_not_dense_everywhere(tmp_path):
    store = MaskStore(tmp_path)
    add(store, 1, {"seed": 0}, (0,), dense=False)
    add(store, 1, {"seed": 0}, (10,), dense=True)
    assert chosen(select_snapshots(store.index())) == [(1, 10)]


def test_snapshots_that_cannot_be_compared_form_groups_numbered_as_they_appear(tmp_path):
    store = MaskStore(tmp_path)
    add(store, 1, {"seed": 3}, (0,), sizes=(6, 5, 3))
    add(store, 2, {"seed": 2}, (0,), sizes=(6, 5, 5, 3))
    add(store, 3, {"seed": 1}, (0,), sizes=(6, 5, 3))
    add(store, 4, {"seed": 0}, (0,), sizes=(6, 4, 3))
    table = select_snapshots(store.index())
    assert chosen(table) == [(4, 0), (3, 0), (2, 0), (1, 0)]
    assert table.group.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(("role", "in_group"), [("hidden", 1), ("output", 3)])
def test_role_and_in_group_tell_groups_apart(tmp_path, role, in_group):
    store = MaskStore(tmp_path)
    mask = np.eye(3, 6, dtype=np.bool_)
    store.append(trial(1), "s", 0, 0, 1, [LayerMask("a", mask, "output")])
    store.append(trial(2), "s", 0, 0, 1, [LayerMask("a", mask, role, in_group)])
    assert select_snapshots(store.index()).group.tolist() == [0, 1]


def test_masks_without_a_record_are_found_by_their_epoch(tmp_path):
    store = MaskStore(tmp_path)
    add(store, 1, {}, (0, 10, 20), record=False)
    assert chosen(select_snapshots(store.index(), "1ep")) == [(1, 10)]
    add(store, 2, {"seed": 0}, (0, 10, 20))
    assert chosen(select_snapshots(store.index(), "1ep")) == [(2, 10), (1, 10)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"where": "seed == 7"}, "of 10 snapshots of 4 trials, where 'seed == 7' leaves 0"),
        ({"steps": "7ep"}, r"steps '7ep' leave 0: there are the steps 0, 10, 20, 30"),
        ({"where": "seed == 1", "steps": "2ep"}, "leaves 3, steps '2ep' leave 0"),
    ],
)
def test_an_empty_selection_says_why(store, arguments, why):
    with pytest.raises(InputError, match=why):
        select_snapshots(store.index(), **arguments)


def test_a_run_without_snapshots_says_so(tmp_path):
    with pytest.raises(InputError, match="the run holds none"):
        select_snapshots(MaskStore(tmp_path).index(), where="seed == 1")


def test_steps_are_read_and_printed():
    assert parse_steps("0ep, 10ep,500it").items == (
        Duration(0, "ep"), Duration(10, "ep"), Duration(500, "it"),
    )  # fmt: skip
    assert str(parse_steps(["last", "5ep"])) == "last,5ep"


@pytest.mark.parametrize("wrong", ["", "lst", "10", "ep", "1ep,,2ep", [], [3], None, 3, {"a": 1}])
def test_what_are_no_steps_is_quoted(wrong):
    with pytest.raises(InputError, match="step"):
        parse_steps(wrong)
