"""Parquet files that carry the digest of what they were computed from."""

from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from storage.filesystem import AnyPath, write_atomic
from storage.parquet import open_parquet, open_writer


def write_digested(
    path: AnyPath, schema: pa.Schema, tables: Iterable[pa.Table], digest: str
) -> None:
    """Write the tables as one file, which appears whole or not at all."""
    # Distances hardly repeat: a dictionary would only be in the way.
    doubles = [field.name for field in schema if field.type == pa.float64()]

    def write(file: BinaryIO) -> None:
        with open_writer(file, schema, plain_columns=doubles) as writer:
            writer.add_key_value_metadata({"digest": digest})
            for table in tables:
                writer.write_table(table)

    write_atomic(path, write, repeatable=isinstance(tables, list))


def read_digested(path: AnyPath) -> tuple[pa.Table, str | None]:
    """A small file whole, and its digest.

    Raises:
        FileNotFoundError: it is not there.
        CorruptFile: it cannot be read.
    """
    with open_parquet(path) as file:
        return file.read(use_threads=False), digest_of(file)


def digest_of(file: pq.ParquetFile) -> str | None:
    """The digest of an open file; None in one that has none."""
    digest = (file.metadata.metadata or {}).get(b"digest")
    return None if digest is None else digest.decode()
