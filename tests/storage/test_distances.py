import itertools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from storage import distances
from storage.distance_schema import distance_schema
from storage.distance_store import DistanceStore
from storage.distances import list_distances, load_distances, verify_distances
from storage.errors import CorruptFile, InputError

LAYERS = ["hidden", "output"]


def _labels(groups, **columns):
    n = len(groups)
    labels = {
        "trial_id": [f"{k:012x}" for k in range(n)],
        "step": np.arange(n, dtype=np.int64) * 10,
        "epoch": np.arange(n, dtype=np.int32),
        "group": groups,
    }
    return pd.DataFrame(labels | columns)


def _write(store, tile, digest, pairs, layers=LAYERS):
    """A tile with distances that tell which pair and column they are of."""
    pairs = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    base = 1 + pairs[:, 0] * 100.0 + pairs[:, 1]
    values = np.column_stack([base + column / 10 for column in range(1 + len(layers))])
    store.write_tile(
        tile,
        digest,
        i=pairs[:, 0],
        j=pairs[:, 1],
        values=values,
        canonical=np.ones(len(pairs), bool),
        layers=layers,
    )


def _complete(store, labels, tiles, layers=LAYERS, plan="p", **spec):
    store.write_labels(labels, plan)
    store.assemble(tiles, layers, plan)
    content = {
        "name": store.name,
        "method": "layerwise",
        "against": None,
        "snapshots": len(labels),
        "pairs": 0,
        "groups": [len(labels)],
        "layers": list(layers),
        "plan": plan,
    }
    store.write_spec(content | spec)


@pytest.fixture
def square(tmp_path):
    """Four snapshots, all pairs, in two tiles."""
    store = DistanceStore(tmp_path, "final")
    pairs = list(itertools.combinations(range(4), 2))
    _write(store, "a", "1", pairs[:4])
    _write(store, "b", "2", pairs[4:])
    _complete(store, _labels([0] * 4, seed=[0, 1, 2, 3]), [("a", "1"), ("b", "2")])
    return SimpleNamespace(out=tmp_path, store=store, pairs=pairs)


def test_a_square_has_every_pair_on_both_sides_and_zero_between(square):
    found = load_distances(square.out, "final", column="output")
    assert found.index.names == found.columns.names == ["trial_id", "step"]
    assert found.index.tolist() == [(f"{k:012x}", 10 * k) for k in range(4)]
    expected = np.zeros((4, 4))
    for i, j in square.pairs:
        expected[i, j] = expected[j, i] = 1 + 100 * i + j + 0.2
    np.testing.assert_array_equal(found.to_numpy(), expected)
    network = load_distances(square.out, "final")
    assert network.loc[("000000000001", 10), ("000000000003", 30)] == 104.0


def test_the_matrix_has_the_documented_columns_and_types(square):
    schema = pq.read_schema(square.store.matrix)
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types == {
        "i": "int32",
        "j": "int32",
        "network": "double",
        "canonical": "bool",
        "hidden": "double",
        "output": "double",
    }
    assert len(pd.read_parquet(square.store.matrix)) == 6


def test_labels_name_the_positions_and_keep_columns_of_any_kind(tmp_path):
    store = DistanceStore(tmp_path, "x")
    mixed = _labels([0, 0], mixed=["a", 1], nothing=[None, None], density=[0.1, np.nan])
    store.write_labels(mixed, "p")
    types = pq.read_schema(store.labels)
    expected = {"index": "int32", "trial_id": "string", "step": "int64", "epoch": "int32"}
    expected["group"] = "int32"
    assert {name: str(types.field(name).type) for name in expected} == expected
    table = pd.read_parquet(store.labels)
    assert table["index"].tolist() == [0, 1]
    assert table["mixed"].tolist() == ['"a"', "1"]
    assert store.read_labels()["density"].isna().tolist() == [False, True]


def test_groups_are_loaded_one_at_a_time_and_layers_are_united(tmp_path):
    store = DistanceStore(tmp_path, "mixed")
    _write(store, "a", "1", [(0, 1)], layers=["hidden", "output"])
    _write(store, "b", "2", [(2, 3)], layers=["conv", "output"])
    _complete(store, _labels([0, 0, 1, 1]), [("a", "1"), ("b", "2")], ["hidden", "output", "conv"])
    with pytest.raises(InputError, match="choose group 0, 1"):
        load_distances(tmp_path, "mixed")
    with pytest.raises(InputError, match="no group 7: 0, 1"):
        load_distances(tmp_path, "mixed", group=7)
    second = load_distances(tmp_path, "mixed", "conv", group=1)
    assert second.index.get_level_values("step").tolist() == [20, 30]
    assert second.iloc[0, 1] == 1 + 203 + 0.1
    with pytest.raises(InputError, match="group 0 of 'mixed' have no 'conv'"):
        load_distances(tmp_path, "mixed", "conv", group=0)
    assert pd.read_parquet(store.matrix)["conv"].isna().tolist() == [True, False]


def test_distances_to_a_reference_come_as_a_tidy_table(tmp_path):
    store = DistanceStore(tmp_path, "evolution")
    # Trial A: steps 0, 10, 20 against 0. Trial B: step 40 against 30, which is not selected.
    labels = _labels([0] * 5, method_name=["set"] * 3 + ["static"] * 2)
    labels["trial_id"] = ["A", "A", "A", "B", "B"]
    labels["reference"] = pd.array([0, 0, 0, None, 3], dtype="Int32")
    _write(store, "a", "1", [(1, 0), (2, 0), (4, 3)])
    _complete(store, labels, [("a", "1")], against="first")
    found = load_distances(tmp_path, "evolution", "hidden")
    assert found.index.tolist() == [("A", 0), ("A", 10), ("A", 20), ("B", 40)]
    assert found["reference_step"].tolist() == [0, 0, 0, 30]
    assert found["hidden"].tolist() == [0.0, 101.1, 201.1, 404.1]
    assert found["method_name"].tolist() == ["set", "set", "set", "static"]
    assert {"epoch", "group"} <= set(found.columns)


def test_a_tidy_table_has_the_groups_that_have_the_layer(tmp_path):
    store = DistanceStore(tmp_path, "evolution")
    labels = _labels([0, 0, 1, 1])
    labels["trial_id"] = ["A", "A", "B", "B"]
    labels["reference"] = pd.array([0, 0, 2, 2], dtype="Int32")
    _write(store, "a", "1", [(1, 0)], layers=["hidden"])
    _write(store, "b", "2", [(3, 2)], layers=["conv"])
    tiles = [("a", "1"), ("b", "2")]
    _complete(store, labels, tiles, ["hidden", "conv"], against="first")
    assert load_distances(tmp_path, "evolution").index.tolist() == [
        ("A", 0),
        ("A", 10),
        ("B", 20),
        ("B", 30),
    ]
    assert load_distances(tmp_path, "evolution", "conv")["conv"].tolist() == [0.0, 303.1]
    assert len(load_distances(tmp_path, "evolution", group=0)) == 2
    with pytest.raises(InputError, match="group 0 of 'evolution' have no 'conv'"):
        load_distances(tmp_path, "evolution", "conv", group=0)


def test_what_is_not_there_is_named_with_what_is(square):
    with pytest.raises(InputError, match=r"no distances named 'x' .*: there are final"):
        load_distances(square.out, "x")
    with pytest.raises(InputError, match="have no 'hiden': network, hidden, output"):
        load_distances(square.out, "final", column="hiden")
    with pytest.raises(InputError, match="have no 'i': network"):
        load_distances(square.out, "final", column="i")
    with pytest.raises(InputError, match="there are none"):
        load_distances(square.out / "elsewhere", "final")


def test_too_many_snapshots_for_a_square_point_to_the_long_form(square, monkeypatch):
    monkeypatch.setattr(distances, "LARGEST_SQUARE", 3)
    with pytest.raises(InputError, match=r"4 snapshots are too many .* read .*matrix\.parquet"):
        load_distances(square.out, "final")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "ünder", "a" * 65])
def test_a_name_that_is_no_folders_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be named"):
        DistanceStore(tmp_path, name)


def test_a_tile_is_current_only_whole_and_with_its_digest(square):
    store = square.store
    assert store.current_tiles({"a": "1"}) == {"a"}
    assert not store.current_tiles({"a": "2"})
    assert not store.current_tiles({"c": "1"})
    path = store.tile_path("a")
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[: len(whole) // 2], b"", b"PAR1" * 10):
        path.write_bytes(damaged)
        assert not store.current_tiles({"a": "1"})


def test_a_flipped_bit_in_any_column_is_noticed(square):
    store, path = square.store, square.store.tile_path("a")
    whole = path.read_bytes()
    metadata = pq.read_metadata(path)
    for column in range(metadata.num_columns):
        chunk = metadata.row_group(0).column(column)
        flipped = bytearray(whole)
        flipped[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
        path.write_bytes(flipped)
        assert not store.current_tiles({"a": "1"}), chunk.path_in_schema


def test_assembling_refuses_missing_and_foreign_tiles_and_keeps_the_old_matrix(square):
    before = square.store.matrix.read_bytes()
    with pytest.raises(CorruptFile, match=r"c\.parquet: this tile is missing"):
        square.store.assemble([("a", "1"), ("c", "3")], LAYERS, "q")
    with pytest.raises(CorruptFile, match=r"b\.parquet: this tile holds other pairs"):
        square.store.assemble([("a", "1"), ("b", "3")], LAYERS, "q")
    assert square.store.matrix.read_bytes() == before
    assert not list(square.store.folder.glob(".*"))


def test_many_small_tiles_become_few_row_groups(tmp_path):
    store = DistanceStore(tmp_path, "many")
    pairs = list(itertools.combinations(range(12), 2))
    for number, pair in enumerate(pairs):
        _write(store, str(number), str(number), [pair])
    store.assemble([(str(k), str(k)) for k in range(len(pairs))], LAYERS, "p")
    matrix = pq.ParquetFile(store.matrix)
    assert (matrix.metadata.num_rows, matrix.metadata.num_row_groups) == (66, 1)


def test_tiles_of_another_plan_are_removed_and_others_stay(square):
    assert square.store.remove_other_tiles(["b"]) == 1
    assert [path.name for path in square.store.tiles.iterdir()] == ["b.parquet"]


def test_a_matrix_that_is_not_the_labels_is_refused(square):
    square.store.write_labels(_labels([0] * 4), "another plan")
    with pytest.raises(CorruptFile, match="compute these distances again"):
        load_distances(square.out, "final")
    (found,) = verify_distances(square.out)
    assert found.path == str(square.store.matrix)


def test_a_matrix_without_some_pairs_is_refused(tmp_path):
    store = DistanceStore(tmp_path, "half")
    _write(store, "a", "1", [(0, 1)])
    _complete(store, _labels([0] * 3), [("a", "1")])
    with pytest.raises(CorruptFile, match="has 1 of 3 pairs"):
        load_distances(tmp_path, "half")


def test_verify_names_every_damaged_file_and_passes_whole_ones(square):
    assert verify_distances(square.out) == []
    for path in (square.store.tile_path("b"), square.store.matrix):
        path.write_bytes(path.read_bytes()[:-10])
    assert [error.path for error in verify_distances(square.out)] == [
        str(square.store.tile_path("b")),
        str(square.store.matrix),
    ]
    with pytest.raises(CorruptFile, match=r"matrix\.parquet: cannot be read"):
        load_distances(square.out, "final")


@pytest.mark.parametrize("damage", ["{", "[]", None])
def test_a_damaged_or_missing_spec_is_found(square, damage):
    if damage is None:
        square.store.spec.unlink()
    else:
        square.store.spec.write_text(damage)
    assert [error.path for error in verify_distances(square.out)] == [str(square.store.spec)]


def test_an_interrupted_stage_is_no_damage(tmp_path):
    store = DistanceStore(tmp_path, "begun")
    _write(store, "a", "1", [(0, 1)])
    assert verify_distances(tmp_path) == []
    assert list_distances(tmp_path) == []


def test_finished_distances_are_listed_with_one_line_each(square):
    (found,) = list_distances(square.out)
    assert (found.name, found.snapshots, found.layers) == ("final", 4, ("hidden", "output"))
    assert found.describe().startswith("final: 4 snapshots, 0 pairs (layerwise, all pairs)")
    spec = json.loads(square.store.spec.read_text())
    square.store.write_spec({k: v for k, v in spec.items() if k != "pairs"})
    with pytest.raises(CorruptFile, match=r"spec\.json: 'pairs' is missing"):
        list_distances(square.out)


@pytest.mark.parametrize("layers", [["network"], ["i"], ["a", "a"]])
def test_a_layer_with_the_name_of_another_column_is_refused(layers):
    with pytest.raises(InputError, match="a layer cannot be named"):
        distance_schema(layers)
