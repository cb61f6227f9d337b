"""A checksum for what Parquet leaves unguarded: the footer, with its names, counts and statistics.

Pages carry checksums of their own. Of the footer, a flipped bit can turn the name of a column into
another one, or a digest. So the footer has an entry `footer_crc32` in its key-value metadata: the
CRC-32 of the footer as it is with zeros there, in hexadecimal. Other programs pass over it.
"""

import re
import zlib
from typing import Any, BinaryIO, Protocol

from storage.errors import CorruptFile
from storage.filesystem import AnyPath

FOOTER_KEY = "footer_crc32"
UNSEALED = "0" * 8
_MAGIC = b"PAR1"
_ONE_READ = 2**16  # bytes at the end; most footers are shorter, and a read may be a request
_TAIL = 8  # the footer's length and the magic number
# A key and its value in Thrift's compact protocol: the second field, text, of eight bytes.
_ENTRY = re.compile(re.escape(FOOTER_KEY.encode()) + rb"\x18\x08([0-9a-f]{8})")


class Sink(Protocol):
    """What a writer needs of an open file."""

    closed: bool

    def write(self, data: bytes, /) -> Any: ...
    def tell(self) -> int: ...
    def flush(self) -> None: ...


class SealingSink:
    """A file opened for writing; what comes after `hold` is a footer, sealed by `release`."""

    closed = False  # pyarrow asks

    def __init__(self, file: BinaryIO | Sink) -> None:
        self._file = file
        self._held: bytearray | None = None
        self._size = 0

    def write(self, data: bytes) -> int:
        self._size += len(data)
        if self._held is None:
            self._file.write(data)
        else:
            self._held += data
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        if self._held is None:
            self._file.flush()

    def hold(self) -> None:
        """Keep what is written from now on."""
        self._held = bytearray()

    def release(self) -> None:
        """Write what was kept, with its checksum in its place."""
        held = bytes(self._held or b"")
        self._held = None
        footer = held[len(held) - _TAIL - _length(held[-_TAIL:]) :]
        entry = _ENTRY.search(held)
        if entry is not None:
            checksum = f"{zlib.crc32(footer):08x}".encode()
            held = held[: entry.start(1)] + checksum + held[entry.end(1) :]
        self._file.write(held)


def check_footer(path: AnyPath, source: Any) -> None:
    """Compare an open file's footer with its checksum, if it has one.

    Args:
        path: the file, for the message.
        source: pyarrow's file; its position is back at the beginning afterwards.

    Raises:
        CorruptFile: the footer is not what was written.
    """
    size = source.size()
    end = _last(source, size, _ONE_READ)
    length = _length(end[-_TAIL:]) + _TAIL
    if end.endswith(_MAGIC) and length <= size:  # else pyarrow says what is wrong
        footer = end[-length:] if length <= len(end) else _last(source, size, length)
        entry = _ENTRY.search(footer)
        if entry is not None:
            unsealed = footer[: entry.start(1)] + UNSEALED.encode() + footer[entry.end(1) :]
            if zlib.crc32(unsealed) != int(entry[1], 16):
                raise CorruptFile(path, "its footer does not have the checksum that was written")
    source.seek(0)


def _last(source: Any, size: int, count: int) -> bytes:
    source.seek(max(0, size - count))
    last: bytes = source.read(min(size, count))
    return last


def _length(tail: bytes) -> int:
    return int.from_bytes(tail[:4], "little")
