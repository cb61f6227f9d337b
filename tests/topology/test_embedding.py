import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import MDS

from topology.embedding import metric_mds


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_points_of_a_plane_are_found_again(n: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n, 2))
    distances = squareform(pdist(points))
    found, stress = metric_mds(distances)
    assert stress < 1e-3
    assert np.allclose(squareform(pdist(found)), distances, atol=0.02 * distances.max())


def test_stress_is_no_worse_than_sklearns_from_the_same_number_of_rounds() -> None:
    distances = squareform(pdist(np.random.default_rng(3).normal(size=(30, 6))))
    found, stress = metric_mds(distances)
    gaps = pdist(found) - squareform(distances)
    assert stress == pytest.approx(np.sqrt((gaps**2).sum() / (squareform(distances) ** 2).sum()))
    theirs = MDS(
        metric="precomputed", metric_mds=True, n_init=8, init="random", random_state=0,
        max_iter=300, eps=1e-6, normalized_stress=False,
    ).fit(distances)  # fmt: skip
    their_stress = np.sqrt(theirs.stress_ / (squareform(distances) ** 2).sum())
    assert stress <= 1.05 * their_stress


def test_the_same_distances_give_the_same_points_wide_axis_first() -> None:
    distances = squareform(pdist(np.random.default_rng(1).normal(size=(20, 5))))
    first, second = metric_mds(distances)[0], metric_mds(distances)[0]
    assert (first == second).all()
    assert first[:, 0].std() >= first[:, 1].std()
    assert np.allclose(first.mean(axis=0), 0)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_equal_topologies_lie_on_one_point(n: int) -> None:
    points, stress = metric_mds(np.zeros((n, n)))
    assert points.shape == (n, 2)
    assert stress == 0
    assert not points.any()


def test_networks_that_are_all_equally_far_apart_are_spread_out() -> None:
    points, stress = metric_mds(1.0 - np.eye(12))
    assert pdist(points).min() > 0.1
    assert stress > 0.1


@pytest.mark.parametrize(
    "bad", [np.ones((2, 3)), [[0, np.nan], [np.nan, 0]], [[0, 1], [2, 0]], [[1, 1], [1, 0]]]
)
def test_what_is_no_matrix_of_distances_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="distances"):
        metric_mds(bad)  # type: ignore[arg-type]
