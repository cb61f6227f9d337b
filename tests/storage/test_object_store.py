"""A run in an object store: what holds in a folder holds there, too. A real S3 server answers."""

import threading
import time

import pandas as pd
import pytest
from snapshots import append, assert_masks, keys, trial
from tiny_runs import make_run

from storage import CorruptFile, InputError, MaskStore, Run, load_distances
from storage import lock as lock_module
from storage import retrying as retrying_module
from storage.attempts import claim_attempt, read_claims
from storage.checkpoints import list_checkpoints, prune_checkpoints, write_checkpoint
from storage.filesystem import (
    create_exclusive,
    names_in,
    read_json,
    remove_folder,
    run_folder,
    walk_files,
    write_atomic,
    write_json,
)
from storage.lock import RunLock
from storage.logs import log_handler
from storage.manifest import publish_manifest, read_manifest
from storage.object_path import ObjectPath
from tests.object_store import SECRET, S3Server
from topology.pairwise import DistanceSpec, run_distances


@pytest.fixture
def out(bucket: str) -> ObjectPath:
    """A run's folder."""
    folder = run_folder(f"{bucket}/runs/a")
    assert isinstance(folder, ObjectPath)
    return folder


def test_an_object_is_replaced_whole_and_names_are_listed(out: ObjectPath) -> None:
    write_json(out / "one.json", {"a": 1})
    write_json(out / "one.json", {"a": 2})
    write_atomic(out / "folder" / "two.bin", lambda file: file.write(b"x" * 20_000_000))
    assert read_json(out / "one.json") == {"a": 2}
    assert names_in(out) == ["folder", "one.json"]
    assert [(str(path)[-7:], size) for path, size in walk_files(out / "folder")] == [
        ("two.bin", 20_000_000)
    ]
    assert names_in(out / "absent") == []
    with (out / "folder" / "two.bin").open() as file:  # in ranges: it is a large one
        file.seek(-10, 2)
        assert file.read() == b"x" * 10
    with pytest.raises(FileNotFoundError):
        read_json(out / "absent.json")


def test_of_many_writers_of_one_name_one_wins(out: ObjectPath) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        if create_exclusive(out / "claim.json", f"writer {number}".encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (out / "claim.json").read_bytes() == f"writer {won[0]}".encode()
    # Its own file, made by a request whose answer was lost, is known again.
    assert create_exclusive(out / "claim.json", f"writer {won[0]}".encode())
    assert not create_exclusive(out / "claim.json", b"writer 99")


def test_attempts_are_claimed_once_and_fence_earlier_ones(out: ObjectPath) -> None:
    store = MaskStore(out)
    claimed: list[int] = []

    def claim() -> None:
        claimed.append(claim_attempt(out, trial(1), -1).attempt)

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [1, 2, 3, 4, 5, 6]
    append(store, trial(1), 10, attempt=6)
    claim_attempt(out, trial(1), 10)
    append(store, trial(1), 20, attempt=6)  # a zombie's
    append(store, trial(1), 30, attempt=7)
    assert keys(store) == [(trial(1), 10, 6), (trial(1), 30, 7)]
    assert len(read_claims(out, trial(1))) == 7


def test_masks_survive_compaction_and_are_read_by_every_reader(out: ObjectPath) -> None:
    store = MaskStore(out)
    expected = [(trial(number), step) for number in range(3) for step in (0, 10, 20)]
    for key in expected:
        append(store, *key)
    before = store.index()
    assert_masks(store, expected)
    done = store.compact()
    assert done.corrupt == []
    assert names_in(out / "masks" / "staging") == []
    pd.testing.assert_frame_equal(store.index(), before)
    assert_masks(store, expected)
    append(store, trial(1), 30)
    store.compact()
    assert_masks(store, [*expected, (trial(1), 30)])
    assert store.verify() == []
    assert len(names_in(out / "masks" / "compact")) == 1
    assert len(names_in(out / "masks" / "manifest")) == 1


def test_a_damaged_object_is_named(out: ObjectPath) -> None:
    store = MaskStore(out)
    append(store, trial(1), 10)
    path = next(path for path, _ in walk_files(out / "masks"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    assert isinstance(path, ObjectPath)
    path.put(bytes(content))
    with pytest.raises(CorruptFile, match=path.name):
        store.load(trial(1), 10)
    assert [problem.path for problem in store.verify()] == [str(path)]


def test_a_manifest_is_published_only_after_the_one_it_follows_from(out: ObjectPath) -> None:
    table = out / "masks"
    publish_manifest(table, (), after=0)
    publish_manifest(table, (), after=1)
    for stale in (0, 1):
        with pytest.raises(InputError, match="another process has compacted"):
            publish_manifest(table, (), after=stale)
    found = read_manifest(table)
    assert found is not None
    assert found.number == 2
    assert names_in(table / "manifest") == ["00000002.json"]


def test_the_lock_keeps_a_second_driver_out_and_a_dead_ones_expires(
    out: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLock(out, "run") as first:
        with pytest.raises(InputError, match="is in use by pid"):
            RunLock(out, "run").__enter__()
        first.check()
    # A driver of another host, of which nobody here can tell whether it lives.
    content = read_json(out / "lock" / "1.json")
    content["process"]["host"], content["released"] = "elsewhere", False
    write_json(out / "lock" / "1.json", content)
    with pytest.raises(InputError, match="elsewhere"):
        RunLock(out, "run").__enter__()
    monkeypatch.setattr(lock_module, "EXPIRES_AFTER_S", 1.0)
    time.sleep(2.5)  # the store's clock counts whole seconds
    with RunLock(out, "run") as second:
        assert second.generation == 2


def test_checkpoints_are_pruned_and_read(out: ObjectPath) -> None:
    folder = out / "checkpoints" / trial(1)
    for step in (10, 20, 30):
        write_checkpoint(folder, step, 1, str(step).encode())
    prune_checkpoints(folder, [], keep=2)
    assert [(c.step, c.read()) for c in list_checkpoints(folder, [])] == [(30, b"30"), (20, b"20")]


def test_a_log_goes_on_where_an_earlier_process_left_it(out: ObjectPath) -> None:
    import logging

    for text in ("first", "second"):
        handler = log_handler(out / "logs" / "a.log")
        handler.emit(logging.LogRecord("a", logging.INFO, "", 0, text, None, None))
        handler.close()
    assert (out / "logs" / "a.log").read_text() == "first\nsecond\n"


def test_distances_and_records_are_as_in_a_folder(out: ObjectPath, tmp_path) -> None:
    frames = []
    for folder in (out, tmp_path / "runs" / "a"):
        run = make_run(folder, store=False)
        for number in range(3):
            for step in (0, 10):
                append(run.masks, trial(number), step)
        spec = DistanceSpec(steps="all", include_dense=True)
        assert run_distances(run.out, "all", spec, in_process=True).n_computed == 15
        assert run_distances(run.out, "all", spec, in_process=True).n_computed == 0
        frames.append(load_distances(folder, "all"))
        assert Run.open(folder).verify() == []
        assert sorted(run.trials()["trial_id"]) == [trial(number) for number in range(3)]
    pd.testing.assert_frame_equal(*frames)


def test_a_store_that_is_away_for_a_while_is_waited_for(
    out: ObjectPath, s3_server: S3Server
) -> None:
    store = MaskStore(out)
    append(store, trial(1), 0)
    threads = [
        threading.Thread(target=append, args=(store, trial(number), 10)) for number in range(3)
    ]
    claims = threading.Thread(target=claim_attempt, args=(out, trial(9), -1))
    with s3_server.cut_off():
        for thread in (*threads, claims):
            thread.start()
        time.sleep(4)
        assert all(thread.is_alive() for thread in (*threads, claims))
    for thread in (*threads, claims):
        thread.join(60)
    assert keys(store) == sorted(
        [(trial(1), 0, 1), *((trial(number), 10, 1) for number in range(3))]
    )
    assert [claim.attempt for claim in read_claims(out, trial(9))] == [1]


def test_a_store_that_stays_away_is_an_error_of_the_storage_not_of_a_file(
    out: ObjectPath, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MaskStore(out)
    append(store, trial(1), 0)
    monkeypatch.setattr(retrying_module, "GIVE_UP_AFTER_S", 0.5)
    with s3_server.cut_off(), pytest.raises(OSError, match="error sending") as error:
        store.load(trial(1), 0)
    assert not isinstance(error.value, CorruptFile)
    assert store.verify() == []


def test_a_bucket_that_is_not_there_is_named(s3_server: S3Server) -> None:
    with pytest.raises(InputError, match="no run in s3://no-such-bucket/a"):
        Run.open("s3://no-such-bucket/a")
    with pytest.raises(OSError, match="no such"):
        write_json(run_folder("s3://no-such-bucket/a/run.json"), {})


def test_a_folder_that_pyarrow_made_is_removed_with_its_markers(out: ObjectPath) -> None:
    from pyarrow.fs import FileSystem

    filesystem, path = FileSystem.from_uri(str(out / "tune"))
    filesystem.create_dir(f"{path}/a/b", recursive=True)
    with filesystem.open_output_stream(f"{path}/a/state.json") as file:
        file.write(b"{}")
    remove_folder(out / "tune")
    assert names_in(out / "tune") == []


def test_no_credential_is_written_anywhere(out: ObjectPath) -> None:
    run = make_run(out, store=False)
    append(run.masks, trial(1), 0)
    run.masks.compact()
    for path, _ in walk_files(out):
        assert SECRET.encode() not in path.read_bytes(), path
