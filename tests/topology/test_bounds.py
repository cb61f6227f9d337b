import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from topology.bounds import lower_bound
from topology.joint import match_jointly
from topology.prepared import prepare

SEEDS = st.integers(0, 2**32 - 1)


def full_matchings(n_a, n_b):
    """Every matching that leaves nobody unmatched without need, -1 for none."""
    if n_a <= n_b:
        return list(itertools.permutations(range(n_b), n_a))
    inverse = itertools.permutations(range(n_a), n_b)
    return [tuple(rows.index(i) if i in rows else -1 for i in range(n_a)) for rows in inverse]


def least_distance(a, b, labelled):
    """The network distance minimised over all matchings of all layers, one by one."""
    sizes = [max(len(x), len(y)) for x, y in zip(a, b, strict=True) if not (x.all() and y.all())]
    options = [full_matchings(len(x), len(y)) for x, y in zip(a, b, strict=True)]
    if labelled:
        options[-1] = [tuple(range(len(a[-1])))]

    @functools.cache
    def layer_total(index, before, matching):
        x, y = a[index], b[index]
        if x.all() and y.all():
            return 0.0
        group = x.shape[1] // len(before)
        moved = np.zeros((len(x), y.shape[1]), dtype=bool)
        for k, j in enumerate(before):
            if j >= 0:
                moved[:, j * group : (j + 1) * group] = x[:, k * group : (k + 1) * group]
        total = 0.0
        for i, j in enumerate(matching):
            if j >= 0:
                common = (moved[i] & y[j]).sum()
                either = x[i].sum() + y[j].sum() - common
                total += common / either if either else 1.0
        return total

    # The best total of all layers so far for each matching of the last one: layers form a chain.
    best = {tuple(range(a[0].shape[1])): 0.0}
    for index, matchings in enumerate(options):
        best = {
            matching: max(
                total + layer_total(index, before, matching) for before, total in best.items()
            )
            for matching in matchings
        }
    return 1 - max(best.values()) / sum(sizes) if sizes else 0.0


def tiny_pair(seed):
    """Groups of inputs, unequal widths, empty neurons, full layers; at most 4 neurons a layer."""
    rng = np.random.default_rng(seed)
    depth, inputs = int(rng.integers(1, 4)), int(rng.integers(1, 7))
    labelled = bool(rng.integers(2))
    widths = rng.integers(1, 5, (2, depth))
    if rng.integers(2):
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
    return *pair, labelled


def jointly(a, b, labelled):
    """The network distance that the search finds, from the neurons' own order."""
    starts = [
        np.where(np.arange(len(x)) < len(y), np.arange(len(x)), -1)
        for x, y in zip(a, b, strict=True)
    ]
    found = match_jointly(prepare(a).layers, prepare(b).layers, labelled, {"layerwise": starts})
    total, size, before = 0.0, 0, np.arange(a[0].shape[1])
    for x, y, matching in zip(a, b, found.matchings, strict=True):
        group = x.shape[1] // len(before)
        moved = np.zeros((len(x), y.shape[1]), dtype=bool)
        for k, j in enumerate(before):
            if j >= 0:
                moved[:, j * group : (j + 1) * group] = x[:, k * group : (k + 1) * group]
        before = matching
        if x.all() and y.all():
            continue
        size += max(len(x), len(y))
        for i, j in enumerate(matching):
            if j >= 0:
                common = (moved[i] & y[j]).sum()
                either = x[i].sum() + y[j].sum() - common
                total += common / either if either else 1.0
    return 1 - total / size if size else 0.0


@settings(max_examples=400)
@given(SEEDS)
def test_the_bound_is_below_the_least_distance_of_all_matchings_and_the_search_above(seed):
    a, b, labelled = tiny_pair(seed)
    least = least_distance(a, b, labelled)
    for passes in (1, 2, 4):
        low = lower_bound(prepare(a).layers, prepare(b).layers, labelled, passes)
        assert 0.0 <= low <= least + 1e-15
    assert jointly(a, b, labelled) >= least - 1e-12


@given(SEEDS)
def test_one_layer_is_bounded_by_its_least_distance(seed):
    rng = np.random.default_rng(seed)
    n_a, n_b, n_in = (int(k) for k in rng.integers(1, 6, 3))
    a, b = [rng.random((n_a, n_in)) < 0.5], [rng.random((n_b, n_in)) < 0.5]
    low = lower_bound(prepare(a).layers, prepare(b).layers, False)
    assert low == pytest.approx(least_distance(a, b, False), abs=1e-9)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_relabelled_copy_is_bounded_by_exactly_0(networks, labelled):
    rng = np.random.default_rng(0)
    masks = networks(1, sizes=(40, 30, 30, 10), density=0.15)
    relabelled, inputs = [], np.arange(40)
    for index, mask in enumerate(masks):
        order = rng.permutation(len(mask))
        if labelled and index == len(masks) - 1:
            order = np.arange(len(mask))
        relabelled.append(mask[order][:, inputs])
        inputs = order
    assert lower_bound(prepare(masks).layers, prepare(relabelled).layers, labelled) == 0.0


def test_deeper_layers_add_to_the_bound(networks):
    """More than the first layer's optimum and what degrees alone forbid."""
    a, b = (networks(seed, sizes=(60, 60, 60), density=0.06) for seed in (1, 2))
    x, y = prepare(a).layers, prepare(b).layers
    degrees = [np.sort(layer[1].degrees) for layer in (x, y)]
    by_degree = 1 - np.mean(
        [min(p, q) / max(p, q) if p or q else 1.0 for p, q in zip(*degrees, strict=True)]
    )
    first = lower_bound(x[:1], y[:1], False)
    assert lower_bound(x, y, False) > (first + by_degree) / 2 + 0.03


def alone(a, b, labelled):
    """The network distance that the first layer's optimum and the degrees of the others allow."""
    total, size = 0.0, 0
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        if x.all() and y.all():
            continue
        size += max(len(x), len(y))
        common = x.astype(int) @ y.T.astype(int) if index == 0 else None
        mine, other = x.sum(1)[:, np.newaxis], y.sum(1)[np.newaxis]
        common = np.minimum(mine, other) if common is None else common
        either = mine + other - common
        gains = np.where(either > 0, common / np.maximum(1, either), 1.0)
        pairs = linear_sum_assignment(-gains)
        if labelled and index == len(a) - 1:
            pairs = np.diag_indices(len(x))
        total += gains[pairs].sum()
    return 1 - total / size if size else 0.0


@given(SEEDS)
def test_the_bound_is_never_below_what_layers_allow_on_their_own(seed):
    a, b, labelled = tiny_pair(seed)
    for passes in (1, 3):
        low = lower_bound(prepare(a).layers, prepare(b).layers, labelled, passes)
        assert low >= alone(a, b, labelled) - 1e-11


@pytest.mark.parametrize("density", [0.01, 0.05, 0.3, 0.9])
def test_wide_layers_are_bounded_above_what_they_allow_on_their_own(networks, density):
    sizes = ((70, 130, 90), (70, 110, 140))
    a, b = (networks(seed, sizes=s, density=density) for seed, s in enumerate(sizes))
    for x, y in ((a, b), (b, a)):
        low = lower_bound(prepare(x).layers, prepare(y).layers, False)
        assert alone(x, y, False) - 1e-11 <= low < jointly(x, y, False)


@settings(max_examples=40)
@given(SEEDS)
def test_the_bound_is_below_a_known_relabelling_with_some_connections_changed(seed):
    """Widths, degrees and groups that no brute force reaches; the distance is small and known."""
    rng = np.random.default_rng(seed)
    depth, labelled = int(rng.integers(1, 4)), bool(rng.integers(2))
    widths, groups = rng.integers(20, 150, depth), rng.choice([1, 3], depth)
    n_ins = [40, *(widths[:-1] * groups[1:])]
    densities, changed = rng.choice([0.02, 0.1, 0.4], depth), rng.choice([0.0, 0.01, 0.1])
    a, b, total, inputs = [], [], 0.0, np.arange(40)
    for index, (n, n_in, p) in enumerate(zip(widths, n_ins, densities, strict=True)):
        mask = rng.random((n, n_in)) < p
        other = np.where(rng.random(mask.shape) < changed, rng.random(mask.shape) < p, mask)
        common, either = (mask & other).sum(1), (mask | other).sum(1)
        total += np.where(either > 0, common / np.maximum(1, either), 1.0).sum()
        last = labelled and index == depth - 1
        order = np.arange(n) if last else rng.permutation(n)
        a.append(mask)
        b.append(other[order][:, inputs])
        group = 1 if index == depth - 1 else groups[index + 1]
        inputs = (order[:, np.newaxis] * group + np.arange(group)).ravel()
    for x, y in ((a, b), (b, a)):
        low = lower_bound(prepare(x).layers, prepare(y).layers, labelled)
        assert low <= max(0.0, 1 - total / widths.sum() + 1e-12)


def test_many_connections_a_neuron_are_bounded_too():
    """More than are kept sorted, and more neurons than candidates."""
    rng = np.random.default_rng(3)
    a, b = ([rng.random((80, 60)) < 0.5, rng.random((90, 80)) < 0.5] for _ in range(2))
    low = lower_bound(prepare(a).layers, prepare(b).layers, False)
    assert 0.1 < low <= jointly(a, b, False)


def test_published_networks_lie_between_the_bound_and_the_search(published):
    from scipy.sparse import csr_array, load_npz

    a, b = (
        [
            csr_array(load_npz(folder / "epoch_190" / f"weight_l{k}.npz")).toarray()[:-1].T != 0
            for k in range(3)
        ]
        for folder in (published / "e5_s0_w0", published / "e5_s0_w1")
    )
    low = lower_bound(prepare(a).layers, prepare(b).layers, False)
    assert 0.27 < low < jointly(a, b, False) < 0.4
