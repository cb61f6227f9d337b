import json
import os

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import append, assert_masks, keys, manifest_path, trial

from storage import InputError, MaskStore, MetricStore, layout
from storage.attempts import claim_attempt, entitled, read_claims
from storage.lock import RunLock


@pytest.fixture
def store(tmp_path):
    return MaskStore(tmp_path)


def parts(store):
    """The manifest's parts."""
    return json.loads(manifest_path(store.out / "masks").read_text())["parts"]


def files(store):
    return {path.name for path in (store.out / "masks" / "compact").iterdir()}


def fill(store, trials, steps=(0, 10, 20)):
    for number in trials:
        for step in steps:
            append(store, trial(number), step)


def test_many_staged_files_become_one_part_with_a_row_group_per_trial(store):
    fill(store, range(5))
    result = store.compact()
    (part,) = parts(store)
    assert (result.files, result.rows, result.bytes) == (1, 45, part["bytes"])
    assert part["row_groups"] == [{"trial_id": trial(n), "rows": 9} for n in range(5)]
    path = store.out / "masks" / "compact" / part["file"]
    assert path.stat().st_size == part["bytes"]
    assert part["rows"] == 45
    footer = pq.ParquetFile(path).metadata
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == [9] * 5
    assert list((store.out / "masks" / "staging").iterdir()) == []
    assert store.usage() == (1, part["bytes"])


def test_a_row_group_holds_its_rows_in_order_of_step_and_layer(store):
    fill(store, [1], steps=(0, 20))
    store.compact()
    fill(store, [1], steps=(10, 30))
    store.compact()
    table = pd.read_parquet(store.out / "masks" / "compact")
    assert table.step.tolist() == [step for step in (0, 10, 20, 30) for _ in range(3)]
    assert table.layer.tolist() == ["fc1", "fc2", "out"] * 4


def test_a_second_compaction_changes_nothing(store):
    fill(store, range(3))
    store.compact()
    before = files(store), parts(store)
    store.compact()
    assert (files(store), parts(store)) == before


def test_only_parts_with_new_rows_and_small_parts_are_replaced(store, monkeypatch):
    monkeypatch.setattr("storage.parts.PART_ROW_GROUPS", 4)
    fill(store, range(9))
    store.compact()
    before = parts(store)
    assert [len(part["row_groups"]) for part in before] == [4, 4, 1]
    append(store, trial(5), 30)
    store.compact()
    after = parts(store)
    assert before[0] in after  # holds trials 0 to 3
    assert before[1] not in after
    assert store.verify() == []
    assert sorted(group["trial_id"] for part in after for group in part["row_groups"]) == [
        trial(number) for number in range(9)
    ]
    assert files(store) == {part["file"] for part in after}


def test_small_parts_are_put_together(store):
    for number in range(3):
        fill(store, [number])
        store.compact()
    assert len(parts(store)) == 1


def test_a_trial_that_is_too_large_is_split_between_snapshots(store, monkeypatch):
    fill(store, [1, 2], steps=range(0, 100, 10))
    monkeypatch.setattr("storage.compaction.ROW_GROUP_BYTES", 3000)
    store.compact()
    groups = [group for part in parts(store) for group in part["row_groups"]]
    assert len(groups) >= 4
    assert all(group["rows"] % 3 == 0 for group in groups)
    assert_masks(store, [(trial(n), step) for n in (1, 2) for step in range(0, 100, 10)])
    assert store.verify() == []
    append(store, trial(1), 100)
    store.compact()
    assert len(keys(store)) == 21


def test_fenced_rows_leave_the_parts_without_any_news(store):
    claim_attempt(store.out, trial(1), -1)
    fill(store, [1, 2])
    store.compact()
    claim_attempt(store.out, trial(1), 0)
    assert store.compact().rows == 12
    assert sorted(pd.read_parquet(store.out / "masks" / "compact").step) == [0] * 6 + [10] * 3 + (
        [20] * 3
    )


def test_parts_that_a_dead_compaction_has_left_are_removed_and_never_read(store):
    fill(store, [1])
    store.compact()
    (part,) = files(store)
    folder = store.out / "masks" / "compact"
    (folder / "part-0123456789abcdef.parquet").write_bytes((folder / part).read_bytes())
    assert len(keys(store)) == 3
    assert store.verify() == []
    store.compact()
    assert files(store) == {part}


def test_a_compaction_that_slept_removes_nothing_that_its_successor_has_published(
    store, monkeypatch
):
    fill(store, [1], steps=(0, 10))
    listed, slept = layout.names_in, []

    def compacted_meanwhile(folder):
        if folder == store.out / "masks" / "compact" and lock.generation and not slept:
            slept.append(folder)
            held = store.out / "lock" / f"{lock.generation}.json"
            held.write_text("{}")  # of a host that nobody can look at, and not renewed
            os.utime(held, (0, 0))
            MaskStore(store.out).compact()
        return listed(folder)

    with RunLock(store.out, "run") as lock:
        monkeypatch.setattr(layout, "names_in", compacted_meanwhile)
        with pytest.raises(InputError, match="taken over"):
            store.compact(lock)
    assert slept
    assert store.verify() == []
    assert_masks(store, [(trial(1), 0), (trial(1), 10)])


def test_a_running_run_keeps_others_from_compacting(store):
    fill(store, [1])
    with RunLock(store.out, "run") as lock:
        with pytest.raises(InputError, match="in use by pid"):
            store.compact()
        assert store.compact(lock).files == 1
    append(store, trial(1), 30)
    with pytest.raises(InputError, match="taken over"):
        store.compact(lock)
    assert store.compact().rows == 12


def test_a_compaction_that_lost_the_lock_publishes_nothing(store, monkeypatch):
    fill(store, [1])
    with RunLock(store.out, "run") as lock:
        from storage import compaction

        def write_and_lose(*args):
            made = write_parts(*args)
            (store.out / "lock" / f"{lock.generation + 1}.json").write_text("{}")
            return made

        write_parts = compaction.write_parts
        monkeypatch.setattr(compaction, "write_parts", write_and_lose)
        with pytest.raises(InputError, match="taken over"):
            store.compact(lock)
    assert parts(store) == []
    assert_masks(store, [(trial(1), step) for step in (0, 10, 20)])


def test_a_lost_manifest_is_named_and_no_part_is_removed(store):
    fill(store, [1])
    store.compact()
    before = files(store)
    manifest_path(store.out / "masks").unlink()
    with pytest.raises(InputError, match=r"manifest: is missing, but compact/ holds parts"):
        store.index()
    append(store, trial(1), 30)
    assert "is missing" in str(store.compact().corrupt[0])
    assert "is missing" in str(store.verify()[0])
    assert files(store) == before


events = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.integers(1, 2), st.integers(-1, 4)),
        st.tuples(st.just("append"), st.integers(1, 2), st.integers(0, 5)),
        st.just(("compact", 0, 0)),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(events)
def test_whatever_happens_the_index_holds_the_rows_that_count(tmp_path_factory, happened):
    """Against a plain list of everything that was appended, filtered by the definition."""
    store = MaskStore(tmp_path_factory.mktemp("out"))
    metrics = MetricStore(store.out)
    written = []
    for kind, number, step in happened:
        claims = read_claims(store.out, trial(number))
        if kind == "claim":
            claim_attempt(store.out, trial(number), step if claims else -1)
        elif kind == "append" and claims:
            # Any attempt of this trial, zombies among them, at steps that were its own once.
            claim = claims[(step * 7 + len(written)) % len(claims)]
            if step > claim.first_step:
                append(store, trial(number), step, claim.attempt)
                metrics.append(trial(number), "tiny", claim.attempt, [{"step": step, "epoch": 0}])
                written.append((trial(number), step, claim.attempt))
        elif kind == "compact":
            store.compact()
            metrics.compact()
    right = sorted(
        {key for key in written if entitled(key[1], key[2], read_claims(store.out, key[0]))}
    )
    for _ in range(2):
        assert keys(store) == right
        table = metrics.load()
        assert sorted(zip(table.trial_id, table.step, table.attempt, strict=True)) == right
        store.compact()
        metrics.compact()
    assert store.verify() == metrics.verify() == []
