"""Columns of the tables that a run keeps, and their version."""

import pyarrow as pa

from storage.errors import CorruptFile, InputError
from storage.version import SCHEMA_VERSION

_VERSION_KEY = b"schema_version"
_METADATA = {_VERSION_KEY: str(SCHEMA_VERSION).encode()}

# What says whose row it is, and whether it counts; both tables have these.
KEY_COLUMNS = ["trial_id", "step", "attempt"]

MASK_SCHEMA = pa.schema(
    [
        ("study", pa.string()),
        ("trial_id", pa.string()),
        ("step", pa.int64()),  # optimiser steps done
        ("epoch", pa.int32()),
        ("layer", pa.string()),
        ("layer_index", pa.int16()),
        ("role", pa.string()),  # hidden | output | residual
        ("attempt", pa.int16()),
        ("n_out", pa.int32()),
        ("n_in", pa.int32()),
        ("in_group", pa.int32()),  # inputs per neuron of the previous layer
        ("nnz", pa.int64()),
        ("encoding", pa.string()),  # gap | bits | full
        ("gap", pa.list_(pa.field("element", pa.int32()))),
        ("bits", pa.binary()),
        ("crc32", pa.int64()),
        ("written_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata=_METADATA,
)

MASK_PAYLOAD = ["gap", "bits"]  # the connections themselves; all else is the index

# Metrics have these columns, and a double column per metric.
METRIC_KEYS = pa.schema(
    [
        ("study", pa.string()),
        ("trial_id", pa.string()),
        ("attempt", pa.int16()),
        ("epoch", pa.int32()),
        ("step", pa.int64()),
        ("written_at", pa.timestamp("us", tz="UTC")),
    ],
    metadata=_METADATA,
)


def metric_schema(names: list[str]) -> pa.Schema:
    """The columns of metric rows with these metrics."""
    return pa.schema([*METRIC_KEYS, *((name, pa.float64()) for name in names)], metadata=_METADATA)


def check_key(step: int, attempt: int) -> None:
    """Refuse steps and attempts that no column can hold."""
    if not 0 <= step < 10**18:
        raise InputError(f"step {step} is not allowed: at least 0")
    if not 0 <= attempt < 2**15:
        raise InputError(f"attempt {attempt} is not allowed: 0 to {2**15 - 1}")


def check_schema(path: str, found: pa.Schema, required: pa.Schema, more_doubles: bool) -> None:
    """Check a file's columns.

    Args:
        path: the file, for the message.
        found: its columns.
        required: columns that it must have, with their types.
        more_doubles: whether it may have further columns, all of them double.

    Raises:
        CorruptFile: the columns are others, or of a later version.
    """
    version = (found.metadata or {}).get(_VERSION_KEY, b"")
    if version != _METADATA[_VERSION_KEY]:
        shown = ascii(version.decode("latin-1")) if version else "none"
        raise CorruptFile(path, f"has schema version {shown}, this program reads {SCHEMA_VERSION}")
    for field in required:
        index = found.get_field_index(field.name)
        if index < 0 or not _same_type(found.field(index).type, field.type):
            raise CorruptFile(path, f"has no column {field.name} of type {field.type}")
    for field in found:
        if field.name not in required.names and not (more_doubles and field.type == pa.float64()):
            raise CorruptFile(path, f"has an unexpected column {field.name} of type {field.type}")


def _same_type(found: pa.DataType, required: pa.DataType) -> bool:
    # The name of a list's element differs with who wrote the file.
    if pa.types.is_list(found) and pa.types.is_list(required):
        return bool(found.value_type == required.value_type)
    return bool(found == required)
