"""JSON that says when it is not what was written: a mapping's last entry is its checksum.

A flipped bit in a digit leaves good JSON with another number. `crc32` is the CRC-32, in eight
hexadecimal digits, of the rest as JSON without blanks, its keys sorted. A mapping without it is
taken as it is: older files have none, and who changes a file by hand takes it out.
"""

import json
import zlib
from typing import Any

_KEY = "crc32"


class Unsealed(ValueError):
    """The content is not what was written."""


def to_json(value: Any, *, indent: int | None = 2) -> bytes:
    """`value` as strict JSON, sealed where it is a mapping.

    Raises:
        ValueError: it holds nan or an infinity, which JSON has not.
    """
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if key != _KEY}
        plain = json.loads(json.dumps(value, allow_nan=False))  # as it will be read
        value = {**value, _KEY: _checksum(plain)}
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode()


def from_json(content: bytes) -> Any:
    """What was written.

    Raises:
        Unsealed: it does not have its checksum.
        ValueError, RecursionError: it is no JSON.
    """
    value = json.loads(content, object_pairs_hook=_unique)
    if isinstance(value, dict) and isinstance(value.get(_KEY), str):
        checksum = value.pop(_KEY)
        if checksum != _checksum(value):
            raise Unsealed(
                f"does not have the checksum that was written (who has changed it by hand takes "
                f"out its {_KEY})"
            )
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key is given twice")
    return mapping


def _checksum(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x}"
