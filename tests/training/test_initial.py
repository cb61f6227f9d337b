"""First weights and the weights of new connections."""

import numpy as np
import pytest

from sweeps.training.initial import NEW_WEIGHTS, he_by_fan_in
from sweeps.training.masking import draw_mask


def test_first_weights_have_he_variance_of_each_neurons_own_fan_in() -> None:
    mask = np.zeros((3, 6000), dtype=bool)
    mask[0, :6000] = True
    mask[1, :1500] = True
    weights = he_by_fan_in(mask, np.random.default_rng(0))
    assert weights.dtype == np.float32
    assert weights[0].std() == pytest.approx(np.sqrt(2 / 6000), rel=0.05)
    assert weights[1, :1500].std() == pytest.approx(np.sqrt(2 / 1500), rel=0.05)
    assert not weights[1, 1500:].any()
    assert not weights[2].any()


def test_networks_with_other_masks_share_their_draws() -> None:
    shape = (30, 40)
    full = np.ones(shape, dtype=bool)
    sparse = draw_mask(shape, 300, np.random.default_rng(1))
    dense_start = he_by_fan_in(full, np.random.default_rng(7))
    sparse_start = he_by_fan_in(sparse, np.random.default_rng(7))
    ratio = np.sqrt(40 / np.maximum(sparse.sum(axis=1), 1))[:, None]
    np.testing.assert_allclose(sparse_start, np.where(sparse, dense_start * ratio, 0), rtol=1e-5)


def test_weights_off_the_mask_are_positive_zero() -> None:
    mask = draw_mask((20, 20), 40, np.random.default_rng(0))
    weights = he_by_fan_in(mask, np.random.default_rng(0))
    assert not np.signbit(weights[~mask]).any()


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
