"""CIFAR's python batches as Python 2 wrote them, instruction by instruction."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np


def cifar_batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    """Images (n, 3072) and labels of the six batches, a few images each."""
    rng = np.random.default_rng(0)
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    return {
        name: (
            rng.integers(0, 256, (10 + k, 3072), dtype=np.uint8),
            rng.integers(0, 10, 10 + k).tolist(),
        )
        for k, name in enumerate(names)
    }


def batch_bytes(images: np.ndarray, labels: list[int]) -> bytes:
    """A whole file: the published ones hold these keys, in this order."""
    entries = {
        "batch_label": b"training batch 1 of 5",
        "labels": labels,
        "data": images,
        "filenames": [f"picture_{k}.png".encode() for k in range(len(labels))],
    }
    return pickled(entries)


def pickled(entries: Mapping[str, Any]) -> bytes:
    """A dictionary as protocol 2 of Python 2's cPickle has it."""
    writer = _Writer()
    content = b"\x80\x02}" + writer.memo() + b"("
    for key, value in entries.items():
        content += writer.value(key.encode()) + writer.value(value)
    return content + b"u."


class _Writer:
    def __init__(self) -> None:
        self._memory = 0

    def memo(self) -> bytes:
        """Keep what is on top; every other program that reads pickles relies on these."""
        self._memory += 1
        if self._memory < 256:
            return b"q" + bytes([self._memory])
        return b"r" + struct.pack("<I", self._memory)

    def value(self, value: Any) -> bytes:
        if isinstance(value, bytes):
            return self._text(value) + self.memo()
        if isinstance(value, int):
            return _number(value)
        if isinstance(value, list):
            content = b"]" + self.memo()
            for start in range(0, len(value), 1000):
                some = [self.value(one) for one in value[start : start + 1000]]
                content += b"(" + b"".join(some) + b"e"
            return content
        return self._array(value)

    @staticmethod
    def _text(value: bytes) -> bytes:
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + struct.pack("<i", len(value)) + value

    def _array(self, array: np.ndarray) -> bytes:
        shape = b"".join(_number(size) for size in array.shape)
        shape += bytes([0x84 + array.ndim])  # TUPLE1, TUPLE2, TUPLE3
        content = b"cnumpy.core.multiarray\n_reconstruct\n" + self.memo()
        content += b"cnumpy\nndarray\n" + self.memo() + b"K\x00\x85" + self.memo()
        content += b"U\x01b" + self.memo() + b"\x87" + self.memo() + b"R" + self.memo()
        content += b"(K\x01" + shape + self.memo()
        content += b"cnumpy\ndtype\n" + self.memo() + self._text(array.dtype.str[1:].encode())
        content += self.memo() + b"K\x00K\x01\x87" + self.memo() + b"R" + self.memo()
        content += b"(K\x03U\x01|" + self.memo() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
        content += self.memo() + b"b\x89" + self._text(array.tobytes())
        return content + self.memo() + b"t" + self.memo() + b"b"


def _number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    return b"J" + struct.pack("<i", value)
