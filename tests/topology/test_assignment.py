import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from topology.assignment import UNMATCHED, assign, duality_gap, matched_distance

_COSTS = hnp.arrays(
    float,
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    # few values: ties everywhere
    elements=st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]),
)


def _cheapest(costs):
    """The least distance over all matchings, by trying them."""
    if costs.shape[0] > costs.shape[1]:
        costs = costs.T
    n, m = costs.shape
    return min(
        (sum(costs[i, j] for i, j in enumerate(p)) + m - n) / m
        for p in itertools.permutations(range(m), n)
    )


@given(_COSTS)
def test_the_matching_is_the_cheapest_of_all(costs):
    matching = assign(costs)
    matched = matching[matching != UNMATCHED]
    assert len(set(matched.tolist())) == len(matched) == min(costs.shape)
    assert np.isclose(matched_distance(costs, matching), _cheapest(costs), rtol=0, atol=1e-12)


@given(_COSTS)
def test_the_gap_of_an_optimal_matching_is_zero(costs):
    assert duality_gap(costs, assign(costs)) <= 1e-12


@given(_COSTS, st.randoms(use_true_random=False))
def test_the_gap_bounds_what_any_other_matching_could_save(costs, random):
    n, m = costs.shape
    rows = random.sample(range(n), min(n, m))
    matching = np.full(n, UNMATCHED)
    matching[rows] = random.sample(range(m), min(n, m))
    excess = matched_distance(costs, matching) - _cheapest(costs)
    assert duality_gap(costs, matching) >= excess - 1e-12


def test_the_gap_of_wide_random_costs_is_zero():
    rng = np.random.default_rng(0)
    for shape in [(80, 80), (60, 90), (90, 60)]:
        costs = np.minimum(1.0, rng.random(shape) * 2)
        assert duality_gap(costs, assign(costs)) <= 1e-12


def test_surplus_neurons_cost_one_each_over_the_larger_layer():
    costs = np.array([[0.0, 0.5, 1.0], [0.5, 0.25, 1.0]])
    assert matched_distance(costs, assign(costs)) == (0.0 + 0.25 + 1) / 3
    assert matched_distance(costs.T, assign(costs.T)) == (0.0 + 0.25 + 1) / 3
