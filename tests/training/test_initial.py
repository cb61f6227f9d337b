"""First weights and the weights of new connections."""

import numpy as np
import pytest

from sweeps.training import positions
from sweeps.training.initial import NEW_WEIGHTS, he_by_fan_in, he_by_layer


def started(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """First weights as a matrix, 0 off the mask."""
    weights = np.zeros(mask.shape, dtype=np.float32)
    weights[mask] = he_by_fan_in(np.flatnonzero(mask), mask.shape, np.random.default_rng(seed))
    return weights


def test_first_weights_have_he_variance_of_each_neurons_own_fan_in() -> None:
    mask = np.zeros((3, 6000), dtype=bool)
    mask[0, :6000] = True
    mask[1, :1500] = True
    drawn = he_by_fan_in(np.flatnonzero(mask), mask.shape, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    weights = started(mask)
    assert weights[0].std() == pytest.approx(np.sqrt(2 / 6000), rel=0.05)
    assert weights[1, :1500].std() == pytest.approx(np.sqrt(2 / 1500), rel=0.05)
    assert not weights[1, 1500:].any()
    assert not weights[2].any()


def test_networks_with_other_masks_share_their_draws() -> None:
    shape = (30, 40)
    full = np.ones(shape, dtype=bool)
    sparse = positions.as_mask(positions.draw(1200, 300, np.random.default_rng(1)), shape)
    dense_start, sparse_start = started(full, 7), started(sparse, 7)
    ratio = np.sqrt(40 / np.maximum(sparse.sum(axis=1), 1))[:, None]
    np.testing.assert_allclose(sparse_start, np.where(sparse, dense_start * ratio, 0), rtol=1e-5)


def test_draws_do_not_depend_on_how_many_rows_are_made_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected = positions.draw(1200, 300, np.random.default_rng(1))
    whole = he_by_fan_in(connected, (30, 40), np.random.default_rng(7))
    for weights in (1, 41, 500):
        monkeypatch.setattr("sweeps.training.initial.CHUNK_WEIGHTS", weights)
        by_rows = he_by_fan_in(connected, (30, 40), np.random.default_rng(7))
        assert (by_rows == whole).all()


def test_the_dense_layers_start_has_one_scale_whatever_the_mask() -> None:
    connected = np.arange(0, 50 * 600, 7)
    weights = he_by_layer(connected, (50, 600), np.random.default_rng(0))
    assert weights.std() == pytest.approx(np.sqrt(2 / 600), rel=0.05)


def test_new_weights_follow_their_rule() -> None:
    fan_in = np.repeat([4, 100], 20000)
    drawn = {name: rule(np.random.default_rng(0), fan_in) for name, rule in NEW_WEIGHTS.items()}
    assert all(values.dtype == np.float32 for values in drawn.values())
    assert not drawn["zero"].any()
    assert drawn["normal"].std() == pytest.approx(0.1, rel=0.05)
    assert abs(drawn["normal"].mean()) < 0.005
    for part, bound in ((slice(0, 20000), np.sqrt(6 / 4)), (slice(20000, None), np.sqrt(6 / 100))):
        values = drawn["he_uniform"][part]
        assert np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
