import numpy as np
import pandas as pd
import pytest

from storage.chance_store import ChanceStore, chance_schema, expected_distances, load_chance
from storage.distance_store import DistanceStore
from storage.distances import load_distances, verify_distances
from storage.errors import CorruptFile, InputError

LAYERS = ["hidden", "output"]


def _labels(n, groups=None, **columns):
    return pd.DataFrame(
        {
            "trial_id": [f"{k // 2:012x}" for k in range(n)],
            "step": [10 * (k % 2) for k in range(n)],
            "epoch": np.arange(n, dtype=np.int32),
            "group": groups or [0] * n,
            **columns,
        }
    )


def _matrix(out, labels, pairs, plan="p"):
    store = DistanceStore(out, "x")
    i, j = np.array(pairs, dtype=np.int32).T
    values = np.column_stack([1 + 10.0 * i + j] * 3)
    store.write_tile(
        "t", "d", i=i, j=j, values=values, canonical=np.ones(len(pairs), bool), layers=LAYERS
    )
    store.write_labels(labels, plan)
    store.assemble([("t", "d")], LAYERS, plan)
    store.write_spec({"plan": plan})


def _levels(rows):
    values = {"network": 0.1, "network_error": 0.01, "hidden": 0.2, "hidden_error": 0.02,
              "output": 0.3, "output_error": 0.03}  # fmt: skip
    return pd.DataFrame(
        [
            {"group": g, "class_i": i, "class_j": j, "samples": 5}
            | {name: value + level for name, value in values.items()}
            for g, i, j, level in rows
        ]
    )


def _classes(labels, classes):
    return labels[["trial_id", "step", "group"]].assign(chance_class=classes)


@pytest.fixture
def square(tmp_path):
    """Four snapshots, of two classes."""
    labels = _labels(4)
    _matrix(tmp_path, labels, [(i, j) for i in range(4) for j in range(i + 1, 4)])
    rows = [(0, "5%", "5%", 0.0), (0, "5%", "20%", 0.1), (0, "20%", "20%", 0.2)]
    levels = _levels(rows)
    store = ChanceStore(tmp_path, "x")
    store.write(levels, _classes(labels, ["5%", "20%", "5%", "20%"]), LAYERS, "digest")
    return tmp_path, store, levels


def test_levels_come_back_as_they_were_written(square):
    out, store, levels = square
    found = load_chance(out, "x")
    assert found.columns.tolist() == chance_schema(LAYERS).names == list(levels.columns)
    pd.testing.assert_frame_equal(found, levels, check_dtype=False)
    assert store.is_current("digest")
    assert not store.is_current("other")
    assert verify_distances(out) == []


def test_expected_distances_fit_the_square_of_distances(square):
    out, _, _ = square
    distances, expected = load_distances(out, "x"), expected_distances(out, "x")
    assert expected.index.equals(distances.index)
    assert expected.columns.equals(distances.columns)
    same, mixed, other = 0.1, 0.2, 0.3
    nan = np.nan
    np.testing.assert_allclose(
        expected.to_numpy(),
        [
            [nan, mixed, same, mixed],
            [mixed, nan, mixed, other],
            [same, mixed, nan, mixed],
            [mixed, other, mixed, nan],
        ],
    )
    layer = expected_distances(out, "x", "output").to_numpy()
    np.testing.assert_allclose(layer - expected.to_numpy(), np.where(np.eye(4), nan, 0.2))
    with pytest.raises(InputError, match="no 'hiden'"):
        expected_distances(out, "x", "hiden")


def test_expected_distances_to_a_reference_are_those_of_its_class(tmp_path):
    labels = _labels(4, reference=pd.array([0, 0, 2, 2], dtype="Int32"))
    _matrix(tmp_path, labels, [(1, 0), (3, 2)])
    levels = _levels([(0, "5%", "20%", 0.0), (0, "20%", "5%", 0.5)])
    classes = _classes(labels, ["20%", "5%", "5%", "20%"])
    ChanceStore(tmp_path, "x").write(levels, classes, LAYERS, "digest")
    found = expected_distances(tmp_path, "x", "hidden")
    assert found.index.equals(load_distances(tmp_path, "x", "hidden").index)
    np.testing.assert_allclose(found["hidden"], [np.nan, 0.2, np.nan, 0.7])
    np.testing.assert_allclose(found["hidden_error"], [np.nan, 0.02, np.nan, 0.52])


def test_groups_are_apart_and_a_layer_that_one_lacks_is_missing(tmp_path):
    labels = _labels(4, [0, 0, 1, 1])
    _matrix(tmp_path, labels, [(0, 1), (2, 3)])
    levels = _levels([(0, "5%", "5%", 0.0), (1, "5%", "5%", 0.5)])
    levels.loc[1, ["output", "output_error"]] = np.nan
    ChanceStore(tmp_path, "x").write(levels, _classes(labels, ["5%"] * 4), LAYERS, "digest")
    assert expected_distances(tmp_path, "x", group=1).iloc[0, 1] == pytest.approx(0.6)
    assert load_chance(tmp_path, "x")["output"].isna().tolist() == [False, True]


def test_without_a_level_the_message_says_how_to_get_one(tmp_path):
    _matrix(tmp_path, _labels(2), [(0, 1)])
    with pytest.raises(InputError, match=r"no chance level: toposweep distances .* --chance 10"):
        load_chance(tmp_path, "x")
    with pytest.raises(InputError, match="no distances named 'y'"):
        load_chance(tmp_path, "y")


def test_levels_of_other_distances_are_never_shown(square):
    out, store, _ = square
    store.distances.write_labels(_labels(4), "another plan")
    assert not store.is_current("digest")
    with pytest.raises(CorruptFile, match="of other distances"):
        load_chance(out, "x")
    store.remove_outdated()
    assert not store.levels.exists()
    assert not store.classes.exists()


def test_levels_of_these_distances_stay(square):
    _, store, _ = square
    store.remove_outdated()
    assert store.is_current("digest")


def test_damage_is_found_and_is_not_current(square):
    out, store, _ = square
    store.levels.write_bytes(store.levels.read_bytes()[:-10])
    assert [error.path for error in verify_distances(out)] == [str(store.levels)]
    assert not store.is_current("digest")
    with pytest.raises(CorruptFile):
        load_chance(out, "x")


def test_a_layer_cannot_have_another_columns_name():
    for layers in (["samples"], ["class_i"], ["a", "a_error"]):
        with pytest.raises(InputError, match="cannot be named"):
            chance_schema(layers)
