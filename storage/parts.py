"""Writing the parts of a compacted table, and checking them byte by byte."""

import uuid
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa

from storage.errors import CorruptFile
from storage.filesystem import AnyPath, open_input, write_atomic
from storage.manifest import Part, RowGroup
from storage.parquet import open_writer, reading

# A part ends when it has reached this many bytes or row groups. The latter bound the footer, which
# every reader of a single mask must parse.
PART_BYTES = 128 * 2**20
PART_ROW_GROUPS = 256
# A part smaller than this share of both is put together with others.
_SMALL_SHARE = 0.25

RowGroups = Iterator[tuple[str, pa.Table]]  # trial_id, its rows


def write_parts(
    folder: AnyPath, schema: pa.Schema, plain_columns: Sequence[str], groups: RowGroups
) -> list[Part]:
    """Commit row groups to as few new parts as the limits above allow.

    Args:
        folder: where.
        schema: the parts' columns; columns that a row group lacks are null.
        plain_columns: see `storage.parquet.open_writer`.
        groups: what to write; at most one of them is in memory.
    """
    parts = []
    pending = next(groups, None)
    while pending is not None:
        part, pending = _write_part(folder, schema, plain_columns, pending, groups)
        parts.append(part)
    return parts


def is_small(part: Part) -> bool:
    """Whether a part is worth putting together with others."""
    groups = len(part.row_groups)
    return part.bytes < _SMALL_SHARE * PART_BYTES and groups < _SMALL_SHARE * PART_ROW_GROUPS


def check_bytes(path: AnyPath, part: Part) -> None:
    """Compare a part's size and checksum with the manifest.

    Raises:
        CorruptFile: they differ, or the file cannot be read, or is missing.
    """
    checksum = size = 0
    with reading(path):
        try:
            with open_input(path) as file:
                while block := file.read(2**22):
                    checksum = zlib.crc32(block, checksum)
                    size += len(block)
        except FileNotFoundError:
            raise CorruptFile(path, "is missing, but the manifest names it") from None
    if size != part.bytes:
        raise CorruptFile(path, f"has {size} bytes, the manifest says {part.bytes}")
    if checksum != part.crc32:
        raise CorruptFile(path, "does not have the checksum that the manifest says")


class _Checksummed:
    """A file opened for writing that keeps the checksum of what it was given."""

    closed = False  # pyarrow asks

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc32 = 0
        self.bytes = 0

    def write(self, data: bytes) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        self.bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._file.flush()


def _write_part(
    folder: AnyPath,
    schema: pa.Schema,
    plain_columns: Sequence[str],
    first: tuple[str, pa.Table],
    rest: RowGroups,
) -> tuple[Part, tuple[str, pa.Table] | None]:
    """One part from `first` and as much of `rest` as it takes; and what comes after it."""
    pending: tuple[str, pa.Table] | None = first
    written: list[RowGroup] = []
    checksum = 0
    size = 0

    def write(file: BinaryIO) -> None:
        nonlocal pending, checksum, size
        counted = _Checksummed(file)
        with open_writer(counted, schema, plain_columns, pack_lists=True) as writer:
            while pending and counted.bytes < PART_BYTES and len(written) < PART_ROW_GROUPS:
                trial_id, table = pending
                writer.write_table(_aligned(table, schema), row_group_size=table.num_rows)
                written.append(RowGroup(trial_id, table.num_rows))
                pending = next(rest, None)
        checksum, size = counted.crc32, counted.bytes

    name = f"part-{uuid.uuid4().hex[:16]}.parquet"
    write_atomic(folder / name, write, repeatable=False)
    return Part(name, size, checksum, tuple(written)), pending


def _aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(field.name)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
