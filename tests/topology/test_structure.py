import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.prepared import prepare
from topology.structure import (
    dead_neurons,
    degree_statistics,
    degrees,
    exploration_rate,
    hamming,
    jaccard,
)

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_hamming_and_jaccard_are_those_of_the_boolean_arrays(networks, seed):
    a, b = networks(seed), networks(seed + 1)
    expected = [((x ^ y).mean(), (x ^ y).sum() / (x | y).sum()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(hamming(a, b), [pair[0] for pair in expected], rtol=1e-15)
    np.testing.assert_allclose(jaccard(a, b), [pair[1] for pair in expected], rtol=1e-15)
    assert hamming(a, a) == jaccard(a, a) == (0.0, 0.0, 0.0)


def test_two_empty_masks_are_equal_and_disjoint_ones_as_far_as_can_be():
    empty, one, other = np.zeros((2, 2), bool), np.eye(2, dtype=bool), ~np.eye(2, dtype=bool)
    assert jaccard([empty], [empty]) == (0.0,)
    assert jaccard([one], [other]) == hamming([one], [other]) == (1.0,)
    assert jaccard([one], [empty]) == (1.0,)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="different shapes"):
        hamming([np.ones((2, 3), bool)], [np.ones((3, 3), bool)])


def test_degrees_count_connections_on_both_sides():
    incoming, outgoing = degrees(np.array([[1, 1, 0], [0, 1, 0]]))
    assert incoming.tolist() == [2, 1]
    assert outgoing.tolist() == [1, 2, 0]


def _paths(masks):
    """Neurons on a path from input to output, by walking every path."""
    alive = [np.zeros(len(mask), bool) for mask in masks]

    def walk(layer, neuron, path):
        if layer == len(masks):
            for index, passed in enumerate(path):
                alive[index][passed] = True
            return
        group = 1 if layer == 0 else masks[layer].shape[1] // len(masks[layer - 1])
        inputs = range(neuron * group, (neuron + 1) * group)
        for following in np.flatnonzero(masks[layer][:, inputs].any(axis=1)):
            walk(layer + 1, int(following), [*path, int(following)])

    for neuron in range(masks[0].shape[1]):
        walk(0, neuron, [])
    return [~neurons for neurons in alive]


@given(SEEDS, st.sampled_from([1, 2]))
def test_dead_neurons_are_on_no_path_from_input_to_output(seed, group):
    rng = np.random.default_rng(seed)
    shapes = [(5, 4), (4, 5 * group), (3, 4)]
    masks = [rng.random(shape) < 0.25 for shape in shapes]
    for found, expected in zip(dead_neurons(masks), _paths(masks), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_full_network_has_no_dead_neurons():
    masks = [np.ones((3, 2), bool), np.ones((2, 3), bool)]
    assert not any(neurons.any() for neurons in dead_neurons(masks))


@given(SEEDS)
def test_exploration_rate_is_the_share_of_connections_ever_seen(networks, seed):
    history = [networks(seed + k) for k in range(3)]
    union = [np.any(masks, axis=0) for masks in zip(*history, strict=True)]
    expected = sum(mask.sum() for mask in union) / sum(mask.size for mask in union)
    assert exploration_rate(iter(history)) == expected


def test_exploration_rate_refuses_nothing_and_different_networks(networks):
    with pytest.raises(ValueError, match="at least one snapshot"):
        exploration_rate([])
    with pytest.raises(ValueError, match="different shapes"):
        exploration_rate([networks(0), networks(0, sizes=(12, 10, 8, 5))])


@given(SEEDS)
def test_degree_statistics_are_those_of_row_and_column_sums(networks, seed):
    masks = networks(seed)
    for mask, sides in zip(masks, degree_statistics(prepare(masks)), strict=True):
        for found, axis in zip(sides, (1, 0), strict=True):
            sums = mask.sum(axis=axis)
            assert (found.least, found.greatest) == (sums.min(), sums.max())
            np.testing.assert_allclose((found.mean, found.sd), (sums.mean(), sums.std()))


def test_prepared_networks_are_taken_as_well(networks):
    a, b = networks(0), networks(1)
    assert hamming(prepare(a), b) == hamming(a, prepare(b)) == hamming(a, b)
    for found, expected in zip(dead_neurons(prepare(a)), dead_neurons(a), strict=True):
        np.testing.assert_array_equal(found, expected)
