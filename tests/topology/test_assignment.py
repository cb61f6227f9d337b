import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from topology.assignment import UNMATCHED, assign, most_gain
from topology.gains import by_falling_gain

# Few values: ties everywhere; many zeros: rows and columns without any gain.
_TIED = st.sampled_from([0.0, 0.0, 0.0, 0.25, 1 / 3, 0.5, 1.0])
_ANY = st.floats(0, 3, allow_subnormal=False)


def _matrices(elements, side=9):
    shapes = st.tuples(st.integers(1, side), st.integers(1, side))
    return hnp.arrays(float, shapes, elements=elements)


def as_gains(matrix):
    """The positive entries of a matrix as a solver takes them."""
    rows, columns = np.nonzero(matrix)
    indptr = np.concatenate([[0], np.cumsum(np.count_nonzero(matrix, axis=1))])
    return by_falling_gain(indptr.astype(np.int64), columns.astype(np.int32), matrix[rows, columns])


def _check(matrix):
    """The matching is one, is as good as scipy's, and its prices certify that."""
    gains = as_gains(matrix)
    matching, prices = assign(gains, matrix.shape[1])
    rows = np.flatnonzero(matching != UNMATCHED)
    assert len(set(matching[rows].tolist())) == len(rows)
    assert (matrix[rows, matching[rows]] > 0).all()
    total = matrix[rows, matching[rows]].sum()
    best = matrix[linear_sum_assignment(matrix, maximize=True)].sum()
    assert total == pytest.approx(best, abs=1e-9)
    assert prices.min() >= 0
    assert most_gain(gains, prices) - total <= 1e-12 * max(matrix.shape) * max(1.0, matrix.max())


@given(_matrices(_TIED))
def test_tied_and_empty_gains_give_scipys_optimum(matrix):
    _check(matrix)


@given(_matrices(_ANY))
def test_any_gains_give_scipys_optimum(matrix):
    _check(matrix)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.sampled_from([0.01, 0.05, 0.3, 1.0]),
    st.sampled_from([2, 5, 1000]),
)
def test_wide_random_gains_give_scipys_optimum(seed, shape, density, values):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(1, values, shape, endpoint=True) / rng.integers(1, values, endpoint=True)
    _check(np.where(rng.random(shape) < density, matrix, 0.0))


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((4, 6)),
        np.ones((7, 7)),
        np.ones((30, 8)),
        np.full((40, 40), 1 / 3) + np.eye(40) / 7,
        np.eye(12)[:, ::-1],
        np.tri(25),
        np.add.outer(np.arange(20.0), np.arange(20.0)),  # the outer sum: every matching is optimal
        np.multiply.outer(np.arange(20.0), np.arange(20.0)),
        np.outer(np.ones(50), [1.0, 1e-9]),  # fifty rows, two columns
    ],
    ids=["none", "equal", "tall", "nearly-equal", "mirror", "tri", "sum", "product", "two-columns"],
)
def test_degenerate_gains_give_scipys_optimum(matrix):
    _check(matrix)
    _check(matrix.T)


def test_rows_of_thousands_of_pairs_give_scipys_optimum():
    rng = np.random.default_rng(0)
    _check(rng.normal(1 / 3, 0.02, (300, 400)))
    _check(np.round(rng.normal(1 / 3, 0.02, (300, 300)), 2))


@given(_matrices(_ANY), st.data())
def test_no_prices_give_a_bound_below_the_optimum(matrix, data):
    prices = data.draw(hnp.arrays(float, matrix.shape[1], elements=_ANY))
    best = matrix[linear_sum_assignment(matrix, maximize=True)].sum()
    assert most_gain(as_gains(matrix), prices) >= best - 1e-9


@given(_matrices(_ANY))
def test_rows_are_sorted_by_falling_gain_but_for_the_slack(matrix):
    gains = as_gains(matrix)
    for i, row in enumerate(matrix):
        here = slice(gains.indptr[i], gains.indptr[i + 1])
        values = gains.values[here]
        np.testing.assert_array_equal(row[gains.indices[here]], values)
        assert set(gains.indices[here].tolist()) == set(np.flatnonzero(row).tolist())
        later = np.maximum.accumulate(values[::-1])[::-1]
        assert (later <= values + gains.slack).all()
