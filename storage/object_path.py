"""Objects of s3://, gs:// and abfs:// with the part of `pathlib.Path` that a run's files need.

One client for all three, obstore: of the libraries at hand it has a conditional create that
really is one, on each of them. A PUT is atomic and there is no rename. Credentials come from the
environment or the machine's role, as each cloud's own tools take them, and are kept nowhere.
"""

import errno
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from os import environ
from typing import IO, Any, TypeVar

from storage.errors import InputError
from storage.retrying import StorageUnavailable, retried

T = TypeVar("T")

# Where clients ask for the credentials of a machine's role, which a laptop does not have.
_METADATA_SERVER = re.compile(
    r"(169\.254\.\d+\.\d+|metadata\.google\.internal).*(status code: 4|error sending request)"
)

SCHEMES = ("s3", "gs", "abfs", "abfss", "az")
# Above this an object is read in ranges. A request costs some 30 ms, about 2 MB of transfer.
_WHOLE_BYTES = 8 * 2**20


@dataclass(frozen=True, order=True)
class ObjectStat:
    """Size in bytes and time of the last change, seconds since 1970 by the store's clock."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class ObjectPath:
    """One object, or what all objects below it have in common.

    It is no `os.PathLike`: whatever takes only local files refuses it.

    Attributes:
        bucket: scheme and bucket, such as `s3://sweeps`.
        key: the name in it, parts separated by `/`; empty for the bucket itself.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> "ObjectPath":
        """The path that a URI names.

        Raises:
            InputError: it is none.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        parts = [part for part in key.split("/") if part]
        if not bucket or any(sign in rest for sign in "?#\0") or {".", ".."} & set(parts):
            raise InputError(f"{uri!r} is not allowed: {scheme}://BUCKET/FOLDER")
        if "@" in bucket and scheme not in ("abfs", "abfss"):
            raise InputError(f"{scheme}://...: credentials in an address are not allowed")
        return cls(f"{scheme}://{bucket}", "/".join(parts))

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        """Without the last part."""
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    # Reading

    def read_bytes(self) -> bytes:
        """The whole object; FileNotFoundError when there is none."""
        return self._asked(lambda store: bytes(_obstore().get(store, self.key).bytes()))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole object, decoded."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> io.BufferedIOBase:
        """A file to read, whole where it is small, else in ranges as they are asked for."""
        if mode != "rb":
            raise ValueError(f"objects are read as 'rb', not {mode!r}")

        def begin(store: Any) -> io.BufferedIOBase:
            found = _obstore().get(store, self.key)
            size = found.meta["size"]
            if size <= _WHOLE_BYTES:
                return io.BytesIO(found.bytes())
            return io.BufferedReader(_Ranges(self, size), _WHOLE_BYTES)

        return self._asked(begin)

    def read_range(self, start: int, length: int) -> bytes:
        """Some bytes of the object."""
        return self._asked(
            lambda store: bytes(_obstore().get_range(store, self.key, start=start, length=length))
        )

    def stat(self) -> ObjectStat:
        """Size and time; FileNotFoundError when there is none."""
        found = self._asked(lambda store: _obstore().head(store, self.key))
        return ObjectStat(found["size"], found["last_modified"].timestamp())

    def exists(self) -> bool:
        """Whether there is such an object, or any below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            return bool(self.key) and self.stat().st_size >= 0
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether there are objects below it: there are no empty folders."""
        return next(self.iterdir(), None) is not None

    def is_symlink(self) -> bool:
        """There are none."""
        return False

    # Listing

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Objects and folders directly below."""
        found = self._asked(lambda store: _obstore().list_with_delimiter(store, self.key or None))
        keys = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        # Some tools mark a folder by an object of its own name with a slash: that is none of ours.
        inside = (key.rstrip("/") for key in sorted(keys))
        return (ObjectPath(self.bucket, key) for key in inside if key != self.key)

    def walk(self) -> list[tuple[str, ObjectStat]]:
        """Every object below: its path from here, its size and time; sorted."""
        found = self._asked(lambda store: [*_obstore().list(store, self.key or None)])
        begin = len(self.key) + 1 if self.key else 0
        return sorted(
            (meta["path"][begin:], ObjectStat(meta["size"], meta["last_modified"].timestamp()))
            for page in found
            for meta in page
            if meta["path"] != self.key
        )

    # Writing

    def put(self, content: bytes | IO[bytes]) -> None:
        """Write the object, replacing one that is there; it appears whole or not at all."""

        def send(store: Any) -> None:
            if not isinstance(content, bytes):
                content.seek(0)
            _obstore().put(store, self.key, content)

        self._asked(send)

    def create(self, content: bytes) -> bool:
        """Write the object unless there is one; of several callers at once, one wins.

        Args:
            content: no two callers give the same: a caller whose first answer was lost finds its
                own object there.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        def send(store: Any) -> bool:
            try:
                _obstore().put(store, self.key, content, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

        if self._asked(send):
            return True
        try:
            return self.read_bytes() == content
        except FileNotFoundError:  # its maker has removed it again
            return False

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object. Stores do not tell whether there was one."""
        try:
            self._asked(lambda store: _obstore().delete(store, self.key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _asked(self, request: Callable[[Any], T]) -> T:
        """What the store answers, waited for while it is away; its errors as a file system's."""

        def ask() -> T:
            from obstore import exceptions

            try:
                return request(_open_store(self.bucket))
            except (FileNotFoundError, exceptions.NotFoundError):
                raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from None
            except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
                raise PermissionError(errno.EACCES, _shown(error), str(self)) from None
            except (exceptions.BaseError, OSError) as error:
                if _METADATA_SERVER.search(str(error)):
                    raise PermissionError(
                        errno.EACCES, "no credentials in the environment, and none of a role's",
                        str(self),
                    ) from None  # fmt: skip
                if "404 Not Found" in str(error):  # a listing names no object: it is the bucket
                    raise FileNotFoundError(errno.ENOENT, "no such bucket", str(self)) from None
                raise StorageUnavailable(errno.EIO, _shown(error), str(self)) from None

        return retried(ask)


class _Ranges(io.RawIOBase):
    """An object as a file, a request for each read."""

    def __init__(self, path: ObjectPath, size: int) -> None:
        self._path, self._size, self._at = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        buffer[:length] = self._path.read_range(self._at, length)
        self._at += length
        return length


def _obstore() -> Any:
    """Imported where it is needed: most runs are in a folder."""
    import obstore

    return obstore


@lru_cache(maxsize=64)
def _open_store(bucket: str) -> Any:
    """The client of a bucket, one a process."""
    from obstore.store import from_url

    for name in filter(environ.get, _IN_HEADERS):
        if not environ[name].isprintable():  # the client would panic, with a page of its stack
            raise InputError(f"{name}: line breaks are not allowed in it")
    endpoint = next((environ[name] for name in _ENDPOINTS if environ.get(name)), "")
    try:
        return from_url(
            bucket,
            # Somebody who names a server without TLS in the environment means it.
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=60),
            },
            # `storage.retrying` waits for longer outages, the same for all kinds of storage.
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
        )
    except Exception as error:  # obstore's errors of a configuration share no class
        raise InputError(f"{bucket}: {_shown(error)}") from None


_IN_HEADERS = ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN")
_ENDPOINTS = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT",
)  # fmt: skip


def _shown(error: Exception) -> str:
    """What happened, in one line, without the request and the body of its answer."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = lines[0].rpartition(" - ")[2].partition(": <")[0]
    return text if len(text) <= 200 else text[:197] + "..."
