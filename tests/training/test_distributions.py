"""Counts against the formulas, got another way: real-valued, by bisection."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from storage.errors import InputError
from sweeps.training.distributions import DISTRIBUTIONS, Target, epsilon, erdos_renyi, uniform

shapes = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=6)
densities = st.floats(0.001, 1.0)


def sizes_of(layers: list[tuple[int, int]]) -> np.ndarray:
    return np.array([n_out * n_in for n_out, n_in in layers])


@given(layers=shapes, density=densities)
def test_erdos_renyi_total_is_exact_and_each_layer_within_one_of_the_real_solution(
    layers: list[tuple[int, int]], density: float
) -> None:
    sizes = sizes_of(layers)
    total = round(density * int(sizes.sum()))
    try:
        counts = np.array(erdos_renyi(layers, Target(density=density)))
    except InputError:
        return  # a layer would be empty; see below
    sums = np.array([n_out + n_in for n_out, n_in in layers])

    def excess(scale: float) -> float:
        return float(np.minimum(scale * sums, sizes).sum() - total)

    scale = brentq(excess, 0, float((sizes / sums).max()) + 1, xtol=1e-12, rtol=1e-14)
    assert counts.sum() == total
    assert (counts <= sizes).all()
    assert (np.abs(counts - np.minimum(scale * sums, sizes)) < 1 + 1e-6).all()


@given(layers=shapes, density=densities)
def test_erdos_renyi_remainders_go_to_the_layers_that_lost_most(
    layers: list[tuple[int, int]], density: float
) -> None:
    try:
        counts = erdos_renyi(layers, Target(density=density))
    except InputError:
        return
    sizes = sizes_of(layers)
    sparse = [i for i, count in enumerate(counts) if count < sizes[i]]
    if not sparse:
        return
    rest = Fraction(sum(counts[i] for i in sparse), sum(sum(layers[i]) for i in sparse))
    exact = [rest * sum(layers[i]) for i in sparse]
    # Layers that are full only by rounding up may be missing from `sparse`: then nothing to say.
    if all(
        int(value) <= counts[i] <= int(value) + 1 for value, i in zip(exact, sparse, strict=True)
    ):
        up = [v - int(v) for v, i in zip(exact, sparse, strict=True) if counts[i] > int(v)]
        down = [v - int(v) for v, i in zip(exact, sparse, strict=True) if counts[i] == int(v)]
        assert not up or not down or min(up) >= max(down)


def test_a_layer_with_probability_above_one_becomes_dense_and_the_rest_is_solved_again() -> None:
    # By hand: total 0.1 * 10300 = 1030; e = 1030/330 = 3.12, so the second layer (p = 3.12 * 130 /
    # 300 = 1.35) is dense, and 730 are left for the first.
    assert erdos_renyi([(100, 100), (30, 10)], Target(density=0.1)) == [
        1030 - round(1030 / 240 * 40),
        round(1030 / 240 * 40),
    ]
    assert erdos_renyi([(100, 100), (3, 100)], Target(density=0.1)) == [730, 300]


@given(layers=shapes, value=st.floats(0.5, 400.0))
def test_epsilon_is_the_formula_of_set_and_dense_where_its_probability_exceeds_one(
    layers: list[tuple[int, int]], value: float
) -> None:
    counts = epsilon(layers, Target(epsilon=value))
    for count, (n_out, n_in) in zip(counts, layers, strict=True):
        probability = value * (n_in + n_out) / (n_in * n_out)
        if probability >= 1:
            assert count == n_in * n_out
        else:
            assert abs(count - probability * n_in * n_out) <= 0.5 + 1e-9


@given(layers=shapes, density=densities)
def test_uniform_gives_each_layer_its_own_rounded_share(
    layers: list[tuple[int, int]], density: float
) -> None:
    try:
        counts = uniform(layers, Target(density=density))
    except InputError:
        assert any(round(density * size) == 0 for size in sizes_of(layers))
        return
    for count, size in zip(counts, sizes_of(layers), strict=True):
        assert abs(count - density * size) <= 0.5


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_everything_asked_for_is_a_dense_network(name: str) -> None:
    layers = [(7, 5), (3, 7), (100, 3)]
    counts = DISTRIBUTIONS[name](layers, Target(density=1.0, epsilon=1e6))
    assert counts == [35, 21, 300]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_layer_without_connections_is_refused_with_the_value_that_empties_it(name: str) -> None:
    target = Target(epsilon=1e-6) if name == "epsilon" else Target(density=1e-6)
    with pytest.raises(InputError, match=r"1e-06 is not allowed: masked layer 1 of 2 \(7 x 5\)"):
        DISTRIBUTIONS[name]([(7, 5), (3, 7)], target)
