import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from topology.overlap import input_places, jaccard_of_matched, overlap_counts, overlap_edges
from topology.prepared import prepare


def _sets(mask):
    return [set(np.flatnonzero(row).tolist()) for row in mask]


def _plain_costs(a, b):
    return np.array(
        [[len(x ^ y) / len(x | y) if x | y else 0.0 for y in _sets(b)] for x in _sets(a)]
    )


def _plain_common(a, b):
    return np.array([[len(x & y) for y in _sets(b)] for x in _sets(a)])


def _counts(a, b, places):
    return overlap_counts(a.rows, b.bits, places)


def _edges(a, b, places):
    """The sparse product's pairs as a matrix."""
    edges = overlap_edges(a.rows, b.columns, places, b.shape[0])
    common = np.zeros((a.shape[0], b.shape[0]), dtype=int)
    for i in range(a.shape[0]):
        here = slice(edges.indptr[i], edges.indptr[i + 1])
        assert len(set(edges.indices[here].tolist())) == here.stop - here.start
        common[i, edges.indices[here]] = edges.common[here]
    assert (edges.common > 0).all()
    return common


def _layers(a, b):
    return prepare([a]).layers[0], prepare([b]).layers[0]


@st.composite
def _mask_pairs(draw):
    n_in = draw(st.integers(1, 9))
    shapes = [(draw(st.integers(1, 8)), n_in) for _ in range(2)]
    # fill makes long runs of equal values likely: empty and full rows come up often
    return [draw(hnp.arrays(bool, shape, elements=st.booleans())) for shape in shapes]


KERNELS = pytest.mark.parametrize("common", [_edges, _counts])


@KERNELS
@given(pair=_mask_pairs(), data=st.data())
def test_common_connections_are_those_of_the_sets_under_any_order_of_inputs(common, pair, data):
    a, b = pair
    places = np.array(data.draw(st.permutations(range(a.shape[1]))))
    expected = _plain_common(a, b[:, places])
    np.testing.assert_array_equal(common(*_layers(a, b), places), expected)


@KERNELS
@pytest.mark.parametrize("density", [0.005, 0.03, 0.2, 0.9, 1.0])
def test_both_kernels_count_alike_at_any_density(common, density):
    rng = np.random.default_rng(0)
    a, b = (rng.random((60, 300)) < density for _ in range(2))
    places = rng.permutation(300)
    expected = a.astype(int) @ b[:, places].T.astype(int)
    np.testing.assert_array_equal(common(*_layers(a, b), places), expected)


@KERNELS
@given(pair=_mask_pairs())
def test_an_input_that_the_other_network_lacks_is_common_to_none(common, pair):
    a, b = pair
    gone = np.array([*range(a.shape[1] - 1), a.shape[1]])  # B has nothing for A's last input
    expected = _plain_common(a[:, :-1], b[:, :-1])
    np.testing.assert_array_equal(common(*_layers(a, b), gone), expected)


@KERNELS
def test_an_input_that_the_other_network_lacks_is_common_to_none_at_a_words_end(common):
    a = b = np.ones((2, 64), bool)
    gone = np.array([*range(63), 64])
    np.testing.assert_array_equal(common(*_layers(a, b), gone), np.full((2, 2), 63))


def test_inputs_follow_the_matching_in_groups_and_unmatched_ones_fall_outside():
    places = input_places(np.array([2, -1, 0]), in_group=2, n_in=6, n_in_b=8)
    np.testing.assert_array_equal(places, [4, 5, 8, 8, 0, 1])
    places = input_places(np.array([2, -1, 0]), in_group=1, n_in=3, n_in_b=4)
    np.testing.assert_array_equal(places, [2, 4, 0])


@given(_mask_pairs(), st.data())
def test_matched_neurons_cost_what_the_matrix_says(pair, data):
    a, b = pair
    places = np.array(data.draw(st.permutations(range(a.shape[1]))))
    columns = [*range(len(b)), *[-1] * len(a)]
    matching = np.array(data.draw(st.permutations(columns)))[: len(a)]
    matched = matching >= 0
    np.testing.assert_array_equal(
        jaccard_of_matched(*_layers(a, b), places, matching),
        _plain_costs(a, b[:, places])[matched, matching[matched]],
    )
