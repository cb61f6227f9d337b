"""IDX files, the format of MNIST: read whole, every byte accounted for.

A file is a magic number (two zero bytes, a type, the number of dimensions), the dimensions as
big-endian uint32, and the values in row-major order. Only unsigned bytes (type 8) are read.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.errors import CorruptFile, InputError

_UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in ``path`` (raw, or gzip where the name ends in .gz), uint8.

    Raises CorruptFile where the magic number, the number of dimensions or the length is not what
    it must be, or where gzip finds damage.
    """
    content = _content(path)
    if len(content) < 4:
        raise CorruptFile(path, f"cut short: {len(content)} bytes, the magic number alone takes 4")
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != expected:
        raise CorruptFile(
            path,
            f"its magic number is 0x{content[:4].hex()}; an IDX file of unsigned bytes with "
            f"{dimensions} dimension{'s' * (dimensions > 1)} starts with 0x{expected.hex()}",
        )
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise CorruptFile(path, f"cut short: {len(content)} bytes, its header alone takes {header}")
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], dtype=">u4"))
    if len(content) != header + prod(shape):
        raise CorruptFile(
            path,
            f"holds {len(content)} bytes; its header of {' x '.join(map(str, shape))} values "
            f"makes it {header + prod(shape)}",
        )
    if prod(shape) == 0:
        raise CorruptFile(path, f"holds no values: {' x '.join(map(str, shape))}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def find_idx(folder: Path, name: str) -> Path:
    """The file for ``name`` (``train-images-idx3-ubyte``): raw or .gz, with - or . before idx.

    Raises InputError naming the folder and the spellings that were looked for.
    """
    stem, _, kind = name.rpartition("-idx")
    spellings = [f"{stem}-idx{kind}", f"{stem}.idx{kind}"]
    candidates = [spelling + ending for spelling in spellings for ending in ("", ".gz")]
    for candidate in candidates:
        if (folder / candidate).is_file():
            return folder / candidate
    raise InputError(
        f"data.path: {folder} holds no file {candidates[0]} (or {', '.join(candidates[1:])})"
    )


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptFile(path, f"gzip cannot read it to its end: {error}") from None
