import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from topology.assignment import UNMATCHED
from topology.gains import jaccard_gains
from topology.matching import Neurons, match_neurons
from topology.prepared import prepare


@st.composite
def _mask_pairs(draw):
    n_in = draw(st.integers(1, 7))
    shapes = [(draw(st.integers(1, 6)), n_in) for _ in range(2)]
    return [draw(hnp.arrays(bool, shape, elements=st.booleans())) for shape in shapes]


def _matched(a, b, colours=None):
    layers = prepare([a]).layers[0], prepare([b]).layers[0]
    if colours is None:
        colours = [np.zeros(len(a), dtype=np.uint64), np.zeros(len(b), dtype=np.uint64)]
    neurons = [Neurons(x.degrees, c) for x, c in zip(layers, colours, strict=True)]
    return match_neurons(jaccard_gains(*layers, np.arange(a.shape[1])), *neurons)


def _costs(a, b):
    union = (a[:, np.newaxis] | b).sum(axis=2)
    return np.divide((a[:, np.newaxis] ^ b).sum(axis=2), union, where=union > 0, out=union * 0.0)


def _distance(costs, matching):
    rows = np.flatnonzero(matching != UNMATCHED)
    surplus = max(costs.shape) - len(rows)
    return (costs[rows, matching[rows]].sum() + surplus) / max(costs.shape)


@given(_mask_pairs())
def test_no_matching_of_all_permutations_is_closer(pair):
    a, b = sorted(pair, key=len)
    costs = _costs(a, b)
    n, m = costs.shape
    least = min(
        (sum(costs[i, j] for i, j in enumerate(p)) + m - n) / m
        for p in itertools.permutations(range(m), n)
    )
    for first, second in ((a, b), (b, a)):
        distance, matching, gap = _matched(first, second)
        assert distance == pytest.approx(least, abs=1e-12)
        assert _distance(_costs(first, second), matching) == pytest.approx(least, abs=1e-12)
        assert gap <= 1e-12


@pytest.mark.parametrize("density", [0.006, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("related", [True, False])
def test_wide_layers_are_matched_as_well_as_by_scipy_and_certified(density, related):
    rng = np.random.default_rng(0)
    a = rng.random((300, 300)) < density
    moved = rng.random(a.shape) < 0.3
    b = (
        np.where(moved, rng.random(a.shape) < density, a)
        if related
        else rng.random(a.shape) < density
    )
    b = b[rng.permutation(300)]
    distance, matching, gap = _matched(a, b)
    costs = _costs(a, b)
    least = costs[linear_sum_assignment(costs)].mean()
    assert distance == pytest.approx(least, abs=1e-9)
    assert _distance(costs, matching) == pytest.approx(distance, abs=1e-12)
    assert gap <= 1e-12


@given(_mask_pairs())
def test_as_many_neurons_are_matched_as_there_are_and_equal_ones_with_each_other(pair):
    a, b = pair
    _, matching, _ = _matched(a, b)
    rows = np.flatnonzero(matching != UNMATCHED)
    assert len(rows) == min(len(a), len(b))
    assert len(set(matching[rows].tolist())) == len(rows)
    for row in np.unique(a, axis=0):
        equal = (a == row).all(axis=1), (b == row).all(axis=1)
        together = (b[matching[rows]] == row).all(axis=1) & equal[0][rows]
        assert together.sum() == min(equal[0].sum(), equal[1].sum())


def test_equal_neurons_of_one_colour_are_matched_first_and_the_others_in_order():
    a = np.array([[1, 1], [1, 1], [0, 0], [1, 1], [0, 0]], bool)
    colours = [np.array([5, 6, 7, 8, 9], np.uint64), np.array([2, 5, 9, 10, 11], np.uint64)]
    _, matching, _ = _matched(a, a, colours)
    assert matching.tolist() == [1, 0, 4, 3, 2]


def test_neurons_that_gain_nothing_are_matched_in_order():
    a = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], bool)
    b = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]], bool)
    distance, matching, _ = _matched(a, b)
    assert matching.tolist() == [0, 1, 2]
    assert distance == 3 / 4


def test_identical_layers_are_matched_neuron_by_neuron():
    rng = np.random.default_rng(1)
    a = rng.random((50, 6)) < 0.2  # many equal and empty rows
    colours = np.sort(rng.integers(0, 9, 50).astype(np.uint64))
    distance, matching, gap = _matched(a, a, [colours, colours])
    assert (distance, gap) == (0.0, 0.0)
    assert matching.tolist() == list(range(50))
