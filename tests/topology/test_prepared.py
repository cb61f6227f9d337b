import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csc_array, csr_array, random_array

from topology.prepared import prepare


def _lists(connections):
    return np.split(connections.indices, connections.indptr[1:-1])


def _dense(connections, width):
    return np.array([np.isin(np.arange(width), row) for row in _lists(connections)])


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
        np.testing.assert_array_equal(layer.mask.toarray(), mask)
        assert _dense(layer.rows, 9).tolist() == mask.tolist()
        assert _dense(layer.columns, 7).tolist() == [*mask.T.tolist(), [False] * 7]
        assert all((np.diff(row) > 0).all() for row in _lists(layer.rows))


def test_prepare_leaves_the_callers_matrix_alone_and_drops_stored_zeros():
    mask = csr_array((np.array([1, 0, 1]), np.array([2, 1, 0]), np.array([0, 2, 3])), shape=(2, 3))
    (layer,) = prepare([mask]).layers
    assert layer.nnz == 2
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


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_the_bits_of_a_layer_are_its_connections(n_in, seed):
    mask = np.random.default_rng(seed).random((3, n_in)) < 0.5
    (layer,) = prepare([mask]).layers
    unpacked = [layer.bits[k >> 6] >> np.uint64(k & 63) & np.uint64(1) for k in range(n_in)]
    assert np.array(unpacked).T.tolist() == mask.tolist()


def test_a_damaged_sparse_mask_is_refused_and_not_read():
    outside = csr_array((np.ones(2), np.array([0, 7]), np.array([0, 1, 2])), shape=(2, 2))
    with pytest.raises(ValueError, match="the mask of layer 0 is damaged"):
        prepare([outside])
