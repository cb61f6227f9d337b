"""Reading every byte of a table, to name each file that is not what was written."""

from collections.abc import Iterator

from storage.errors import CorruptFile
from storage.filesystem import AnyPath
from storage.layout import STAGED_NAME
from storage.manifest import PART_NAME, Part
from storage.parquet import open_parquet
from storage.parts import check_bytes
from storage.staged import StagedTable
from storage.trial_ids import is_trial_id


def verify_table(table: StagedTable) -> list[CorruptFile]:
    """Every file of a table that is not what was written: unreadable, cut, changed, or misnamed.

    Checksums, counts, columns, and the rows themselves are checked. Files that a compaction
    replaces meanwhile are passed over, and the new ones read.
    """
    problems = list(_strangers(table))
    seen: set[AnyPath] = set()
    while True:
        try:
            listing = table.listing()
        except CorruptFile as problem:
            return [*problems, problem]
        parts = {table.compact_folder / part.file: part for part in listing.parts}
        staged = {file.path: file for file in listing.staged}
        news = [path for path in (*staged, *parts) if path not in seen]
        if not news:
            return problems
        seen.update(news)
        for path in news:
            try:
                if path in parts:
                    _check_part(table, parts[path])
                else:
                    table.read_staged(staged[path], None, check=True)
            except FileNotFoundError:
                continue
            except CorruptFile as problem:
                problems.append(problem)


def _check_part(table: StagedTable, part: Part) -> None:
    path = table.compact_folder / part.file
    try:
        check_bytes(path, part)
        with open_parquet(path) as source:
            table.check_part(part, source)
            for number, group in enumerate(part.row_groups):
                rows = source.read_row_group(number)
                if rows.column("trial_id").unique().to_pylist() != [group.trial_id]:
                    raise CorruptFile(path, "does not have the trials that the manifest says")
                table.check_rows(path, rows)
    except (CorruptFile, FileNotFoundError):
        named = table.named_parts()
        if part.file in named:
            raise
        # Replaced meanwhile: what it held is elsewhere now.


def _strangers(table: StagedTable) -> Iterator[CorruptFile]:
    """Parquet files in the table's folders whose names say nothing to any reader."""
    for path in table.files():
        of_trial = path.parent.parent == table.staging and is_trial_id(path.parent.name)
        if not (
            (of_trial and STAGED_NAME.fullmatch(path.name))
            or (path.parent == table.compact_folder and PART_NAME.fullmatch(path.name))
        ):
            yield CorruptFile(path, "is named as no file of this table is, so no reader takes it")
