"""Drop, grow and the first draw, against a reading of their definitions one weight at a time."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sweeps.training.masking import (
    Change,
    LayerState,
    draw_mask,
    drop_by_sign,
    evolve,
    grow_random,
)

# Few different values, so that ties and exact zeros are common.
values = st.sampled_from([-2.0, -1.0, -0.5, -0.1, -0.0, 0.0, 0.1, 0.5, 1.0, 2.0]) | st.floats(
    -3, 3, width=32
)
fractions = st.floats(0.01, 0.99)


@st.composite
def layers(draw: st.DrawFn) -> LayerState:
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    mask = draw(arrays.arrays(bool, shape))
    weights = draw(arrays.arrays(np.float32, shape, elements=values))
    return LayerState(np.where(mask, weights, np.float32(0)), mask)


def connected_values(layer: LayerState) -> Iterator[tuple[int, float]]:
    for position in range(layer.mask.size):
        if layer.mask.flat[position]:
            yield position, float(layer.weights.flat[position])


def dropped_one_by_one(layer: LayerState, fraction: float) -> set[int]:
    """SET's drop, read from its definition: take the nearest to zero away, one at a time."""
    dropped = {position for position, value in connected_values(layer) if value == 0}
    for sign in (1, -1):
        left = {p: v * sign for p, v in connected_values(layer) if v * sign > 0}
        for _ in range(round(fraction * len(left))):
            nearest = min(left, key=lambda position: (left[position], position))
            dropped.add(nearest)
            del left[nearest]
    return dropped


@given(layer=layers(), fraction=fractions)
def test_drop_takes_exactly_the_fraction_nearest_zero_of_each_sign_and_all_exact_zeros(
    layer: LayerState, fraction: float
) -> None:
    dropped = drop_by_sign(layer, fraction)
    assert len(set(dropped.tolist())) == len(dropped)
    assert set(dropped.tolist()) == dropped_one_by_one(layer, fraction)


@given(layer=layers(), fraction=fractions, seed=st.integers(0, 99))
def test_an_update_keeps_the_count_and_grows_only_where_nothing_was_kept(
    layer: LayerState, fraction: float, seed: int
) -> None:
    change = evolve(layer, fraction, drop_by_sign, grow_random, np.random.default_rng(seed))
    old = set(np.flatnonzero(layer.mask).tolist())
    dropped, grown = set(change.dropped.tolist()), set(change.grown.tolist())
    assert dropped <= old
    assert not grown & (old - dropped)
    assert len(change.grown) == len(grown) == len(dropped)
    assert all(0 <= position < layer.mask.size for position in grown)


def test_growth_reaches_every_free_position_equally_often_the_just_dropped_ones_too() -> None:
    mask = np.array([[True, True, False], [False, True, False]])
    layer = LayerState(np.array([[0.1, 1, 0], [0, 2, 0]], dtype=np.float32), mask)
    counts = np.zeros(6)
    for seed in range(2000):
        change = evolve(layer, 0.3, drop_by_sign, grow_random, np.random.default_rng(seed))
        assert change.dropped.tolist() == [0]
        counts[change.grown] += 1
    assert counts[[1, 4]].sum() == 0
    assert (np.abs(counts[[0, 2, 3, 5]] - 500) < 100).all()


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_first_mask_has_exactly_as_many_connections_as_asked_for(
    shape: tuple[int, int], share: float, seed: int
) -> None:
    count = round(share * shape[0] * shape[1])
    mask = draw_mask(shape, count, np.random.default_rng(seed))
    assert mask.shape == shape
    assert mask.dtype == bool
    assert mask.sum() == count


def test_every_position_of_a_first_mask_is_equally_likely() -> None:
    drawn = sum(
        draw_mask((4, 5), 6, np.random.default_rng(seed)).astype(int) for seed in range(3000)
    )
    assert (np.abs(drawn - 900) < 130).all()


def test_a_rule_that_breaks_its_promise_is_caught() -> None:
    layer = LayerState(np.ones((2, 2), np.float32), np.array([[True, False], [True, False]]))
    rng = np.random.default_rng(0)

    def drop_what_is_not_there(layer: LayerState, fraction: float) -> np.ndarray:
        return np.array([1])

    def grow_what_is_there(layer, kept, count, rng) -> np.ndarray:  # type: ignore[no-untyped-def]
        return np.flatnonzero(kept)[:count]

    def grow_twice(layer, kept, count, rng) -> np.ndarray:  # type: ignore[no-untyped-def]
        return np.flatnonzero(~kept)[: 2 * count]

    with pytest.raises(AssertionError, match="not connected"):
        evolve(layer, 0.5, drop_what_is_not_there, grow_random, rng)
    with pytest.raises(AssertionError, match="were kept"):
        evolve(layer, 0.5, drop_by_sign, grow_what_is_there, rng)
    with pytest.raises(AssertionError, match="changed the number"):
        evolve(layer, 0.5, drop_by_sign, grow_twice, rng)


def test_an_update_names_what_changed_and_leaves_the_layer_alone() -> None:
    layer = LayerState(np.eye(4, dtype=np.float32), np.eye(4, dtype=bool))
    change = evolve(layer, 0.5, drop_by_sign, grow_random, np.random.default_rng(0))
    assert isinstance(change, Change)
    assert change.dropped.tolist() == [0, 5]
    assert (layer.mask == np.eye(4, dtype=bool)).all()
    assert (layer.weights == np.eye(4)).all()
