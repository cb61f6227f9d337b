import errno
import os
import threading
import time
from contextlib import suppress

import pytest

from storage import CorruptFile, InputError
from storage.filesystem import (
    create_exclusive,
    read_json,
    remove_temporaries,
    run_folder,
    write_atomic,
    write_json,
)


def test_a_file_is_committed_before_the_write_returns(tmp_path, monkeypatch):
    """Content on disk, then the name, then the folder that holds the name; new folders too."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor):
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def seen_replace(source, target):
        calls.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    path = tmp_path / "new" / "deeper" / "file"
    write_atomic(path, b"content")

    assert path.read_bytes() == b"content"
    kinds = [(kind, name) for kind, name in calls if ".tmp" not in name]
    assert kinds == [
        ("fsync", str(tmp_path)),
        ("fsync", str(tmp_path / "new")),
        ("replace", str(path)),
        ("fsync", str(path.parent)),
    ]
    temporary = next(number for number, (_, name) in enumerate(calls) if ".tmp" in name)
    assert temporary < calls.index(("replace", str(path)))


def test_a_write_that_fails_leaves_the_old_content_and_no_temporary(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_readers_see_the_old_or_the_new_content_but_nothing_between(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([number]) * 100_000 for number in range(4)]
    write_atomic(path, contents[0])
    done = threading.Event()

    def write():
        for number in range(100):
            write_atomic(path, contents[number % 4])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert path.read_bytes() in contents
    writer.join()


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_of_many_that_create_a_file_exactly_one_wins(tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_):
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    won = []
    threads = [
        threading.Thread(
            target=lambda n=n: (
                won.append(n)
                if create_exclusive(tmp_path / "deep" / "claim", str(n).encode())
                else None
            )
        )
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (tmp_path / "deep" / "claim").read_text() == str(won[0])
    assert os.listdir(tmp_path / "deep") == ["claim"]


def test_where_there_are_no_links_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "no links here")

    def full(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("claim"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    with monkeypatch.context() as crowded:
        crowded.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            create_exclusive(tmp_path / "claim", b"mine")
    assert os.listdir(tmp_path) == []
    assert create_exclusive(tmp_path / "claim", b"mine")


def test_a_writer_survives_that_its_empty_folder_is_removed_again_and_again(tmp_path):
    folder = tmp_path / "folder"
    done = threading.Event()

    def remove():
        while not done.is_set():
            for path in folder.glob("[!.]*"):
                path.unlink()
            with suppress(OSError):
                folder.rmdir()
            time.sleep(0.0002)

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for number in range(100):
            write_atomic(folder / str(number), b"")
    finally:
        done.set()
        remover.join()


def test_only_old_temporaries_are_removed(tmp_path):
    for name in (".a.tmp", ".b.tmp", "c.tmp", ".d"):
        (tmp_path / name).touch()
        if name != ".b.tmp":
            os.utime(tmp_path / name, (0, 0))
    remove_temporaries(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".b.tmp", ".d", "c.tmp"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b"[" * 100_000], ids=repr)
def test_what_is_not_json_is_named(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"file\.json: is not JSON"):
        read_json(path)


def test_json_that_others_could_not_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "file.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_folder_is_a_local_path_or_a_uri_of_an_object_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_folder("runs/a") == tmp_path / "runs/a"
    assert run_folder(f"file://{tmp_path}/b") == tmp_path / "b"
    assert str(run_folder("s3://bucket/runs//a/") / "run.json") == "s3://bucket/runs/a/run.json"
    for wrong, why in [
        ("hdfs://bucket/run", "hdfs:// is not supported"),
        ("s3://", "s3://BUCKET/FOLDER"),
        ("s3://bucket/../other", "s3://BUCKET/FOLDER"),
        ("s3://key:secret@bucket/run", "credentials in an address"),
        ("", "is not a folder's name"),
        ("a\0b", "is not a folder's name"),
    ]:
        with pytest.raises(InputError, match=why):
            run_folder(wrong)
