"""Drop and growth rules and the first draw, against their definitions one weight at a time."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sweeps.training import positions, rules
from sweeps.training.evolving import redistributed
from sweeps.training.masking import Change, evolve
from sweeps.training.rules import DROPS, GROWS, Growth, LayerState, drop_by_sign, drop_magnitude

# Few different values, so that ties and exact zeros are common.
values = st.sampled_from([-2.0, -1.0, -0.5, -0.1, -0.0, 0.0, 0.1, 0.5, 1.0, 2.0]) | st.floats(
    -3, 3, width=32
)
fractions = st.floats(0.01, 0.99)


class Matrix:
    """Scores that are there as a whole."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self.values[start:stop]


def state(weights, mask, ever=None, scores=None):  # type: ignore[no-untyped-def]
    connected = np.flatnonzero(mask)
    return LayerState(
        mask.shape,
        connected,
        np.asarray(weights, dtype=np.float32).ravel()[connected],
        connected if ever is None else np.flatnonzero(mask | ever),
        None if scores is None else Matrix(np.asarray(scores, dtype=np.float32)),
    )


@st.composite
def layers(draw: st.DrawFn) -> LayerState:
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    mask = draw(arrays.arrays(bool, shape))
    weights = draw(arrays.arrays(np.float32, shape, elements=values))
    ever = draw(arrays.arrays(bool, shape))
    scores = draw(arrays.arrays(np.float32, shape, elements=values))
    return state(weights, mask, ever, scores)


def by_position(layer: LayerState) -> dict[int, float]:
    return dict(zip(layer.connected.tolist(), layer.weights.tolist(), strict=True))


def nearest_zero(left: dict[int, float], count: int) -> set[int]:
    """Taken away one at a time."""
    left, gone = dict(left), set()
    for _ in range(count):
        nearest = min(left, key=lambda position: (abs(left[position]), position))
        gone.add(nearest)
        del left[nearest]
    return gone


@given(layer=layers(), fraction=fractions)
def test_drop_by_sign_takes_the_fraction_nearest_zero_of_each_sign_and_all_exact_zeros(
    layer: LayerState, fraction: float
) -> None:
    weights = by_position(layer)
    expected = {position for position, value in weights.items() if value == 0}
    for sign in (1, -1):
        side = {p: v for p, v in weights.items() if v * sign > 0}
        expected |= nearest_zero(side, round(fraction * len(side)))
    dropped = drop_by_sign(layer, fraction).tolist()
    assert len(set(dropped)) == len(dropped)
    assert set(dropped) == expected


@given(layer=layers(), fraction=fractions)
def test_drop_by_magnitude_takes_the_fraction_nearest_zero(
    layer: LayerState, fraction: float
) -> None:
    weights = by_position(layer)
    expected = nearest_zero(weights, round(fraction * len(weights)))
    dropped = drop_magnitude(layer, fraction).tolist()
    assert len(set(dropped)) == len(dropped)
    assert set(dropped) == expected


@pytest.mark.parametrize("grow", sorted(GROWS))
@pytest.mark.parametrize("drop", sorted(DROPS))
@given(layer=layers(), fraction=fractions, seed=st.integers(0, 99))
def test_an_update_drops_what_was_there_and_grows_as_many_where_nothing_was_kept(
    drop: str, grow: str, layer: LayerState, fraction: float, seed: int
) -> None:
    leaving = DROPS[drop](layer, fraction)
    rng = np.random.default_rng(seed)
    change = evolve(layer, leaving, GROWS[grow], len(leaving), rng)
    old = set(layer.connected.tolist())
    dropped, grown = set(change.dropped.tolist()), set(change.grown.tolist())
    assert dropped <= old
    assert not grown & (old - dropped)
    assert len(change.grown) == len(grown) == len(dropped)
    assert all(0 <= position < layer.size for position in grown)
    assert change.after(layer.connected).tolist() == sorted((old - dropped) | grown)


@given(layer=layers(), fraction=fractions, chunk=st.integers(1, 20))
def test_growth_by_score_takes_the_largest_absolute_scores_among_all_that_are_not_kept(
    layer: LayerState, fraction: float, chunk: int
) -> None:
    assert layer.scores is not None
    leaving = drop_magnitude(layer, fraction)
    kept = set(layer.connected.tolist()) - set(leaving.tolist())
    scores = np.abs(layer.scores.rows(0, layer.shape[0])).ravel()
    free = [position for position in range(layer.size) if position not in kept]
    expected = sorted(free, key=lambda position: (-scores[position], position))[: len(leaving)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "CHUNK_WEIGHTS", chunk)
        change = evolve(layer, leaving, GROWS["gradient"], len(leaving), np.random.default_rng(0))
    assert change.grown.tolist() == sorted(expected)


@given(layer=layers(), fraction=fractions, seed=st.integers(0, 9))
def test_growth_elsewhere_and_unexplored_avoid_as_many_as_they_can(
    layer: LayerState, fraction: float, seed: int
) -> None:
    leaving = drop_magnitude(layer, fraction)
    for name, avoided in (("random_elsewhere", layer.connected), ("unexplored", layer.ever)):
        rng = np.random.default_rng(seed)
        grown = evolve(layer, leaving, GROWS[name], len(leaving), rng).grown
        outside = layer.size - len(avoided)
        new = int(np.count_nonzero(~positions.contained(grown, avoided)))
        assert new == min(len(leaving), outside)


@pytest.mark.parametrize(
    ("grow", "reached"),
    [("random", [0, 2, 3, 5]), ("random_elsewhere", [2, 3, 5]), ("unexplored", [3, 5])],
)
def test_random_growth_reaches_every_position_that_it_may_equally_often(
    grow: str, reached: list[int]
) -> None:
    mask = np.array([[True, True, False], [False, True, False]])
    ever = np.array([[False, False, True], [False, False, False]])
    layer = state([[0.1, 1, 0], [0, 2, 0]], mask, ever)
    counts = np.zeros(6)
    for seed in range(2000):
        leaving = drop_by_sign(layer, 0.3)
        assert leaving.tolist() == [0]
        change = evolve(layer, leaving, GROWS[grow], 1, np.random.default_rng(seed))
        counts[change.grown] += 1
    assert counts.sum() == counts[reached].sum() == 2000
    assert (np.abs(counts[reached] - 2000 / len(reached)) < 100).all()


@given(
    size=st.integers(1, 400),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_draw_has_exactly_as_many_connections_as_asked_for_also_among_the_free(
    size: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    taken = positions.draw(size, round(share * size), rng)
    assert len(taken) == round(share * size)
    assert (np.diff(taken) > 0).all()
    assert not len(taken) or (taken[0] >= 0 and taken[-1] < size)
    count = round(share * (size - len(taken)))
    free = positions.draw_free(taken, size, count, rng)
    assert len(set(free.tolist()) - set(taken.tolist())) == len(free) == count
    assert not len(free) or (free[0] >= 0 and free[-1] < size)


def test_every_position_of_a_first_mask_is_equally_likely() -> None:
    drawn = sum(
        positions.as_mask(positions.draw(20, 6, np.random.default_rng(seed)), (4, 5)).astype(int)
        for seed in range(3000)
    )
    assert (np.abs(drawn - 900) < 130).all()


sets = st.sets(st.integers(0, 40)).map(lambda own: np.array(sorted(own), dtype=np.int64))


@given(a=sets, b=sets)
def test_sorted_positions_behave_as_sets(a: np.ndarray, b: np.ndarray) -> None:
    assert positions.united(a, b).tolist() == sorted({*a.tolist(), *b.tolist()})
    assert positions.without(a, b[::-1]).tolist() == sorted(set(a.tolist()) - set(b.tolist()))
    assert positions.contained(a, b).tolist() == [x in set(b.tolist()) for x in a.tolist()]
    free = [x for x in range(60) if x not in set(a.tolist())]
    assert positions.nth_free(a, np.arange(len(free))).tolist() == free


@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_positions_and_masks_are_the_same_thing(mask: np.ndarray) -> None:
    where = positions.of_mask(mask)
    assert (positions.as_mask(where, mask.shape) == mask).all()
    assert (positions.as_csr(where, mask.shape).toarray() == mask).all()
    assert positions.fan_in(where, mask.shape).tolist() == mask.sum(axis=1).tolist()


def test_a_rule_that_breaks_its_promise_is_caught() -> None:
    layer = state(np.ones((2, 2)), np.array([[True, False], [True, False]]))
    rng = np.random.default_rng(0)

    def growth(choose: Callable[..., np.ndarray]) -> Growth:
        return Growth(choose)

    where_kept = growth(lambda layer, kept, count, rng: kept[:count])
    twice = growth(lambda layer, kept, count, rng: np.array([1, 3]))
    leaving = np.array([0])
    with pytest.raises(AssertionError, match="not connected"):
        evolve(layer, np.array([1]), GROWS["random"], 1, rng)
    with pytest.raises(AssertionError, match="were kept"):
        evolve(layer, leaving, where_kept, 1, rng)
    with pytest.raises(AssertionError, match="2 positions instead of 1"):
        evolve(layer, leaving, twice, 1, rng)


def test_an_update_names_what_changed_and_leaves_the_layer_alone() -> None:
    layer = state(np.eye(4), np.eye(4, dtype=bool))
    leaving = drop_by_sign(layer, 0.5)
    change = evolve(layer, leaving, GROWS["random"], 2, np.random.default_rng(0))
    assert isinstance(change, Change)
    assert change.dropped.tolist() == [0, 5]
    assert layer.connected.tolist() == [0, 5, 10, 15]
    assert layer.weights.tolist() == [1, 1, 1, 1]


@st.composite
def several_layers(draw: st.DrawFn) -> dict[str, LayerState]:
    return {f"layer{k}": draw(layers()) for k in range(draw(st.integers(1, 4)))}


@given(network=several_layers(), fraction=fractions)
def test_redistribution_keeps_the_total_and_gives_by_mean_momentum(
    network: dict[str, LayerState], fraction: float
) -> None:
    dropped = {name: len(drop_magnitude(layer, fraction)) for name, layer in network.items()}
    grown = redistributed(network, dropped)
    assert sum(grown.values()) == sum(dropped.values())
    means = {}
    for name, layer in network.items():
        assert layer.scores is not None
        free = layer.size - len(layer.connected) + dropped[name]
        assert 0 <= grown[name] <= free
        own = np.abs(layer.scores.rows(0, layer.shape[0]).ravel()[layer.connected])
        means[name] = float(own.astype(np.float64).mean()) if len(own) else 0.0
    # Where no layer is full, every share is the proportional one up to rounding.
    if sum(means.values()) and not any(
        grown[n] == layer.size - len(layer.connected) + dropped[n] for n, layer in network.items()
    ):
        total = sum(dropped.values())
        for name, mean in means.items():
            assert abs(grown[name] - total * mean / sum(means.values())) <= 1
