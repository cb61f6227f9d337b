"""One mask as a few columns: gaps between connections, bits, or nothing at all when it is full.

Bytes per mask decide between the forms: with zstd, gaps (their bytes stored as four streams) are
smaller than bits up to a density of about 10%.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from storage.errors import InputError

GAP_BELOW_DENSITY = 0.10

_INT32_MAX = 2**31 - 1
_CHUNK = 2**23  # entries of a mask whose bits are made at a time: a multiple of 8
_MOST_BITS = 8 * _INT32_MAX  # Arrow counts the bytes of one binary value in int32


def encode_mask(mask: NDArray[np.bool_] | csr_array) -> dict[str, Any]:
    """The columns of one mask.

    Args:
        mask: (n_out, n_in) bool, dense or sparse; below the density for gaps, nothing of a sparse
            one's dense size is made.

    Returns:
        n_out, n_in, nnz; encoding; gap: int32 differences of the flat row-major index of the
        connections, the first relative to -1, or None; bits: the flat mask, little-endian within a
        byte, or None; crc32: of these bits, whatever the encoding.

    Raises:
        InputError: the mask is no non-empty bool matrix, or too large for one row.
    """
    mask = mask if isinstance(mask, csr_array) else np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != np.bool_ or 0 in mask.shape:
        raise InputError(
            f"mask of shape {mask.shape} and type {mask.dtype}: give a bool matrix (n_out, n_in)"
        )
    n_out, n_in = mask.shape
    size = n_out * n_in
    if max(mask.shape) > _INT32_MAX or size > _MOST_BITS:
        raise InputError(f"mask of shape {mask.shape}: at most {_MOST_BITS} entries are allowed")
    connections = _connections(mask)
    columns: dict[str, Any] = {
        "n_out": n_out,
        "n_in": n_in,
        "nnz": connections.size,
        "encoding": "bits",
        "gap": None,
        "bits": None,
        "crc32": _crc32(connections, size),
    }
    if connections.size == size:
        columns["encoding"] = "full"
        return columns
    if connections.size < GAP_BELOW_DENSITY * size:
        gap = np.diff(connections, prepend=-1)
        if gap.size == 0 or gap.max() <= _INT32_MAX:
            return {**columns, "encoding": "gap", "gap": gap.astype(np.int32)}
    return {**columns, "bits": b"".join(_packed(connections, size))}


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
        connections = _checked_connections(row)
        mask = np.zeros((int(row["n_out"]), int(row["n_in"])), dtype=np.bool_)
        mask.flat[connections] = True
        return mask
    except KeyError as missing:
        raise InputError(f"the row has no column {missing}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the row holds no mask: {error}") from None


def decode_csr(row: Mapping[str, Any]) -> csr_array:
    """The mask of a row as a sparse bool matrix (n_out, n_in); raises as `decode_mask` does."""
    try:
        shape = int(row["n_out"]), int(row["n_in"])
        connections = _checked_connections(row)
    except KeyError as missing:
        raise InputError(f"the row has no column {missing}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the row holds no mask: {error}") from None
    neuron, source = np.divmod(connections, shape[1])
    starts = np.concatenate([[0], np.cumsum(np.bincount(neuron, minlength=shape[0]))])
    index_type = np.int32 if connections.size <= _INT32_MAX else np.int64
    return csr_array(
        (
            np.ones(connections.size, dtype=np.bool_),
            source.astype(index_type),
            starts.astype(index_type),
        ),
        shape=shape,
    )


def _connections(mask: NDArray[np.bool_] | csr_array) -> NDArray[np.int64]:
    """The flat row-major index of every connection, ascending."""
    if not isinstance(mask, csr_array):
        return np.flatnonzero(mask)
    canonical = mask.tocsr(copy=True)
    canonical.sum_duplicates()
    canonical.eliminate_zeros()
    neuron = np.repeat(np.arange(mask.shape[0]), np.diff(canonical.indptr))
    connections: NDArray[np.int64] = neuron * mask.shape[1] + canonical.indices
    return connections


def _packed(connections: NDArray[np.int64], size: int) -> Iterator[bytes]:
    """The flat mask as bits, little-endian within a byte, a chunk at a time."""
    for start in range(0, size, _CHUNK):
        flat = np.zeros(min(_CHUNK, size - start), dtype=np.bool_)
        inside = slice(*np.searchsorted(connections, [start, start + flat.size]))
        flat[connections[inside] - start] = True
        yield np.packbits(flat, bitorder="little").tobytes()


def _crc32(connections: NDArray[np.int64], size: int) -> int:
    checksum = 0
    for chunk in _packed(connections, size):
        checksum = zlib.crc32(chunk, checksum)
    return checksum


def _checked_connections(row: Mapping[str, Any]) -> NDArray[np.int64]:
    n_out, n_in, encoding = int(row["n_out"]), int(row["n_in"]), row["encoding"]
    size = n_out * n_in
    # A row is 16 GiB at most when written; a damaged one must not ask for more memory than that.
    if n_out < 1 or n_in < 1 or size > _MOST_BITS:
        raise InputError(f"a mask of {n_out} x {n_in} is not possible")
    if encoding == "gap":
        connections = _from_gap(row["gap"], size, int(row["nnz"]))
    elif encoding == "bits":
        connections = _from_bits(row["bits"], size)
    elif encoding == "full":
        connections = np.arange(size)
    else:
        raise InputError(f"encoding {encoding!r} is not one of gap, bits, full")
    if connections.size != int(row["nnz"]):
        raise InputError(f"nnz is {row['nnz']}, the mask has {connections.size} connections")
    if _crc32(connections, size) != int(row["crc32"]):
        raise InputError("the connections do not have the checksum that was written")
    return connections


def _from_gap(gap: Any, size: int, nnz: int) -> NDArray[np.int64]:
    gaps = np.asarray([] if gap is None else gap)
    if gaps.shape != (nnz,):
        raise InputError(f"gap has {gaps.size} entries, nnz is {nnz}")
    connections = np.cumsum(gaps, dtype=np.int64) - 1
    if nnz and (gaps.min() < 1 or connections[-1] >= size):
        raise InputError("gap points outside the mask")
    return connections


def _from_bits(bits: Any, size: int) -> NDArray[np.int64]:
    if not isinstance(bits, bytes) or len(bits) != -(-size // 8):
        raise InputError(f"bits are not the {-(-size // 8)} bytes of a mask of {size} entries")
    unpacked = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little", count=size)
    return np.flatnonzero(unpacked)
