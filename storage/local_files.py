"""Files of a file system, committed: whole, or not there at all, and safe from a crash."""

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def write_file(path: Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    """Temporary file, fsync, rename, fsync of the folder."""
    temporary = _write_temporary(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def create_file(path: Path, data: bytes) -> bool:
    """Make a file unless there is one of its name; whether this call made it."""
    temporary = _write_temporary(path, data)
    try:
        created = _link(temporary, path)
        if created is None:
            created = _create_without_links(path, data)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync_folder(path.parent)
    return created


def _link(temporary: Path, path: Path) -> bool | None:
    """Give the content its name if that is free; None where the file system has no links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # NFS may answer so to a repeated request whose first one went through.
        return os.stat(temporary).st_nlink > 1
    except OSError as error:
        if error.errno in _NO_LINKS:
            return None
        raise
    return True


def _create_without_links(path: Path, data: bytes) -> bool:
    """Weaker than a link: the name is there a moment before its content."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _write_temporary(path: Path, data: bytes | Callable[[BinaryIO], object]) -> Path:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    file, made = _open_new(temporary)
    with file:
        try:
            if callable(data):
                data(file)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
            for folder in made:  # a new folder is an entry of its parent, which needs its own fsync
                _fsync_folder(folder.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary


def _open_new(path: Path) -> tuple[BinaryIO, list[Path]]:
    """A new file, open for writing, and the folders made for it."""
    # Compaction removes folders that it has emptied, perhaps between our mkdir and our open.
    for _ in range(100):
        made = _make_folder(path.parent)
        with suppress(FileNotFoundError):
            return path.open("xb"), made
    raise FileNotFoundError(errno.ENOENT, "its folder keeps disappearing", str(path))


def _make_folder(folder: Path) -> list[Path]:
    """mkdir -p; the folders that it has made."""
    if folder.is_dir():
        return []
    made = _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    return [*made, folder]


def _fsync_folder(folder: Path) -> None:
    # Another process may have emptied and removed it: then nothing is left to keep.
    with suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
