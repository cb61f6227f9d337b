"""One mask as a few columns: gaps between connections, bits, or nothing at all when it is full.

Bytes per mask decide between the forms: with zstd, gaps (their bytes stored as four streams) are
smaller than bits up to a density of about 10%.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from storage.errors import InputError

GAP_BELOW_DENSITY = 0.10

_INT32_MAX = 2**31 - 1
_MOST_BITS = 8 * _INT32_MAX  # Arrow counts the bytes of one binary value in int32


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The columns of one mask.

    Args:
        mask: (n_out, n_in) bool.

    Returns:
        n_out, n_in, nnz; encoding; gap: int32 differences of the flat row-major index of the
        connections, the first relative to -1, or None; bits: the flat mask, little-endian within a
        byte, or None; crc32: of these bits, whatever the encoding.

    Raises:
        InputError: the mask is no non-empty bool matrix, or too large for one row.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != np.bool_ or 0 in mask.shape:
        raise InputError(
            f"mask of shape {mask.shape} and type {mask.dtype}: give a bool matrix (n_out, n_in)"
        )
    if max(mask.shape) > _INT32_MAX or mask.size > _MOST_BITS:
        raise InputError(f"mask of shape {mask.shape}: at most {_MOST_BITS} entries are allowed")
    flat = mask.ravel()
    packed = np.packbits(flat, bitorder="little")
    nnz = int(np.count_nonzero(flat))
    columns: dict[str, Any] = {
        "n_out": mask.shape[0],
        "n_in": mask.shape[1],
        "nnz": nnz,
        "encoding": "bits",
        "gap": None,
        "bits": None,
        "crc32": zlib.crc32(packed.data),
    }
    if nnz == mask.size:
        columns["encoding"] = "full"
        return columns
    if nnz < GAP_BELOW_DENSITY * mask.size:
        gap = np.diff(np.flatnonzero(flat), prepend=-1)
        if nnz == 0 or gap.max() <= _INT32_MAX:
            return {**columns, "encoding": "gap", "gap": gap.astype(np.int32)}
    return {**columns, "bits": packed.tobytes()}


def decode_mask(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask of a row, as read by pandas, pyarrow, polars or DuckDB.

    Args:
        row: anything with the columns n_out, n_in, nnz, encoding, gap, bits and crc32.

    Returns:
        (n_out, n_in) bool.

    Raises:
        InputError: the row holds no mask, or another one than was written.
    """
    try:
        return _checked_flat(row).reshape(int(row["n_out"]), int(row["n_in"]))
    except KeyError as missing:
        raise InputError(f"the row has no column {missing}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the row holds no mask: {error}") from None


def decode_csr(row: Mapping[str, Any]) -> csr_array:
    """The mask of a row as a sparse bool matrix (n_out, n_in); raises as `decode_mask` does."""
    mask = decode_mask(row)
    connections = np.flatnonzero(mask)
    neuron, source = np.divmod(connections, mask.shape[1])
    starts = np.concatenate([[0], np.cumsum(np.bincount(neuron, minlength=mask.shape[0]))])
    index_type = np.int32 if connections.size <= _INT32_MAX else np.int64
    return csr_array(
        (
            np.ones(connections.size, dtype=np.bool_),
            source.astype(index_type),
            starts.astype(index_type),
        ),
        shape=mask.shape,
    )


def _checked_flat(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    n_out, n_in, encoding = int(row["n_out"]), int(row["n_in"]), row["encoding"]
    size = n_out * n_in
    # A row is 16 GiB at most when written; a damaged one must not ask for more memory than that.
    if n_out < 1 or n_in < 1 or size > _MOST_BITS:
        raise InputError(f"a mask of {n_out} x {n_in} is not possible")
    if encoding == "gap":
        flat = _from_gap(row["gap"], size, int(row["nnz"]))
    elif encoding == "bits":
        flat = _from_bits(row["bits"], size)
    elif encoding == "full":
        flat = np.ones(size, dtype=np.bool_)
    else:
        raise InputError(f"encoding {encoding!r} is not one of gap, bits, full")
    if zlib.crc32(np.packbits(flat, bitorder="little").data) != int(row["crc32"]):
        raise InputError("the connections do not have the checksum that was written")
    if int(np.count_nonzero(flat)) != int(row["nnz"]):
        raise InputError(f"nnz is {row['nnz']}, the mask has {np.count_nonzero(flat)} connections")
    return flat


def _from_gap(gap: Any, size: int, nnz: int) -> NDArray[np.bool_]:
    gaps = np.asarray([] if gap is None else gap)
    if gaps.shape != (nnz,):
        raise InputError(f"gap has {gaps.size} entries, nnz is {nnz}")
    connections = np.cumsum(gaps, dtype=np.int64) - 1
    if nnz and (gaps.min() < 1 or connections[-1] >= size):
        raise InputError("gap points outside the mask")
    flat = np.zeros(size, dtype=np.bool_)
    flat[connections] = True
    return flat


def _from_bits(bits: Any, size: int) -> NDArray[np.bool_]:
    if not isinstance(bits, bytes) or len(bits) != -(-size // 8):
        raise InputError(f"bits are not the {-(-size // 8)} bytes of a mask of {size} entries")
    unpacked = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little", count=size)
    return unpacked.view(np.bool_)
