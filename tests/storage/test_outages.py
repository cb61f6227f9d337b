"""Calls that fail once, as a file server's do that was away for a moment, and then go through."""

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest
from snapshots import append, assert_masks, trial

from storage import CorruptFile, MaskStore, parquet
from storage.attempts import claim_attempt
from storage.checkpoints import list_checkpoints, prune_checkpoints, write_checkpoint


@pytest.fixture
def store(tmp_path):
    claim_attempt(tmp_path, trial(1), -1)
    return MaskStore(tmp_path)


class Failing:
    """A file of which no byte can be read."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass

    def size(self) -> int:
        raise OSError(self.number, os.strerror(self.number))


def failing(times: int, number: int):
    """`parquet._source`, whose first files cannot be read."""
    source, opened = parquet._source, []

    def give(path: Path) -> pa.NativeFile:
        opened.append(path)
        return Failing(number) if len(opened) <= times else source(path)

    return give


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_file_that_could_not_be_read_once_is_not_damaged(store, monkeypatch, number, compacted):
    append(store, trial(1), 0)
    if compacted:
        store.compact()
    monkeypatch.setattr(parquet, "_source", failing(1, number))
    assert_masks(store, [(trial(1), 0)])
    monkeypatch.setattr(parquet, "_source", failing(1, number))
    append(store, trial(1), 0)  # looks at what is there


def test_a_file_that_can_never_be_read_is_damaged(store, monkeypatch):
    append(store, trial(1), 0)
    monkeypatch.setattr("storage.retrying.GIVE_UP_AFTER_S", 0.2)
    monkeypatch.setattr(parquet, "_source", failing(1000, errno.EIO))
    with pytest.raises(CorruptFile, match="cannot be read"):
        store.load(trial(1), 0)


def test_a_look_and_a_removal_that_fail_once_are_done_again(store, monkeypatch):
    failed = set()

    def once(call):
        def make(path, *args, **options):
            if call.__name__ not in failed and "tmp" not in Path(path).suffix:
                failed.add(call.__name__)
                raise OSError(errno.ESTALE, "Stale file handle", str(path))
            return call(path, *args, **options)

        return make

    with monkeypatch.context() as away:
        away.setattr(Path, "exists", once(Path.exists))
        append(store, trial(1), 0)
    assert_masks(store, [(trial(1), 0)])
    folder = store.out / "checkpoints" / trial(1)
    for step in (1, 2):
        write_checkpoint(folder, step, 1, b"state")
    with monkeypatch.context() as away:
        away.setattr(Path, "unlink", once(Path.unlink))
        prune_checkpoints(folder, [], keep=1)
    assert [checkpoint.step for checkpoint in list_checkpoints(folder, [])] == [2]
    assert failed == {"exists", "unlink"}
