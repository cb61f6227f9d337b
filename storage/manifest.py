"""The manifest of a compacted table: which parts are its rows, and what each part must hold.

Each compaction publishes the next one, `OUT/<table>/manifest/<n 8d>.json`, by an exclusive create;
the highest number holds. So a compaction that was suspended until another took its lock cannot put
back what the other has replaced. A part that the manifest does not name is no part of the table: it
is left over from a compaction that died. Parts are never changed, only replaced by others.
"""

import re
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, create_exclusive, names_in, read_json
from storage.sealed_json import to_json
from storage.trial_ids import check_trial_id
from storage.version import SCHEMA_VERSION

PART_NAME = re.compile(r"part-[0-9a-f]{16}\.parquet")
_NAME = re.compile(r"(\d{8,12})\.json", re.ASCII)


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


@dataclass(frozen=True)
class Manifest:
    """The parts of a table, oldest first, as published the `number`-th time."""

    number: int
    parts: tuple[Part, ...]


def read_manifest(table: AnyPath) -> Manifest | None:
    """The manifest of the table in a folder; None before its first compaction.

    Raises:
        CorruptFile: the manifest cannot be read, or is missing although parts are there.
    """
    while True:
        number = _highest(table)
        if number is None and _has_parts(table):
            # The first compaction publishes an empty manifest before it makes parts, so by now one
            # is there, unless somebody has taken it away.
            number = _highest(table)
            if number is None:
                raise CorruptFile(table / "manifest", "is missing, but compact/ holds parts")
        if number is None:
            return None
        path = _path(table, number)
        try:
            return Manifest(number, _parse(path, read_json(path)))
        except FileNotFoundError:  # its successor has just replaced it
            continue


def publish_manifest(table: AnyPath, parts: tuple[Part, ...], after: int) -> None:
    """Publish the parts of a table.

    Args:
        table: its folder.
        parts: all of them.
        after: the number of the manifest that this one follows from; 0: there was none.

    Raises:
        InputError: another one has been published meanwhile.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "parts": [{**asdict(part), "rows": part.rows} for part in parts],
        "written_by": uuid.uuid4().hex,  # tells two writers of the same parts apart
    }
    path = _path(table, after + 1)
    made = create_exclusive(path, to_json(content, indent=None))
    # A number that became free again is of the past: then a higher one is there.
    if not made or _highest(table) != after + 1:
        if made:
            path.unlink(missing_ok=True)
        raise InputError(f"{table}: another process has compacted this table meanwhile")
    for number in _numbers(table):
        if number <= after:
            _path(table, number).unlink(missing_ok=True)


def _path(table: AnyPath, number: int) -> AnyPath:
    return table / "manifest" / f"{number:08d}.json"


def _numbers(table: AnyPath) -> list[int]:
    names = names_in(table / "manifest")
    return [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]


def _highest(table: AnyPath) -> int | None:
    return max(_numbers(table), default=None)


def _has_parts(table: AnyPath) -> bool:
    return any(PART_NAME.fullmatch(name) for name in names_in(table / "compact"))


def _parse(path: AnyPath, stored: Any) -> tuple[Part, ...]:
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
