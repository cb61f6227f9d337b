import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import coo_array, csc_array, csr_array, random_array

import topology.overlap as overlap
from topology.overlap import input_places, jaccard_costs, jaccard_in_place
from topology.prepared import prepare


def _sets(mask):
    return [set(np.flatnonzero(row).tolist()) for row in mask]


def _plain_costs(a, b):
    return np.array(
        [[len(x ^ y) / len(x | y) if x | y else 0.0 for y in _sets(b)] for x in _sets(a)]
    )


def _layers(a, b):
    return prepare([a]).layers[0], prepare([b]).layers[0]


@st.composite
def _mask_pairs(draw):
    n_in = draw(st.integers(1, 9))
    shapes = [(draw(st.integers(1, 8)), n_in) for _ in range(2)]
    # fill makes long runs of equal values likely: empty and full rows come up often
    return [draw(hnp.arrays(bool, shape, elements=st.booleans())) for shape in shapes]


@given(_mask_pairs())
def test_costs_are_the_jaccard_distances_of_the_connection_sets_to_the_last_bit(pair):
    a, b = pair
    layers = _layers(a, b)
    places = np.arange(a.shape[1])
    expected = _plain_costs(a, b)
    np.testing.assert_array_equal(overlap._sparse_costs(*layers, places), expected)
    np.testing.assert_array_equal(overlap._dense_costs(*layers, places), expected)
    np.testing.assert_array_equal(jaccard_costs(*layers, places), expected)


@pytest.mark.parametrize("density", [0.005, 0.03, 0.2, 0.9, 1.0])
def test_sparse_and_dense_products_give_equal_costs_at_any_density(density):
    rng = np.random.default_rng(0)
    a, b = (rng.random((60, 300)) < density for _ in range(2))
    layers = _layers(a, b)
    places = rng.permutation(300)
    expected = _plain_costs(a, b[:, places])
    np.testing.assert_array_equal(overlap._sparse_costs(*layers, places), expected)
    np.testing.assert_array_equal(overlap._dense_costs(*layers, places), expected)


def test_inputs_follow_the_matching_in_groups_and_unmatched_ones_fall_outside():
    places = input_places(np.array([2, -1, 0]), in_group=2, n_in=6, n_in_b=8)
    np.testing.assert_array_equal(places, [4, 5, 8, 8, 0, 1])


@given(_mask_pairs(), st.data())
def test_permuted_inputs_cost_what_the_permuted_mask_costs(pair, data):
    a, b = pair
    places = np.array(data.draw(st.permutations(range(a.shape[1]))))
    layers = _layers(a, b)
    np.testing.assert_array_equal(jaccard_costs(*layers, places), _plain_costs(a, b[:, places]))


@given(_mask_pairs())
def test_an_input_that_the_other_network_lacks_is_in_the_union_only(pair):
    a, b = pair
    gone = np.array([*range(a.shape[1] - 1), a.shape[1]])  # B has nothing for A's last input
    wide_a = np.hstack([a, np.zeros((len(a), 1), bool)])
    wide_b = np.hstack([b, np.zeros((len(b), 1), bool)])
    wide_b[:, -2:] = wide_b[:, [-1, -2]]
    layers = _layers(a, b)
    expected = _plain_costs(wide_a, wide_b)
    np.testing.assert_array_equal(overlap._sparse_costs(*layers, gone), expected)
    np.testing.assert_array_equal(overlap._dense_costs(*layers, gone), expected)


@given(_mask_pairs(), st.data())
def test_rows_in_place_cost_the_diagonal(pair, data):
    n = min(len(mask) for mask in pair)
    a, b = (mask[:n] for mask in pair)
    places = np.array(data.draw(st.permutations(range(a.shape[1]))))
    np.testing.assert_array_equal(
        jaccard_in_place(*_layers(a, b), places), np.diag(_plain_costs(a, b[:, places]))
    )


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_every_form_of_a_mask_is_the_same_topology(seed):
    mask = np.random.default_rng(seed).random((7, 9)) < 0.3
    forms = [
        mask,
        mask.tolist(),
        mask.astype(np.uint8),
        mask.astype(float),
        csr_array(mask),
        csc_array(mask),
        coo_array(mask.astype(np.float32)),
    ]
    for form in forms:
        (layer,) = prepare([form]).layers
        np.testing.assert_array_equal(layer.rows.toarray(), mask)
        np.testing.assert_array_equal(layer.columns.toarray()[:-1], mask.T)
        assert layer.rows.has_sorted_indices


def test_prepare_leaves_the_callers_matrix_alone_and_drops_stored_zeros():
    mask = csr_array((np.array([1, 0, 1]), np.array([2, 1, 0]), np.array([0, 2, 3])), shape=(2, 3))
    (layer,) = prepare([mask]).layers
    assert layer.rows.nnz == 2
    assert mask.indices.tolist() == [2, 1, 0]
    assert mask.data.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([], "a sequence of masks"),
        (csr_array(np.ones((3, 3), bool)), "a sequence of masks"),
        (np.ones((3, 3), bool), "layer 0 is no"),
        ([np.ones(3, bool)], "layer 0 is no"),
        ([np.ones((0, 3), bool)], "layer 0 is no"),
        ([np.ones((2, 3), bool), np.ones((2, 3), bool)], "layer 1 has 3 inputs, no multiple of"),
        ([np.array([[0.0, 0.5]])], "pass w != 0"),
        ([np.array([[0.0, np.nan]])], "pass w != 0"),
        ([random_array((4, 4), density=0.5, rng=0)], "pass w != 0"),
        ([np.array([["a"]])], "no numbers"),
    ],
)
def test_what_is_no_topology_is_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        prepare(masks)


def test_in_group_is_taken_from_the_shapes_and_checked_when_given():
    masks = [np.ones((4, 9), bool), np.ones((3, 4 * 6), bool)]
    assert [layer.in_group for layer in prepare(masks).layers] == [1, 6]
    prepare(masks, in_group=[9, 6])  # the first layer's says nothing about a matching
    with pytest.raises(ValueError, match="in_group is 6, not 1"):
        prepare(masks, in_group=[1, 1])
    with pytest.raises(ValueError, match="1 numbers for 2 layers"):
        prepare(masks, in_group=[1])
