"""Files that are there whole or not at all.

Everything a run keeps is written through `write_atomic` or `create_exclusive`: when they return,
the bytes survive a crash of the machine, and at no moment is a half-written file to be seen under
its name. Temporary files start with a dot and end with `.tmp`, so neither pandas, polars nor DuckDB
take one for data.
"""

import errno
import json
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from storage.errors import CorruptFile, InputError

TEMPORARY_GRACE_S = 3600.0  # no write of ours takes an hour; an older temporary has lost its writer

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def local_folder(out: str | os.PathLike[str]) -> Path:
    """The absolute path of a run's folder, which need not exist.

    Raises:
        InputError: the path is empty, or a URI of storage that is not a local folder.
    """
    text = os.fspath(out)
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] == "file":
        text = text.removeprefix("file://")
    elif scheme:
        raise InputError(f"{text}: {scheme[1]}:// is not supported, give a folder of a file system")
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is not a folder's name")
    return Path(text).expanduser().absolute()


def write_atomic(path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], object]) -> None:
    """Commit a file: temporary file, fsync, rename, fsync of the folder.

    Args:
        path: replaced when it exists; missing folders are made.
        data: the content, or a function that writes it to the open file.
    """
    path = Path(path)
    temporary = _write_temporary(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(path.parent)


def create_exclusive(path: str | os.PathLike[str], data: bytes) -> bool:
    """Commit a file only if none has its name; of several callers at once, one wins.

    Returns:
        Whether this call made the file.
    """
    path = Path(path)
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
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
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


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is none.
        CorruptFile: it cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptFile(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptFile(path, f"is not JSON: {error}") from None


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2) -> None:
    """Commit `value` as strict JSON.

    Raises:
        ValueError: it holds nan or an infinity, which JSON has not.
    """
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    write_atomic(path, (text + "\n").encode())


def remove_temporaries(folder: Path, grace_s: float = TEMPORARY_GRACE_S) -> None:
    """Delete what writers that died have left in `folder`; younger files may have a live writer."""
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                with suppress(FileNotFoundError):
                    if time.time() - entry.stat().st_mtime > grace_s:
                        os.unlink(entry.path)
