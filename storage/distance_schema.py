"""The columns of a set's matrix and of its labels."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from storage.errors import InputError

FIXED_COLUMNS = ("i", "j", "network", "canonical")
_LABEL_TYPES = {
    "trial_id": pa.string(),
    "step": pa.int64(),
    "epoch": pa.int32(),
    "group": pa.int32(),
    "reference": pa.int32(),
}


def distance_schema(layers: Sequence[str]) -> pa.Schema:
    """The columns of a tile or a matrix.

    Raises:
        InputError: a layer's name is another column's.
    """
    for name in layers:
        if name in FIXED_COLUMNS or list(layers).count(name) > 1:
            raise InputError(f"a layer cannot be named {name!r}: distances have such a column")
    fields = [
        pa.field("i", pa.int32(), nullable=False),
        pa.field("j", pa.int32(), nullable=False),
        pa.field("network", pa.float64(), nullable=False),
        pa.field("canonical", pa.bool_(), nullable=False),
        *(pa.field(name, pa.float64()) for name in layers),
    ]
    return pa.schema(fields)


def labels_table(labels: pd.DataFrame) -> pa.Table:
    """Labels as `DistanceStore.write_labels` takes them, with their positions as `index`."""
    arrays = {"index": pa.array(np.arange(len(labels), dtype=np.int32))}
    for name in map(str, labels.columns):
        arrays[name] = _arrow(labels[name])
        if name in _LABEL_TYPES:
            arrays[name] = arrays[name].cast(_LABEL_TYPES[name])
    return pa.table(arrays)


def _arrow(values: pd.Series) -> pa.Array:
    """A column as Arrow sees it; one of several types as JSON text."""
    try:
        return pa.Array.from_pandas(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        missing = values.isna()
        texts = [None if gone else json.dumps(v) for v, gone in zip(values, missing, strict=True)]
        return pa.array(texts, pa.string())
