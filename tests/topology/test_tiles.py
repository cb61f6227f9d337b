import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology import tiles
from topology.comparison import Metric
from topology.tiles import Layer, Snapshot, plan_tiles


def _snapshot(number, group=0, reference=None, **changes):
    layer = {
        "name": "hidden",
        "n_out": 30,
        "n_in": 40,
        "role": "hidden",
        "in_group": 1,
        "nnz": 60,
        "crc32": number,
    }
    return Snapshot(f"{number:012x}", 0, group, (Layer(**layer | changes),), reference)


def _pairs(plan):
    for tile in plan.tiles:
        for x, y in tile.pairs().tolist():
            yield tile.first[x], tile.second[y]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=3))
def test_every_pair_of_a_group_is_in_exactly_one_tile(sizes):
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    plan = plan_tiles([_snapshot(k, group) for k, group in enumerate(groups)], Metric())
    expected = [
        (i, j) for i, j in itertools.combinations(range(len(groups)), 2) if groups[i] == groups[j]
    ]
    assert sorted(_pairs(plan)) == expected
    assert plan.n_pairs == len(expected)
    assert all(tile.n_pairs == len(tile.pairs()) > 0 for tile in plan.tiles)
    assert len({tile.name for tile in plan.tiles}) == len(plan.tiles)
    assert plan.group_sizes == tuple(sizes)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 39))
def test_each_snapshot_meets_its_reference_once_and_never_itself(trials, reference):
    snapshots, expected = [], []
    for size in trials:
        start = len(snapshots)
        chosen = start + min(reference, size - 1)
        snapshots += [_snapshot(start + k, reference=chosen) for k in range(size)]
        expected += [(start + k, chosen) for k in range(size) if start + k != chosen]
    assert sorted(_pairs(plan_tiles(snapshots, Metric()))) == sorted(expected)


def test_a_snapshot_that_only_serves_as_a_reference_is_not_compared():
    plan = plan_tiles([_snapshot(0), _snapshot(1, reference=0)], Metric())
    assert list(_pairs(plan)) == [(1, 0)]


def test_tiles_share_blocks_with_those_before_them(monkeypatch):
    monkeypatch.setattr(tiles, "_LARGEST_BLOCK", 4)
    monkeypatch.setattr(tiles, "_KEPT_BLOCKS", 8)
    plan = plan_tiles([_snapshot(k) for k in range(160)], Metric())  # 40 blocks
    assert plan.kept_blocks == 8
    kept, loads = [], 0
    for tile in plan.tiles:
        for block in tile.blocks:
            loads += block not in kept
            kept = [*(b for b in kept if b != block), block][-plan.kept_blocks :]
    # 55 squares of four blocks a side on or above the diagonal, at most eight blocks each.
    assert loads <= 55 * 8
    assert loads < len(plan.tiles) * 2 / 3


def test_blocks_are_smaller_where_masks_are_larger():
    def largest(**changes):
        plan = plan_tiles([_snapshot(k, **changes) for k in range(300)], Metric())
        return max(len(tile.first) for tile in plan.tiles), plan.kept_blocks

    assert largest() == (32, 64)
    assert largest(n_out=4000, n_in=4000, nnz=160_000)[0] == 26  # 2.5 MB a snapshot
    size, kept = largest(n_out=4000, n_in=4000, nnz=8_000_000)  # 132 MB
    assert (size, kept) == (1, 8)


def test_the_plan_and_its_digests_follow_from_the_snapshots_alone():
    snapshots = [_snapshot(k) for k in range(20)]
    first, again = plan_tiles(snapshots, Metric()), plan_tiles(snapshots, Metric())
    assert first == again
    assert len({tile.digest for tile in first.tiles}) == len(first.tiles)


@pytest.mark.parametrize(
    "changes", [{"crc32": 99}, {"in_group": 2}, {"role": "output"}, {"n_out": 31}]
)
def test_only_the_tiles_of_a_changed_snapshot_get_another_digest(changes):
    before = plan_tiles([_snapshot(k) for k in range(20)], Metric())
    after = plan_tiles([_snapshot(k, **changes if k == 7 else {}) for k in range(20)], Metric())
    assert before.digest != after.digest
    for old, new in zip(before.tiles, after.tiles, strict=True):
        assert (old.digest != new.digest) == (7 in old.first or 7 in old.second)


def test_method_and_metric_version_are_in_every_digest(monkeypatch):
    snapshots = [_snapshot(k) for k in range(5)]
    plans = [plan_tiles(snapshots, Metric()), plan_tiles(snapshots, Metric("reference"))]
    monkeypatch.setitem(tiles.METRIC_VERSIONS, "layerwise", 1000)
    plans.append(plan_tiles(snapshots, Metric()))
    digests = [tile.digest for plan in plans for tile in plan.tiles]
    assert len(set(digests)) == len(digests)


def test_the_columns_are_the_layers_of_all_groups_each_once():
    first = _snapshot(0)
    second = Snapshot("x", 0, 1, (*first.layers, Layer("conv", 3, 30, "output", 1, 9, 0)))
    plan = plan_tiles([first, first, second, second], Metric())
    assert plan.layers == ("hidden", "conv")
    assert plan.group_layers == {0: ("hidden",), 1: ("hidden", "conv")}
    assert second.labelled_outputs
    assert not first.labelled_outputs
