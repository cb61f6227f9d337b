"""Parquet files that say when they are not what was written.

Every page and the footer carry a checksum, and every way in which reading fails comes out as
`CorruptFile` with the file's name; only a file that is not there is another matter
(`FileNotFoundError`), since compaction removes files beside readers.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import CorruptFile
from storage.filesystem import AnyPath, cannot_be_read, open_input
from storage.footers import FOOTER_KEY, UNSEALED, SealingSink, Sink, check_footer
from storage.retrying import retried

T = TypeVar("T")

ZSTD_LEVEL = 3
# Level 15 takes 10% off the lists of the published masks (0.6% density) for half a millisecond
# a mask, at 5% density 15% for four; above it there is nothing to gain. Bits gain next to nothing.
PACKED_LISTS_LEVEL = 15


@contextmanager
def open_writer(
    file: BinaryIO | Sink,
    schema: pa.Schema,
    plain_columns: Sequence[str] = (),
    *,
    pack_lists: bool = False,
) -> Iterator[pq.ParquetWriter]:
    """A writer as all our tables use it, open inside the `with`.

    Args:
        file: open for writing.
        schema: the columns; their metadata goes to the file.
        plain_columns: columns whose values hardly repeat: no dictionary, no statistics. A list of
            int32 has its bytes split into four streams, which zstd packs 15 to 30% tighter.
        pack_lists: whether to spend time on packing these lists, for files that stay.
    """
    repeating = [name for name in schema.names if name not in plain_columns]
    lists = [name for name in plain_columns if pa.types.is_list(schema.field(name).type)]
    elements = [f"{name}.list.element" for name in lists]
    levels = dict.fromkeys((name for name in schema.names if name not in lists), ZSTD_LEVEL)
    levels |= dict.fromkeys(elements, PACKED_LISTS_LEVEL if pack_lists else ZSTD_LEVEL)
    sink = SealingSink(file)
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=levels,
        use_dictionary=repeating,
        write_statistics=repeating,
        column_encoding=dict.fromkeys(elements, "BYTE_STREAM_SPLIT"),
        write_page_checksum=True,
        store_schema=False,  # a copy of the columns for Arrow alone, in each of many small files
    ) as writer:
        writer.add_key_value_metadata(schema.metadata)
        yield writer
        writer.add_key_value_metadata({FOOTER_KEY: UNSEALED})
        sink.hold()
    sink.release()


def write_table(file: BinaryIO, table: pa.Table, plain_columns: Sequence[str] = ()) -> None:
    """Write a table as one row group."""
    with open_writer(file, table.schema, plain_columns) as writer:
        writer.write_table(table, row_group_size=max(1, table.num_rows))


@contextmanager
def open_parquet(path: AnyPath, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    """An open file, whose reading raises CorruptFile inside the `with` as well.

    Args:
        path: the file.
        footer: its metadata, where they have been read before.

    Raises:
        FileNotFoundError: it is not there; `filename` is its path.
        CorruptFile: it cannot be read.
    """
    with reading(path), _opened(path, footer) as file:
        yield file


def read_parquet(path: AnyPath, read: Callable[[pq.ParquetFile], T]) -> T:
    """What `read` gives of an open file, called again while the storage is away.

    Raises:
        FileNotFoundError, CorruptFile: as `open_parquet`.
    """

    def once() -> T:
        with _opened(path) as file:
            return read(file)

    with reading(path):
        return retried(once)


@contextmanager
def _opened(path: AnyPath, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    with _source(path) as source:
        if footer is None:
            check_footer(path, source)
        yield pq.ParquetFile(source, metadata=footer, page_checksum_verification=True)


def _source(path: AnyPath) -> pa.NativeFile:
    if isinstance(path, Path):
        return retried(lambda: pa.OSFile(str(path), "rb"))
    return pa.PythonFile(open_input(path), "r")


@contextmanager
def reading(path: AnyPath) -> Iterator[None]:
    """Turn whatever reading `path` raises into CorruptFile."""
    try:
        yield
    except CorruptFile:
        raise
    except FileNotFoundError:
        if path.is_symlink():  # or readers would look for ever for what replaced it
            raise CorruptFile(path, "is a link to a file that is not there") from None
        raise FileNotFoundError(errno.ENOENT, "has gone", str(path)) from None
    except OSError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise cannot_be_read(path, error, lines[0]) from None
    except (pa.ArrowException, ValueError, KeyError, TypeError, IndexError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CorruptFile(path, f"cannot be read: {lines[0]}") from None
