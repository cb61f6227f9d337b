import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array, load_npz

from topology import nnstd, prepare

SEEDS = st.integers(0, 2**32 - 1)


def _read_published(folder, network, epoch, layers):
    """A published mask is (inputs + 1 bias row, outputs)."""
    files = [folder / network / f"epoch_{epoch}" / f"{layer}.npz" for layer in layers]
    return prepare([csr_array(load_npz(file)).astype(bool)[:-1].T for file in files])


def test_reference_reproduces_the_published_codes_values_to_the_last_bit(published):
    expected = json.loads((published / "expected_nnstd.json").read_text())
    compared = 0
    for epoch, matrix in expected["distance"].items():
        networks = [
            _read_published(published, name, epoch, expected["layers"]) for name in expected["nets"]
        ]
        for i in range(len(networks)):
            for j in range(i):
                found = nnstd(networks[i], networks[j], method="reference").layers
                assert list(found) == matrix[i][j] == matrix[j][i], (epoch, i, j)
                compared += 1
    assert compared == 30


def _permuted(masks, seed):
    """The same network with its hidden neurons, and its outputs too, in another order."""
    rng = np.random.default_rng(seed)
    relabelled, inputs = [], np.arange(masks[0].shape[1])
    for index, mask in enumerate(masks):
        order = rng.permutation(len(mask))
        relabelled.append(mask[order][:, inputs])
        if index + 1 < len(masks):
            group = masks[index + 1].shape[1] // len(mask)
            inputs = (order[:, np.newaxis] * group + np.arange(group)).ravel()
    return relabelled


@st.composite
def _network_pairs(draw, equal_widths=True):
    depth = draw(st.integers(1, 3))
    groups = [1, *(draw(st.sampled_from([1, 1, 2, 3])) for _ in range(depth - 1))]
    widths = [[draw(st.integers(1, 6)) for _ in range(depth)]]
    widths += [widths[0] if equal_widths else [draw(st.integers(1, 6)) for _ in range(depth)]]
    inputs = draw(st.integers(1, 7))
    pair = []
    for sizes in widths:
        n_ins = [inputs, *(n * g for n, g in zip(sizes[:-1], groups[1:], strict=True))]
        shapes = zip(sizes, n_ins, strict=True)
        pair.append([draw(hnp.arrays(bool, shape, elements=st.booleans())) for shape in shapes])
    return pair


@given(_network_pairs(), st.booleans())
def test_reference_is_the_definition_in_sets_and_loops(plain, pair, labelled):
    found = nnstd(*pair, method="reference", labelled_outputs=labelled)
    np.testing.assert_allclose(found.layers, plain(*pair, labelled), rtol=0, atol=1e-12)
    assert found.gap <= 1e-12


@given(_network_pairs(equal_widths=False), st.booleans())
def test_each_layer_is_matched_optimally_given_the_one_before(plain, pair, labelled):
    labelled = labelled and len(pair[0][-1]) == len(pair[1][-1])
    found = nnstd(*pair, labelled_outputs=labelled)
    least = plain(*pair, labelled, matchings=found.matchings)
    achieved = plain(*pair, labelled, matchings=found.matchings, achieved=True)
    np.testing.assert_allclose(found.layers, least, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.layers, achieved, rtol=0, atol=1e-12)
    assert found.gap <= 1e-12
    for matching, x, y in zip(found.matchings, *pair, strict=True):
        assert matching.shape == (len(x),)
        assert (matching >= 0).sum() == min(len(x), len(y))


@settings(max_examples=30)
@given(_network_pairs())
def test_no_permutation_of_the_first_layer_is_closer(plain, pair):
    first = [[mask[0]] for mask in pair]
    (best,) = plain(*first, everything=True)
    assert np.isclose(nnstd(*pair).layers[0], best, rtol=0, atol=1e-12)


@given(_network_pairs(equal_widths=False), SEEDS)
def test_the_neurons_order_changes_nothing(pair, seed):
    found = nnstd(*pair)
    assert found.canonical
    again = nnstd(_permuted(pair[0], seed), _permuted(pair[1], seed + 1))
    np.testing.assert_allclose(again.layers, found.layers, rtol=0, atol=1e-12)


@given(_network_pairs(equal_widths=False))
def test_the_two_networks_order_changes_nothing(pair):
    a, b = pair
    there, back = nnstd(a, b), nnstd(b, a)
    assert there.layers == back.layers
    for x, y in zip(there.matchings, back.matchings, strict=True):
        matched = np.flatnonzero(x >= 0)
        assert y[x[matched]].tolist() == matched.tolist()


@given(_network_pairs(), SEEDS)
def test_a_relabelled_copy_is_at_distance_zero_on_every_layer(pair, seed):
    masks = pair[0]
    assert nnstd(masks, _permuted(masks, seed)).layers == (0.0,) * len(masks)


@pytest.mark.parametrize("density", [0.006, 0.02, 0.05, 0.5, 0.9])
def test_wide_relabelled_networks_are_at_distance_zero_and_keep_theirs(networks, density):
    sizes = (90, 80, 80, 70)
    a, b = (networks(seed, sizes=sizes, density=density) for seed in (0, 1))
    copies = _permuted(a, 2), _permuted(b, 3)
    assert nnstd(a, copies[0]).layers == (0.0, 0.0, 0.0)
    found, again = nnstd(a, b), nnstd(*copies)
    assert found.layers == again.layers
    assert found.canonical


def test_published_networks_keep_their_distances_when_they_are_relabelled(published):
    layers = [f"weight_l{k}" for k in range(3)]
    a, b = (_read_published(published, f"e5_s0_w{k}", "190", layers) for k in (0, 1))
    copies = [
        prepare(_permuted([layer.mask.toarray() for layer in network.layers], seed))
        for seed, network in enumerate((a, b))
    ]
    assert nnstd(a, copies[0]).layers == (0.0, 0.0, 0.0)
    assert nnstd(*copies).layers == nnstd(a, b).layers == nnstd(b, a).layers
    assert nnstd(a, b).gap <= 1e-12


def test_reference_is_canonical_only_where_ties_cannot_reach_a_later_layer(networks):
    one_layer = networks(0, sizes=(9, 6)), networks(1, sizes=(9, 6))
    then_full = [networks(seed, sizes=(9, 6, 4), density=[0.3, 1.0]) for seed in (0, 1)]
    assert nnstd(*one_layer, method="reference").canonical
    assert nnstd(*then_full, method="reference").canonical
    assert not nnstd(networks(0), networks(1), method="reference").canonical


@given(_network_pairs(), SEEDS)
def test_the_first_layer_is_a_distance_between_networks_up_to_relabelling(pair, seed):
    a, b = ([mask[0]] for mask in pair)
    c = [np.random.default_rng(seed).random(a[0].shape) < 0.5]
    ab, ac, cb = nnstd(a, b).layers[0], nnstd(a, c).layers[0], nnstd(c, b).layers[0]
    assert 0 <= ab <= 1
    assert ab <= ac + cb + 1e-12


def test_labelled_outputs_stay_in_place():
    a = [np.eye(3, dtype=bool)]
    b = [np.eye(3, dtype=bool)[[1, 0, 2]]]
    assert nnstd(a, b).layers == (0.0,)
    labelled = nnstd(a, b, labelled_outputs=True)
    assert labelled.layers == (2 / 3,)
    assert labelled.matchings[0].tolist() == [0, 1, 2]


def test_the_matching_says_which_neuron_of_b_stands_for_each_of_a(networks):
    a = networks(0, sizes=(30, 12, 8))
    b = _permuted(a, 5)
    found = nnstd(a, b)
    first, second = found.matchings
    np.testing.assert_array_equal(b[0][first], a[0])
    np.testing.assert_array_equal(b[1][:, first][second], a[1])


def test_the_network_distance_weighs_neurons_and_leaves_out_layers_full_in_both(networks):
    sizes = (9, 6, 4, 3)
    a, b = (networks(seed, sizes=sizes, density=[0.3, 0.3, 1.0]) for seed in (0, 1))
    found = nnstd(a, b)
    assert len(found.layers) == 3
    assert found.layers[2] == 0.0
    assert found.network == pytest.approx((6 * found.layers[0] + 4 * found.layers[1]) / 10)
    half = [*b[:2], np.eye(3, 4, dtype=bool)]
    found = nnstd(a, half)
    expected = np.average(found.layers, weights=[6, 4, 3])
    assert found.network == pytest.approx(expected)


def test_networks_that_are_full_everywhere_are_at_distance_zero():
    full = [np.ones((4, 5), bool), np.ones((3, 4), bool)]
    found = nnstd(full, full)
    assert (found.network, found.layers, found.gap) == (0.0, (0.0, 0.0), 0.0)
    assert found.canonical


def test_empty_neurons_match_each_other_at_no_cost_and_others_at_cost_one():
    a = [np.array([[0, 0, 0], [1, 1, 0]])]
    b = [np.array([[1, 1, 0], [0, 0, 0]])]
    assert nnstd(a, b).layers == (0.0,)
    assert nnstd(a, [np.array([[1, 1, 0], [0, 0, 1]])]).layers == (0.5,)


def test_preparing_first_changes_nothing(networks):
    a, b = networks(0), networks(1)
    assert nnstd(prepare(a), b).layers == nnstd(a, prepare(b)).layers == nnstd(a, b).layers


@pytest.mark.parametrize(
    ("sizes", "labelled", "message"),
    [
        ((9, 6), False, "3 and 1 layers"),
        ((8, 6, 6, 4), False, "12 and 8 inputs"),
        ((12, 10, 8, 5), True, "4 and 5 labelled outputs"),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(networks, sizes, labelled, message):
    with pytest.raises(ValueError, match=message):
        nnstd(networks(0), networks(1, sizes=sizes), labelled_outputs=labelled)


def test_inputs_grouped_otherwise_are_refused():
    a = [np.ones((4, 3), bool), np.ones((2, 8), bool)]
    b = [np.ones((8, 3), bool), np.ones((2, 8), bool)]
    with pytest.raises(ValueError, match="2 inputs from each neuron before in one network and 1"):
        nnstd(a, b)


def test_an_unknown_method_names_the_ones_there_are(networks):
    with pytest.raises(ValueError, match="'joined' is unknown: layerwise, reference"):
        nnstd(networks(0), networks(1), method="joined")


def test_the_docstrings_examples_run():
    import sys

    assert doctest.testmod(sys.modules["topology.nnstd"]).failed == 0


@given(_network_pairs(equal_widths=False), st.booleans(), SEEDS)
def test_joint_is_never_above_layerwise_symmetric_and_unchanged_by_relabelling(
    pair, labelled, seed
):
    a, b = pair
    labelled = labelled and len(a[-1]) == len(b[-1])
    found = nnstd(a, b, "joint", labelled)
    assert found.network <= nnstd(a, b, "layerwise", labelled).network
    assert found.layers == nnstd(b, a, "joint", labelled).layers
    lower, upper = found.interval
    assert 0 <= lower <= upper == found.network
    if not labelled:
        copies = _permuted(a, seed), _permuted(b, seed + 1)
        assert nnstd(*copies, "joint").layers == found.layers
        assert nnstd(a, copies[0], "joint").layers == (0.0,) * len(a)


@given(_network_pairs(), st.booleans())
def test_joint_distances_are_those_of_its_matchings(plain, pair, labelled):
    found = nnstd(*pair, "joint", labelled)
    achieved = plain(*pair, labelled, matchings=found.matchings, achieved=True)
    np.testing.assert_allclose(found.layers, achieved, rtol=0, atol=1e-12)


@given(_network_pairs(), st.booleans())
def test_shared_indices_give_no_more_than_the_networks_as_they_are(plain, pair, labelled):
    found = nnstd(*pair, "joint", labelled, shared_indices=True)
    in_place = [np.arange(len(mask)) for mask in pair[0]]
    unpermuted = plain(*pair, labelled, matchings=in_place, achieved=True)
    sizes = [0 if x.all() and y.all() else len(x) for x, y in zip(*pair, strict=True)]
    if any(sizes):
        assert found.network <= np.average(unpermuted, weights=sizes) + 1e-12
    assert found.metric.shared_indices
    assert not found.canonical


def test_shared_indices_are_refused_where_they_mean_nothing(networks):
    with pytest.raises(ValueError, match="shared_indices is an option of method joint, not of"):
        nnstd(networks(0), networks(1), shared_indices=True)
