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


def asked(name: str, value: float, n: int) -> Target:
    """A target of which the distribution looks at one thing."""
    if name == "epsilon":
        return Target(epsilon=value)
    return Target(densities=[value] * n) if name == "explicit" else Target(density=value)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_everything_asked_for_is_a_dense_network(name: str) -> None:
    layers = [(7, 5), (3, 7), (100, 3)]
    counts = DISTRIBUTIONS[name](layers, asked(name, 1e6 if name == "epsilon" else 1.0, 3))
    assert counts == [35, 21, 300]


@pytest.mark.parametrize("name", sorted(set(DISTRIBUTIONS) - {"uniform_plus"}))
def test_a_layer_without_connections_is_refused_with_the_value_that_empties_it(name: str) -> None:
    with pytest.raises(InputError, match=r"1e-06.* is not allowed: masked layer 1 of 2 \(7 x 5\)"):
        DISTRIBUTIONS[name]([(7, 5), (3, 7)], asked(name, 1e-6, 2))


@given(layers=shapes, density=st.floats(0.001, 1))
def test_uniform_plus_has_a_dense_first_layer_the_exact_total_and_equal_shares(
    layers: list[tuple[int, int]], density: float
) -> None:
    sizes = sizes_of(layers)
    total = round(density * int(sizes.sum()))
    try:
        counts = np.array(DISTRIBUTIONS["uniform_plus"](layers, Target(density=density)))
    except InputError:
        rest = (total - sizes[0]) * sizes[1:] / max(1, sizes[1:].sum())
        assert len(layers) == 1 or (rest < 1).any()
        return
    assert counts[0] == sizes[0]
    assert counts.sum() == total
    assert (np.abs(counts[1:] - (total - sizes[0]) * sizes[1:] / sizes[1:].sum()) < 1).all()


def test_the_kernel_counts_in_erk_and_in_erk_alone() -> None:
    """Against a bisection on the real-valued equation of the paper."""
    layers: list[tuple[int, ...]] = [(64, 3, 3, 3), (128, 64, 3, 3), (10, 512)]
    sizes = np.array([int(np.prod(shape)) for shape in layers])
    sums = np.array([sum(shape) for shape in layers])
    total = round(0.1 * int(sizes.sum()))
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.minimum(middle * sums, sizes).sum() < total else (low, middle)
        )
    expected = np.minimum(low * sums, sizes)
    counts = np.array(DISTRIBUTIONS["erk"](layers, Target(density=0.1)))
    assert counts.sum() == total
    assert (np.abs(counts - expected) < 1).all()
    matrices = [(64, 27), (128, 576), (10, 512)]
    by_matrix = DISTRIBUTIONS["erdos_renyi"](layers, Target(density=0.1))
    assert by_matrix == DISTRIBUTIONS["erk"](matrices, Target(density=0.1))
    assert by_matrix != counts.tolist()


def test_explicit_densities_are_one_for_each_masked_layer() -> None:
    with pytest.raises(InputError, match=r"one for each of the 2 masked layers"):
        DISTRIBUTIONS["explicit"]([(7, 5), (3, 7)], Target(densities=[0.5]))
