import os
import pickle

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from snapshots import append, assert_masks, keys, layers_of, masks_of, trial

from storage import InputError, LayerMask, MaskStore
from storage.attempts import claim_attempt
from storage.records import TrialRecord, write_record
from storage.schema import MASK_SCHEMA


@pytest.fixture
def store(tmp_path):
    return MaskStore(tmp_path)


def test_a_snapshot_is_durable_before_append_returns(store, monkeypatch):
    """Everything that names or holds it has been synced, and nothing is written after that."""
    synced = set()
    fsync = os.fsync

    def seen(descriptor):
        synced.add(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    path = append(store, trial(1), 0)
    assert path == store.out / "masks" / "staging" / trial(1) / "00000000-a1.parquet"
    assert os.listdir(path.parent) == [path.name]
    for folder in (path.parent, *path.parent.parents[:3]):
        assert str(folder) in synced
    assert any(name.endswith(".tmp") for name in synced)


def test_what_was_appended_is_loaded_before_and_after_compaction(store):
    expected = [(trial(number), step) for number in (3, 1, 2) for step in (0, 10, 20)]
    for key in expected:
        append(store, *key)
    assert_masks(store, expected)
    store.compact()
    assert_masks(store, expected)
    append(store, trial(1), 30)
    assert_masks(store, [*expected, (trial(1), 30)])


def test_load_many_keeps_the_order_of_the_keys(store):
    wanted = [(trial(2), 10), (trial(1), 0), (trial(2), 10), (trial(3), 20)]
    for number in (1, 2, 3):
        for step in (0, 10, 20):
            append(store, trial(number), step)
    store.compact()
    append(store, trial(1), 30)
    loaded = store.load_many(wanted)
    for key, masks in zip(wanted, loaded, strict=True):
        for name, mask in masks_of(*key).items():
            np.testing.assert_array_equal(masks[name].toarray(), mask)
    assert store.load_many([]) == []


def test_the_same_snapshot_twice_is_there_once(store):
    append(store, trial(1), 0)
    append(store, trial(1), 0)
    assert keys(store) == [(trial(1), 0, 1)]
    store.compact()
    append(store, trial(1), 0)
    assert keys(store) == [(trial(1), 0, 1)]
    assert store.compact().rows == 3
    assert_masks(store, [(trial(1), 0)])


def test_other_masks_under_a_committed_key_are_refused(store):
    append(store, trial(1), 0)
    with pytest.raises(InputError, match="other masks of this trial, step and attempt"):
        store.append(trial(1), "tiny", 0, 0, 1, layers_of(trial(1), 10))
    assert_masks(store, [(trial(1), 0)])


def test_a_later_attempt_fences_off_earlier_rows_beyond_its_first_step(store):
    claim_attempt(store.out, trial(1), -1)
    for step in (0, 10, 20, 30):
        append(store, trial(1), step, attempt=1)
    claim_attempt(store.out, trial(1), 10)
    assert keys(store) == [(trial(1), 0, 1), (trial(1), 10, 1)]
    append(store, trial(1), 20, attempt=2)
    append(store, trial(1), 40, attempt=1)  # a zombie
    expected = [(trial(1), 0, 1), (trial(1), 10, 1), (trial(1), 20, 2)]
    assert keys(store) == expected
    store.compact()
    assert keys(store) == expected
    append(store, trial(1), 50, attempt=1)
    assert keys(store) == expected
    claim_attempt(store.out, trial(1), -1)
    assert keys(store) == []
    with pytest.raises(InputError, match="holds no snapshot of this trial"):
        store.load(trial(1), 10)
    store.compact()
    table = pd.read_parquet(store.out / "masks" / "compact") if store.usage()[0] else pd.DataFrame()
    assert table.empty


def test_the_index_has_the_designs_columns_and_the_configuration(store):
    append(store, trial(1), 0)
    append(store, trial(2), 0)
    config = {"method": {"name": "set", "density": 0.1}, "model": {"hidden": [12, 9]}, "step": 7}
    write_record(store.out, TrialRecord(trial(1), "tiny", config, "completed", 26, 520))
    index = store.index()
    own = [name for name in MASK_SCHEMA.names if name not in ("gap", "bits")]
    assert list(index.columns) == [
        *own, "method_name", "method_density", "model_hidden", "config_step", "steps_per_epoch",
        "total_steps", "state",
    ]  # fmt: skip
    first = index.iloc[0]
    assert (first.trial_id, first.layer, first.role, first.encoding) == (
        trial(1), "fc1", "hidden", "gap")  # fmt: skip
    assert (first.n_out, first.n_in, first.in_group, first.study) == (12, 15, 3, "tiny")
    assert (first.method_name, first.method_density, first.model_hidden) == ("set", 0.1, "[12, 9]")
    assert (first.config_step, first.steps_per_epoch, first.total_steps) == (7, 26, 520)
    assert index[index.trial_id == trial(2)].method_name.isna().all()
    assert list(store.index(with_config=False).columns) == own
    assert index.encoding.unique().tolist() == ["gap", "bits", "full"]


def test_an_empty_store_has_an_empty_index(store):
    assert store.index().empty
    assert list(store.index(with_config=False).columns) == [
        name for name in MASK_SCHEMA.names if name not in ("gap", "bits")
    ]
    assert list(store.iter()) == []
    assert store.verify() == []
    assert store.usage() == (0, 0)
    assert store.compact().files == 0
    assert list(store.out.iterdir()) == []


def test_the_index_reads_no_mask(store, monkeypatch):
    append(store, trial(1), 0)
    store.compact()
    append(store, trial(1), 10)
    read = []
    for name in ("read", "read_row_groups"):
        original = getattr(pq.ParquetFile, name)

        def seen(file, *args, original=original, **kwargs):
            read.append(kwargs["columns"])
            return original(file, *args, **kwargs)

        monkeypatch.setattr(pq.ParquetFile, name, seen)
    store.index()
    assert len(read) == 2
    assert all(columns and not {"gap", "bits"} & set(columns) for columns in read)


def test_a_snapshot_that_is_not_there_costs_one_line_with_those_that_are(store):
    append(store, trial(1), 0)
    append(store, trial(1), 10)
    with pytest.raises(InputError, match=r"step 5: trial 0+1 has no such .* the steps 0, 10$"):
        store.load(trial(1), 5)
    with pytest.raises(InputError, match="holds no snapshot of this trial"):
        store.load(trial(2), 0)
    with pytest.raises(InputError, match="is not 12 hex digits"):
        store.load("../../secret", 0)


def test_iter_takes_a_condition(store):
    for number in (1, 2):
        for step in (0, 10):
            append(store, trial(number), step)
    found = [(t, s) for t, s, _ in store.iter(f"trial_id == '{trial(2)}' and step > 0")]
    assert found == [(trial(2), 10)]
    assert [s for _, s, _ in store.iter(lambda row: row["step"] == 0)] == [0, 0]


def test_a_store_travels_to_other_processes(store):
    append(store, trial(1), 0)
    assert_masks(pickle.loads(pickle.dumps(store)), [(trial(1), 0)])


layer = LayerMask("a", np.ones((2, 4), dtype=np.bool_), "hidden")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"trial_id": "../../../../tmp/x"}, "is not 12 hex digits"),
        ({"step": -1}, "step -1"),
        ({"attempt": 2**15}, "attempt 32768"),
        ({"layers": []}, "give at least one"),
        ({"layers": [layer, layer]}, "each with a name of its own"),
        ({"layers": [LayerMask("a", layer.mask, "input")]}, "'input' is not hidden or output"),
        ({"layers": [LayerMask("a", layer.mask, "hidden", 3)]}, "in_group 3 does not divide 4"),
        ({"layers": [LayerMask("a", layer.mask[0], "hidden")]}, "give a bool matrix"),
    ],
)
def test_a_snapshot_that_cannot_be_right_is_refused_and_leaves_nothing(store, changes, why):
    arguments = {"trial_id": trial(1), "study": "tiny", "step": 0, "epoch": 0, "attempt": 1,
                 "layers": [layer]}  # fmt: skip
    with pytest.raises(InputError, match=why):
        store.append(**{**arguments, **changes})
    assert list(store.out.iterdir()) == []


def test_masks_are_stored_in_the_encodings_that_pack_them(store):
    append(store, trial(1), 0)
    store.compact()
    (part,) = (store.out / "masks" / "compact").iterdir()
    group = pq.ParquetFile(part).metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    gap = columns["gap.list.element"]
    assert "BYTE_STREAM_SPLIT" in gap.encodings
    assert gap.compression == "ZSTD"
    assert not gap.has_dictionary_page
    assert pq.ParquetFile(part).metadata.metadata[b"schema_version"] == b"1"
