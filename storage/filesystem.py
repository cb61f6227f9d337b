"""Files that are there whole or not at all, in a folder or in an object store.

Everything a run keeps is written through `write_atomic` or `create_exclusive`: when they return,
the bytes survive a crash of the machine, and at no moment is a half-written file to be seen under
its name. Temporary files start with a dot and end with `.tmp`, so neither pandas, polars nor DuckDB
take one for data; an object needs none. Errors that may pass are waited for: `storage.retrying`.
"""

import errno
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from storage.errors import CorruptFile, InputError
from storage.local_files import create_file, write_file
from storage.object_path import SCHEMES, ObjectPath
from storage.retrying import may_pass, retried
from storage.sealed_json import Unsealed, from_json, to_json

TEMPORARY_GRACE_S = 3600.0  # no write of ours takes an hour; an older temporary has lost its writer

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_IN_MEMORY_BYTES = 64 * 2**20  # of a file on its way to an object store; the rest waits on disk
_REQUESTS_AT_ONCE = 32

AnyPath = Path | ObjectPath
Location = str | os.PathLike[str] | ObjectPath  # what a user may give for a run's folder

T = TypeVar("T")
R = TypeVar("R")


def run_folder(out: Location) -> AnyPath:
    """The absolute path of a run's folder, which need not exist.

    Raises:
        InputError: it is empty, or a URI of unknown storage.
    """
    if isinstance(out, ObjectPath):
        return out
    text = os.fspath(out)
    scheme = _SCHEME.match(text)
    if scheme and scheme[1] in SCHEMES:
        return ObjectPath.parse(text)
    if scheme and scheme[1] == "file":
        text = text.removeprefix("file://")
    elif scheme:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise InputError(f"{text}: {scheme[1]}:// is not supported: a folder, or one of {known}")
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is not a folder's name")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:  # ~NAME of nobody
        raise InputError(f"{text!r} is not a folder's name: no such home") from None


def write_atomic(
    path: AnyPath, data: bytes | Callable[[BinaryIO], object], *, repeatable: bool = True
) -> None:
    """Commit a file: temporary file, fsync, rename, fsync of the folder; or one PUT.

    Args:
        path: replaced when it exists; missing folders are made.
        data: the content, or a function that writes it to the open file.
        repeatable: whether this function may be called again, should the storage be away.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(path, Path):
        local = path
        write = retried if repeatable else _once
        write(lambda: write_file(local, data))
    elif callable(data):
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as draft:
            data(draft)  # type: ignore[arg-type]  # all of BinaryIO that a writer uses
            path.put(draft)
    else:
        path.put(data)


def _once(action: Callable[[], T]) -> T:
    return action()


def create_exclusive(path: AnyPath, data: bytes) -> bool:
    """Commit a file only if none has its name; of several callers at once, one wins.

    Args:
        path: the file.
        data: no two callers give the same bytes: by them a caller knows its own file again, when
            the answer to its first try was lost.

    Returns:
        Whether this call made the file.
    """
    if isinstance(path, ObjectPath):
        return path.create(data)
    local, tries = path, 0

    def create() -> bool:
        nonlocal tries
        tries += 1
        return create_file(local, data)

    if retried(create):
        return True
    try:
        return tries > 1 and path.read_bytes() == data
    except FileNotFoundError:  # its maker has removed it again
        return False


def cannot_be_read(path: AnyPath, error: OSError, why: str = "") -> OSError | CorruptFile:
    """What to raise when reading has failed: storage that is away says nothing of the file."""
    if may_pass(error) and (isinstance(path, ObjectPath) or error.errno != errno.EIO):
        return error
    return CorruptFile(path, f"cannot be read: {why or error.strerror}")  # EIO: a bad block


def read_bytes(path: AnyPath) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: there is none.
        CorruptFile: it cannot be read.
        OSError: the storage is away, and has not come back in a while.
    """
    try:
        return retried(path.read_bytes) if isinstance(path, Path) else path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise cannot_be_read(path, error) from None


def read_json(path: AnyPath) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError, OSError: as `read_bytes`.
        CorruptFile: it cannot be read, is not JSON, or not what was written.
    """
    try:
        return from_json(read_bytes(path))
    except Unsealed as error:
        raise CorruptFile(path, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise CorruptFile(path, f"is not JSON: {error}") from None


def write_json(path: AnyPath, value: Any, *, indent: int | None = 2) -> None:
    """Commit `value` as strict JSON, a mapping with its checksum.

    Raises:
        ValueError: it holds nan or an infinity, which JSON has not.
    """
    write_atomic(path, to_json(value, indent=indent))


def names_in(folder: AnyPath) -> list[str]:
    """The names of what is directly in a folder, sorted; none where there is no folder."""
    try:
        if isinstance(folder, ObjectPath):
            return [path.name for path in folder.iterdir()]
        return retried(lambda: sorted(os.listdir(folder)))
    except FileNotFoundError:
        return []
    except OSError as error:  # passing over it would lose all that is in it
        raise cannot_be_read(folder, error) from None


class FileStat(NamedTuple):
    """A file in a listing.

    Attributes:
        name: its path below the listed folder, parts separated by `/`.
        size: in bytes.
        written_at: seconds since 1970 by the storage's clock.
    """

    name: str
    size: int
    written_at: float


def list_files(folder: AnyPath) -> Iterator[FileStat]:
    """Every file below a folder, sorted; one listing of an object store.

    Files that disappear meanwhile are passed over.
    """
    if isinstance(folder, ObjectPath):
        for name, stat in folder.walk():
            yield FileStat(name, stat.st_size, stat.st_mtime)
        return
    # Path.glob fails on folders that disappear.
    for top, folders, names in os.walk(folder, onerror=_unreadable):
        # A folder with a data file's name is damage, which whoever reads it will report.
        misnamed = [name for name in folders if name.endswith(".parquet")]
        folders[:] = sorted(set(folders) - set(misnamed))
        below = "" if top == str(folder) else top[len(str(folder)) :].strip(os.sep) + "/"
        for name in sorted([*names, *misnamed]):
            with suppress(FileNotFoundError):
                found = os.lstat(f"{top}/{name}")  # not stat: a link to nothing is to be seen
                yield FileStat(below + name, found.st_size, found.st_mtime)


def walk_files(folder: AnyPath) -> Iterator[tuple[AnyPath, int]]:
    """Every file below a folder with its size in bytes, as `list_files` has them."""
    for file in list_files(folder):
        yield folder / file.name, file.size


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise cannot_be_read(Path(str(error.filename)), error)


def for_each(function: Callable[[T], R], items: Iterable[T], folder: AnyPath) -> Iterable[R]:
    """`map` over files of a folder; of an object store with many requests at once."""
    if not isinstance(folder, ObjectPath):
        return map(function, items)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
        return list(threads.map(function, items))


def remove_folder(folder: AnyPath) -> None:
    """Delete a folder with all that is in it, as far as that goes."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    with suppress(OSError, pa.ArrowException):
        # pyarrow, since Ray makes such folders with it: an object with a slash at its end each.
        filesystem, path = FileSystem.from_uri(str(folder))
        filesystem.delete_dir(path)


def remove_if_empty(folder: AnyPath) -> None:
    """Delete a folder that nothing is in; an object store has none such."""
    if isinstance(folder, Path):
        with suppress(OSError):
            folder.rmdir()


def open_input(path: AnyPath) -> BufferedIOBase:
    """A file to read; FileNotFoundError when there is none."""
    if isinstance(path, Path):
        local = path
        return retried(lambda: local.open("rb"))
    return path.open()


def age_s(path: AnyPath) -> float:
    """Seconds since a file was written, by the clock of its own storage: ours may differ."""
    probe = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        if isinstance(probe, ObjectPath):
            probe.put(b"")
        else:
            probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def remove_temporaries(folder: AnyPath, grace_s: float = TEMPORARY_GRACE_S) -> None:
    """Delete what writers that died have left in `folder`; younger files may have a live writer."""
    if isinstance(folder, ObjectPath):
        return  # parts of an upload that was cut off are for the bucket's lifecycle rules
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                with suppress(FileNotFoundError):
                    if time.time() - entry.stat().st_mtime > grace_s:
                        os.unlink(entry.path)
