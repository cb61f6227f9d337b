import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topology.blocks import TANGENT, ascend, block_gains
from topology.joint import match_jointly
from topology.prepared import prepare
from topology.recombination import take_better
from topology.starts import Sweeps, sweep
from topology.wiring import layer_matchings, total_similarity, whole_matching, wire


def _similarity(x, y):
    return len(x & y) / len(x | y) if x | y else 1.0


def plain_total(a, b, matchings):
    """The total similarity by its definition, in sets and loops."""
    total, before = 0.0, None
    for x, y, matching in zip(a, b, matchings, strict=True):
        group = 1 if before is None else x.shape[1] // len(before)
        places = {}
        for k in range(x.shape[1]):
            if before is None:
                places[k] = k
            elif before[k // group] >= 0:
                places[k] = int(before[k // group]) * group + k % group
        if not (x.all() and y.all()):
            for i, j in enumerate(matching):
                if j >= 0:
                    moved = {places.get(int(k), -1 - int(k)) for k in np.flatnonzero(x[i])}
                    total += _similarity(moved, {int(k) for k in np.flatnonzero(y[j])})
        before = matching
    return total


def full_matchings(n_a, n_b):
    """Every matching that leaves nobody unmatched without need."""
    if n_a <= n_b:
        for columns in itertools.permutations(range(n_b), n_a):
            yield np.array(columns, dtype=np.int64)
    else:
        for rows in itertools.permutations(range(n_a), n_b):
            matching = np.full(n_a, -1, dtype=np.int64)
            matching[list(rows)] = np.arange(n_b)
            yield matching


def random_matchings(rng, a, b, labelled):
    matchings = []
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        larger = max(len(x), len(y))
        order = rng.permutation(larger)[: len(x)]
        if labelled and index == len(a) - 1:
            order = np.arange(len(x))
        matchings.append(np.where(order < len(y), order, -1).astype(np.int64))
    return matchings


def random_pair(seed, equal=False):
    """Two small networks: groups of inputs, unequal widths, empty neurons, full layers."""
    rng = np.random.default_rng(seed)
    depth, inputs = int(rng.integers(1, 4)), int(rng.integers(1, 9))
    labelled = bool(rng.integers(2))
    widths = rng.integers(1, 9, (2, depth))
    if equal or rng.integers(2):
        widths[1] = widths[0]
    widths[1, -1] = widths[0, -1] if labelled else widths[1, -1]
    groups = rng.choice([1, 1, 2], depth)
    densities = rng.choice([0.1, 0.3, 0.5, 0.8, 1.0], depth, p=[0.2, 0.3, 0.2, 0.15, 0.15])
    pair = []
    for sizes in widths:
        n_ins = [inputs, *(sizes[:-1] * groups[1:])]
        pair.append(
            [rng.random((n, k)) < p for n, k, p in zip(sizes, n_ins, densities, strict=True)]
        )
    return *pair, labelled, rng


def wired(a, b):
    x, y = prepare(a).layers, prepare(b).layers
    counted = [not (p.full and q.full) for p, q in zip(x, y, strict=True)]
    return wire(x, counted), wire(y, counted)


def free_layers(a, labelled):
    return np.arange(len(a) - labelled, dtype=np.int64)


SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_the_total_is_that_of_the_definition_in_sets_and_loops(seed):
    a, b, labelled, rng = random_pair(seed)
    matchings = random_matchings(rng, a, b, labelled)
    x, y = wired(a, b)
    whole = whole_matching(x, y, matchings)
    assert total_similarity(x, y, whole) == pytest.approx(plain_total(a, b, matchings), abs=1e-12)
    for back, matching in zip(layer_matchings(x, y, whole), matchings, strict=True):
        np.testing.assert_array_equal(back, matching)


@given(SEEDS)
def test_a_pair_gains_at_most_what_matching_it_adds_to_the_total(seed):
    """Gains are slopes below a convex function: unmatch a layer, match one pair, compare."""
    a, b, labelled, rng = random_pair(seed)
    x, y = wired(a, b)
    whole = whole_matching(x, y, random_matchings(rng, a, b, labelled))
    for layer in free_layers(a, labelled):
        start, end = x.base[layer + 1 : layer + 3]
        none = whole.copy()
        none[start:end] = -1
        common = np.zeros(len(whole), dtype=np.int64)  # that of a layer without any match
        gains = block_gains(x, y, whole, common, layer, TANGENT, 1.0, 0.0, 0.0, 0)
        before = total_similarity(x, y, none)
        for i in range(end - start):
            for k in range(gains.indptr[i], gains.indptr[i + 1]):
                one = none.copy()
                one[start + i] = y.base[layer + 1] + gains.indices[k]
                added = total_similarity(x, y, one) - before
                assert gains.values[k] <= added + 1e-12


@given(SEEDS)
def test_updates_never_lower_the_total_and_match_whom_they_can(seed):
    a, b, labelled, rng = random_pair(seed)
    x, y = wired(a, b)
    matching = whole_matching(x, y, random_matchings(rng, a, b, labelled))
    free = free_layers(a, labelled)
    if rng.integers(2):
        sweep(x, y, matching, free, Sweeps(np.array([0.5, 0.2]), int(rng.integers(3)), 0.1, seed))
    before, gaps = total_similarity(x, y, matching), np.zeros(len(a))
    after = ascend(x, y, matching, free, gaps)
    assert after == pytest.approx(total_similarity(x, y, matching), abs=1e-12)
    assert after >= before - 1e-12
    assert gaps.max() <= 1e-12
    for found, p, q in zip(layer_matchings(x, y, matching), a, b, strict=True):
        matched = found[found >= 0]
        assert len(matched) == len(set(matched.tolist())) == min(len(p), len(q))


@given(SEEDS)
def test_a_mixture_of_two_matchings_gains_what_it_says_and_is_at_least_as_good_as_both(seed):
    a, b, labelled, rng = random_pair(seed)
    x, y = wired(a, b)
    one, other = (whole_matching(x, y, random_matchings(rng, a, b, labelled)) for _ in range(2))
    if rng.integers(2):  # two that differ in few places
        other = one.copy()
        layer = int(rng.integers(len(a) - labelled)) if len(a) > labelled else 0
        part = other[x.base[layer + 1] : x.base[layer + 2]]
        if len(a) > labelled and len(part) > 1:
            i, j = rng.choice(len(part), 2, replace=False)
            part[i], part[j] = part[j], part[i]
    totals = [total_similarity(x, y, matching) for matching in (one, other)]
    mixed = one.copy()
    gained = take_better(x, y, mixed, other)
    total = total_similarity(x, y, mixed)
    assert total == pytest.approx(totals[0] + gained, abs=1e-9)
    assert total >= max(totals) - 1e-9
    assert ((mixed == one) | (mixed == other)).all()
    matched = mixed[mixed >= 0]
    assert len(matched) == len(set(matched.tolist()))


def test_independent_differences_are_taken_one_by_one():
    """Two swaps far apart in a wide layer, one better and one worse."""
    a = [np.eye(8, dtype=bool)]
    x, y = wired(a, a)
    good = np.arange(8)
    one, other = good.copy(), good.copy()
    one[[0, 1]], other[[4, 5]] = [1, 0], [5, 4]
    one, other = whole_matching(x, y, [one]), whole_matching(x, y, [other])
    assert take_better(x, y, one, other) == pytest.approx(2.0)
    np.testing.assert_array_equal(layer_matchings(x, y, one)[0], good)


@given(SEEDS)
def test_joint_is_never_worse_than_any_start_and_within_the_brute_force_optimum(seed):
    a, b, labelled, rng = random_pair(seed)
    starts = {
        "layerwise": random_matchings(rng, a, b, labelled),
        "shared": random_matchings(rng, a, b, labelled),
    }
    found = match_jointly(prepare(a).layers, prepare(b).layers, labelled, starts)
    x, y = wired(a, b)
    total = total_similarity(x, y, whole_matching(x, y, found.matchings))
    for start in starts.values():
        assert total >= total_similarity(x, y, whole_matching(x, y, start))
    assert max(found.gaps) <= 1e-12
    if labelled:
        np.testing.assert_array_equal(found.matchings[-1], np.arange(len(a[-1])))


@settings(max_examples=60)
@given(SEEDS)
def test_one_layer_is_matched_at_its_optimum(seed):
    rng = np.random.default_rng(seed)
    n_a, n_b, n_in = (int(k) for k in rng.integers(1, 6, 3))
    a, b = [rng.random((n_a, n_in)) < 0.4], [rng.random((n_b, n_in)) < 0.4]
    start = {"layerwise": random_matchings(rng, a, b, False)}
    found = match_jointly(prepare(a).layers, prepare(b).layers, False, start)
    best = max(plain_total(a, b, [matching]) for matching in full_matchings(n_a, n_b))
    assert plain_total(a, b, found.matchings) == pytest.approx(best, abs=1e-9)


def test_joint_finds_the_optimum_of_most_tiny_networks():
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(60):
        a, b = ([rng.random((4, 6)) < 0.4, rng.random((4, 4)) < 0.4] for _ in range(2))
        start = {"layerwise": random_matchings(rng, a, b, False)}
        found = match_jointly(prepare(a).layers, prepare(b).layers, False, start)
        best = max(
            plain_total(a, b, [one, two])
            for one in full_matchings(4, 4)
            for two in full_matchings(4, 4)
        )
        total = plain_total(a, b, found.matchings)
        assert total <= best + 1e-9
        reached += total >= best - 1e-9
    assert reached >= 40


@pytest.mark.parametrize("labelled", [False, True])
def test_a_network_and_itself_are_at_distance_0(networks, labelled):
    masks = networks(3, sizes=(30, 25, 25, 10), density=0.15)
    identity = [np.arange(len(mask)) for mask in masks]
    layers = prepare(masks).layers
    found = match_jointly(layers, layers, labelled, {"layerwise": identity})
    assert plain_total(masks, masks, found.matchings) == 60


def test_relabelled_networks_are_recognised_from_a_bad_start(networks):
    """The matching that is asked for is far from the start; the sure pairs lead to it."""
    rng = np.random.default_rng(5)
    masks = networks(4, sizes=(60, 50, 50, 50), density=0.08)
    relabelled, inputs = [], np.arange(60)
    for mask in masks:
        order = rng.permutation(len(mask))
        relabelled.append(mask[order][:, inputs])
        inputs = order
    start = {"layerwise": random_matchings(rng, masks, relabelled, False)}
    found = match_jointly(prepare(masks).layers, prepare(relabelled).layers, False, start)
    assert plain_total(masks, relabelled, found.matchings) == pytest.approx(150)


def test_the_same_pair_gives_the_same_matchings():
    a, b, labelled, rng = random_pair(11)
    start = {"layerwise": random_matchings(rng, a, b, labelled)}
    pair = prepare(a).layers, prepare(b).layers
    one, two = (match_jointly(*pair, labelled, start) for _ in range(2))
    for x, y in zip(one.matchings, two.matchings, strict=True):
        np.testing.assert_array_equal(x, y)
