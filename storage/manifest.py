"""The manifest of a compacted table: which parts are its rows, and what each part must hold.

A part that the manifest does not name is no part of the table: it is left over from a compaction
that died. Parts are never changed, only replaced by others.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storage.errors import CorruptFile
from storage.filesystem import read_json, write_json
from storage.schema import SCHEMA_VERSION
from storage.trial_ids import check_trial_id

PART_NAME = re.compile(r"part-[0-9a-f]{16}\.parquet")


@dataclass(frozen=True)
class RowGroup:
    """One row group of a part: rows of one trial."""

    trial_id: str
    rows: int


@dataclass(frozen=True)
class Part:
    """One compacted file: its size and checksum, and its row groups in their order."""

    file: str
    bytes: int
    crc32: int
    row_groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """Rows of all its row groups."""
        return sum(group.rows for group in self.row_groups)


def read_manifest(path: Path) -> tuple[Part, ...] | None:
    """The parts of a table, oldest first; None before its first compaction.

    Raises:
        CorruptFile: the manifest cannot be read, or is missing although parts are there.
    """
    try:
        stored = read_json(path)
    except FileNotFoundError:
        if not _has_parts(path.parent / "compact"):
            return None
        # The first compaction publishes an empty manifest before it makes parts, so by now the
        # manifest is there, unless somebody has taken it away.
        try:
            stored = read_json(path)
        except FileNotFoundError:
            raise CorruptFile(path, "is missing, but compact/ holds parts") from None
    return _parse(path, stored)


def write_manifest(path: Path, parts: tuple[Part, ...]) -> None:
    """Publish the parts of a table."""
    stored = [{**asdict(part), "rows": part.rows} for part in parts]
    write_json(path, {"schema_version": SCHEMA_VERSION, "parts": stored}, indent=None)


def _has_parts(folder: Path) -> bool:
    return folder.is_dir() and any(PART_NAME.fullmatch(path.name) for path in folder.iterdir())


def _parse(path: Path, stored: Any) -> tuple[Part, ...]:
    try:
        if stored["schema_version"] != SCHEMA_VERSION:
            raise CorruptFile(path, f"has schema version {stored['schema_version']}")
        return tuple(_parse_part(part) for part in stored["parts"])
    except CorruptFile:
        raise
    except Exception as error:  # whatever a file of any content can lead to
        raise CorruptFile(path, f"is no manifest: {type(error).__name__}: {error}") from None


def _parse_part(stored: Any) -> Part:
    if not PART_NAME.fullmatch(stored["file"]):
        raise ValueError(f"{stored['file']!r} is no part's name")
    groups = tuple(
        RowGroup(check_trial_id(group["trial_id"]), int(group["rows"]))
        for group in stored["row_groups"]
    )
    part = Part(stored["file"], int(stored["bytes"]), int(stored["crc32"]), groups)
    if part.rows != int(stored["rows"]):
        raise ValueError(f"{part.file} does not have the rows of its row groups")
    return part
