"""Rows of the masks' table: made of layers, read, and checked."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from storage.encoding import decode_mask, encode_mask
from storage.errors import InputError
from storage.schema import MASK_PAYLOAD, MASK_SCHEMA, check_key

Role = Literal["hidden", "output", "residual"]

INDEX_COLUMNS = [name for name in MASK_SCHEMA.names if name not in MASK_PAYLOAD]


@dataclass(frozen=True)
class LayerMask:
    """The mask of one layer.

    Attributes:
        name: the layer's name.
        mask: (n_out, n_in) bool, dense or sparse; row i is the incoming connections of neuron i.
        role: `output` for the layer of the classes; `residual` for one whose neurons are summed
            with those of other layers, index by index, so that they cannot be renamed alone.
        in_group: inputs per neuron of the previous layer (kh*kw of a convolution, h*w of a Linear
            after flatten, else 1); divides n_in.
    """

    name: str
    mask: NDArray[np.bool_] | csr_array
    role: Role
    in_group: int = 1


def place_of(row: Mapping[str, Any]) -> str:
    """Which mask it is, for a message."""
    return f"trial {row['trial_id']} step {row['step']} layer {row['layer']}"


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows as mappings, without making a Python number of every gap."""
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name != "gap"}
    gaps = table.column("gap").combine_chunks()
    for number in range(table.num_rows):
        gap = gaps[number].values
        row = {name: values[number] for name, values in columns.items()}
        yield {**row, "gap": None if gap is None else gap.to_numpy()}


def mask_rows(
    trial_id: str, study: str, step: int, epoch: int, attempt: int, layers: Sequence[LayerMask]
) -> list[dict[str, Any]]:
    """The rows of one snapshot, as `MaskStore.append` takes it.

    Raises:
        InputError: an argument is not allowed.
    """
    check_key(step, attempt)
    names = [layer.name for layer in layers]
    if not names or len(set(names)) < len(names) or not all(names):
        raise InputError(f"layers {names}: give at least one, each with a name of its own")
    written_at = datetime.now(UTC)
    rows = []
    for number, layer in enumerate(layers):
        columns = encode_mask(layer.mask)
        if layer.role not in get_args(Role):
            raise InputError(
                f"layer {layer.name}: role {layer.role!r} is not {' or '.join(get_args(Role))}"
            )
        if layer.in_group < 1 or columns["n_in"] % layer.in_group:
            raise InputError(
                f"layer {layer.name}: in_group {layer.in_group} does not divide {columns['n_in']}"
            )
        rows.append(
            {
                "study": study,
                "trial_id": trial_id,
                "step": int(step),
                "epoch": int(epoch),
                "layer": layer.name,
                "layer_index": number,
                "role": layer.role,
                "attempt": int(attempt),
                "in_group": int(layer.in_group),
                "written_at": written_at,
                **columns,
            }
        )
    return rows


def check_rows(table: pa.Table) -> None:
    """Every mask is the one that was written, and every snapshot has all its layers.

    Raises:
        InputError: one is not, or has not.
    """
    for name in INDEX_COLUMNS:
        if table.column(name).null_count:
            raise InputError(f"a row has no {name}")
    layers: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for row in rows_of(table):
        try:
            decode_mask(row)
        except InputError as error:
            raise InputError(f"{place_of(row)}: {error}") from None
        layers[row["trial_id"], row["step"], row["attempt"]].append(row["layer_index"])
    for (trial_id, step, _), numbers in layers.items():
        if sorted(numbers) != list(range(len(numbers))):
            raise InputError(f"trial {trial_id} step {step}: layers are missing or doubled")
