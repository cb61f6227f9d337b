import itertools
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from topology.chance import ChanceLevel, chance_level, rewired
from topology.comparison import Metric
from topology.degree_classes import MOST_CLASSES, degree_classes, degree_profile
from topology.nnstd import distances_of_pairs, nnstd
from topology.prepared import prepare
from topology.structure import degrees

SEEDS = st.integers(0, 2**32 - 1)


def _all_masks(rows, columns):
    """Every mask with these row sums and column sums."""
    options = [
        [np.isin(np.arange(len(columns)), chosen) for chosen in itertools.combinations(
            range(len(columns)), r)]
        for r in rows
    ]  # fmt: skip
    masks = (np.array(choice) for choice in itertools.product(*options))
    return [mask for mask in masks if mask.sum(axis=0).tolist() == list(columns)]


def _dense(topology):
    return [layer.mask.toarray() for layer in topology.layers]


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([0.05, 0.3, 0.8]))
def test_rewiring_keeps_every_degree_on_both_sides(networks, seed, density):
    masks = networks(seed, density=density)
    found = _dense(rewired(prepare(masks), np.random.default_rng(seed)))
    for mask, other in zip(masks, found, strict=True):
        assert mask.sum(axis=0).tolist() == other.sum(axis=0).tolist()
        assert mask.sum(axis=1).tolist() == other.sum(axis=1).tolist()


def test_a_rewired_network_is_prepared_like_any_other(networks):
    found = rewired(prepare(networks(3)), np.random.default_rng(0))
    for layer, again in zip(found.layers, prepare(_dense(found)).layers, strict=True):
        assert layer.shape == again.shape
        assert layer.in_group == again.in_group
        for one, other in zip((*layer.rows, *layer.columns), (*again.rows, *again.columns),
                              strict=True):  # fmt: skip
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ((2, 2, 1), (2, 1, 1, 1)),
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((3, 2, 2, 1), (3, 2, 2, 1)),
        ((4, 2, 0, 2, 1), (3, 2, 3, 1)),  # a full row and an empty one
        ((1, 2), (1, 1, 1)),
    ],
)
def test_every_mask_of_the_degrees_is_equally_likely(rows, columns):
    possible = _all_masks(rows, columns)
    start = prepare([possible[0]])
    rng = np.random.default_rng(7)
    draws = 60 * len(possible)
    counts = Counter(_dense(rewired(start, rng))[0].tobytes() for _ in range(draws))
    assert set(counts) == {mask.tobytes() for mask in possible}
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_rewiring_forgets_a_matching_as_fast_as_a_shuffle():
    """The fixed points of a rewired permutation are those of a random one: 1 on average."""
    n = 60
    start = prepare([np.eye(n, dtype=bool)])
    fixed = [
        int(np.trace(_dense(rewired(start, np.random.default_rng(seed)))[0])) for seed in range(400)
    ]
    assert np.mean(fixed) == pytest.approx(1.0, abs=5 / np.sqrt(400))
    assert np.var(fixed) == pytest.approx(1.0, abs=0.5)


def test_rewiring_a_networkx_configuration_gives_graphs_of_the_same_degrees():
    graph = nx.bipartite.configuration_model([4, 3, 3, 2, 2], [5, 4, 2, 2, 1], seed=1)
    mask = nx.bipartite.biadjacency_matrix(nx.Graph(graph), range(5)).toarray() != 0
    (found,) = _dense(rewired(prepare([mask]), np.random.default_rng(1)))
    edges = [("r", i, "c", j) for i, j in zip(*np.nonzero(found), strict=True)]
    other = nx.Graph([((a, int(i)), (b, int(j))) for a, i, b, j in edges])
    incoming, outgoing = degrees(mask)
    assert [other.degree(("r", i)) if ("r", i) in other else 0 for i in range(5)] == list(incoming)
    assert [other.degree(("c", j)) if ("c", j) in other else 0 for j in range(5)] == list(outgoing)


def test_full_and_empty_layers_stay_as_they_are_and_their_level_is_0():
    full = [np.ones((3, 2), bool), np.ones((4, 3), bool)]
    assert chance_level(full, full) == ChanceLevel(0.0, 0.0, (0.0, 0.0), (0.0, 0.0), 10)
    empty = [np.zeros((3, 2), bool)]
    assert chance_level(empty, empty).network == 0.0
    assert chance_level([full[0]], empty).layers == (1.0,)


def test_labelled_rows_of_one_connection_agree_as_often_as_random_permutations():
    """Each of n rows has its one input in common with probability 1 / n."""
    n = 8
    eye = [np.eye(n, dtype=bool)]
    level = chance_level(eye, eye, samples=2000, labelled_outputs=True)
    # The number of common ones has mean 1 and variance 1.
    assert level.network == pytest.approx(1 - 1 / n, abs=5 / n / np.sqrt(2000))
    assert level.network_error == pytest.approx(1 / n / np.sqrt(2000), rel=0.2)
    assert chance_level(eye, eye).network == 0.0  # rows without labels are matched


@pytest.mark.parametrize("labelled", [False, True])
def test_the_level_is_the_mean_over_all_pairs_of_masks_with_these_degrees(labelled):
    a, b = _all_masks((2, 2, 1), (2, 1, 1, 1)), _all_masks((1, 2, 2), (2, 2, 1, 0))
    every = [nnstd([x], [y], labelled_outputs=labelled).network for x in a for y in b]
    level = chance_level([a[0]], [b[0]], samples=600, labelled_outputs=labelled)
    error = np.std(every) / np.sqrt(600)
    assert level.network == pytest.approx(np.mean(every), abs=4 * error)
    assert level.network_error == pytest.approx(error, rel=0.2)


def test_two_layers_are_rewired_both_and_matched_one_given_the_other():
    """Against all pairs of networks with these degrees, a network's layers in all combinations."""
    first = _all_masks((1, 1, 2), (2, 1, 1))
    second = _all_masks((2, 1), (1, 1, 1))
    nets = [prepare(list(masks)) for masks in itertools.product(first, second)]
    pairs = list(itertools.product(nets, repeat=2))
    metric = Metric(labelled_outputs=True)
    every = np.array([row for row, _ in distances_of_pairs(pairs, metric)])
    level = chance_level(nets[0], nets[-1], samples=600, labelled_outputs=True)
    found = np.array([level.network, *level.layers])
    errors = every.std(axis=0) / np.sqrt(600)
    assert (np.abs(found - every.mean(axis=0)) <= 4 * errors + 1e-12).all()


def test_a_seed_gives_the_same_level_again_and_more_samples_begin_with_the_same(networks):
    a, b = networks(0), networks(1)
    assert chance_level(a, b, seed=3) == chance_level(prepare(a), prepare(b), seed=3)
    assert chance_level(a, b, seed=3) != chance_level(a, b, seed=4)
    two, three = (chance_level(a, b, samples=n) for n in (2, 3))
    third = 3 * three.network - 2 * two.network
    low, high = two.network - two.network_error, two.network + two.network_error
    samples = np.array([low, high, third])  # of two, mean -+ error are the values
    assert three.network_error == pytest.approx(samples.std(ddof=1) / np.sqrt(3))


def test_a_network_and_its_own_rewiring_are_independent(networks):
    a = networks(0)
    assert chance_level(a, a).network > 0.3


def test_one_sample_and_unknown_methods_are_refused(networks):
    a = networks(0)
    with pytest.raises(ValueError, match="at least 2 samples, not 1"):
        chance_level(a, a, samples=1)
    with pytest.raises(ValueError, match="'x' is unknown"):
        chance_level(a, a, method="x")
    with pytest.raises(ValueError, match="cannot be compared"):
        chance_level(a, a[:2])


def _classes(nets):
    profiles = np.array([degree_profile(prepare(net)) for net in nets])
    return degree_classes(profiles, [mask.shape for mask in nets[0]])


def test_networks_of_one_density_are_one_class_named_by_it(networks):
    nets = [
        networks(seed, sizes=(200, 200, 100), density=density)
        for density in (0.5, 0.1)
        for seed in range(5)
    ]
    classes, names = _classes(nets)
    assert classes.tolist() == [1] * 5 + [0] * 5
    assert [round(float(name[:-1])) for name in names] == [10, 50]


def test_the_same_density_with_other_degrees_is_another_class(networks):
    even = [np.kron(np.eye(20, dtype=bool), np.ones((2, 3), bool))]  # each neuron has 3 inputs
    hubs = [np.zeros((40, 60), bool)]
    hubs[0][:2] = True  # as many connections, two neurons have them all
    classes, names = _classes([even, hubs, even])
    assert classes[0] == classes[2] != classes[1]
    assert sorted(names) == ["5%", "5% (2)"]


def test_full_layers_do_not_count_towards_a_class_name():
    masks = [np.eye(20, dtype=bool), np.ones((10, 20), bool)]
    assert _classes([masks])[1] == ["5%"]
    assert _classes([[np.ones((3, 3), bool)]])[1] == ["100%"]


def test_there_are_never_too_many_classes(networks):
    nets = [[np.arange(4000).reshape(40, 100) < n] for n in range(20, 4000, 20)]
    classes, names = _classes(nets)
    assert 4 <= len(names) == classes.max() + 1 <= MOST_CLASSES
    assert len(set(names)) == len(names)
