"""A table that many writers append to and readers read at any moment: what masks and metrics share.

A compaction publishes the manifest before it deletes what it replaces. So a reader lists staging
first and the manifest second: whatever was committed before is in one of them or in both, and a row
in both counts once. When a file has gone meanwhile, the reader does all of it again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, Location, for_each, write_atomic
from storage.layout import StagedFile, TableFolder
from storage.manifest import Part, read_manifest
from storage.parquet import read_parquet, write_table
from storage.rows import Chunk, chunk_of_table, count_rows
from storage.schema import KEY_COLUMNS, check_schema

T = TypeVar("T")


@dataclass(frozen=True)
class TableKind:
    """What tells one table from the other.

    Attributes:
        name: its folder.
        schema: the columns that every file has.
        more_doubles: whether files may have further columns, all double.
        plain_columns: see `storage.parquet.open_writer`.
        one_step_per_file: a staged file's name then says all that its rows' keys say.
        check_rows: raises InputError when rows contradict themselves; they have all columns.
    """

    name: str
    schema: pa.Schema
    more_doubles: bool
    plain_columns: tuple[str, ...]
    one_step_per_file: bool
    check_rows: Callable[[pa.Table], None]


@dataclass(frozen=True)
class Damage:
    """A step of a trial whose file is not what was written."""

    trial_id: str
    step: int
    problem: CorruptFile


class StagedTable(TableFolder):
    """One such table of a run.

    Args:
        out: the run's folder.
        kind: which table.
    """

    def __init__(self, out: Location, kind: TableKind) -> None:
        super().__init__(out, kind.name)
        self.kind = kind

    def commit(self, path: AnyPath, table: pa.Table) -> int:
        """Write one staged file; durable when this returns. How many bytes it has."""
        size = 0

        def write(file: BinaryIO) -> None:
            nonlocal size
            write_table(file, table, self.kind.plain_columns)
            size = file.tell()

        write_atomic(path, write)
        return size

    def read(
        self,
        columns: Sequence[str] | None,
        trial_ids: Collection[str] | None = None,
        steps: Mapping[str, Collection[int]] | None = None,
        damaged: list[Damage] | None = None,
    ) -> pa.Table:
        """The rows that count, each once; arguments and errors as `read_files` has them."""
        tables = [table for _, table in self.read_files(columns, trial_ids, steps, damaged)]
        if not tables:
            return self.kind.schema.empty_table().select(columns or self.kind.schema.names)
        return pa.concat_tables(tables, promote_options="default")

    def read_files(
        self,
        columns: Sequence[str] | None,
        trial_ids: Collection[str] | None = None,
        steps: Mapping[str, Collection[int]] | None = None,
        damaged: list[Damage] | None = None,
    ) -> list[tuple[AnyPath, pa.Table]]:
        """The rows that count, each once, file by file.

        Args:
            columns: which; None: all there are.
            trial_ids: of which trials; None: of all.
            steps: per trial, which steps; it then names the trials, too.
            damaged: takes what would otherwise be raised of staged files of one step each.

        Raises:
            CorruptFile: a file that these rows need is not what was written.
        """
        if steps is not None:
            trial_ids = steps.keys()

        def read() -> tuple[list[tuple[AnyPath, pa.Table]], list[Damage]]:
            found: list[Damage] = []
            return self._read_once(columns, trial_ids, steps, found), found

        tables, found = self.retry(read)
        if damaged is not None:
            damaged += found
        elif found:
            raise found[0].problem
        return tables

    def retry(self, read: Callable[[], T]) -> T:
        """Call `read` until no file has gone under its hands.

        Raises:
            CorruptFile: a file is missing for good: the manifest still names it.
        """
        while True:
            try:
                return read()
            except FileNotFoundError as gone:
                folder, _, name = str(gone.filename).rpartition("/")
                if folder == str(self.compact_folder) and name in self.named_parts():
                    path = self.compact_folder / name
                    raise CorruptFile(path, "is missing, but the manifest names it") from None

    def named_parts(self) -> set[str]:
        """The files that the manifest names now."""
        manifest = read_manifest(self.folder)
        return {part.file for part in manifest.parts} if manifest else set()

    def _read_once(
        self,
        columns: Sequence[str] | None,
        trial_ids: Collection[str] | None,
        steps: Mapping[str, Collection[int]] | None,
        damaged: list[Damage],
    ) -> list[tuple[AnyPath, pa.Table]]:
        listing = self.listing(trial_ids)
        with_keys = None if columns is None else [*dict.fromkeys([*columns, *KEY_COLUMNS])]
        # Later chunks win: parts over staged files, which are soon to be deleted.
        wanted_files = [
            file
            for file in listing.staged
            if steps is None or not self.kind.one_step_per_file or file.step in steps[file.trial_id]
        ]
        chunks = [*for_each(lambda f: self.staged_chunk(f, with_keys), wanted_files, self.out)]
        for part in listing.parts:
            groups = [
                number
                for number, group in enumerate(part.row_groups)
                if trial_ids is None or group.trial_id in trial_ids
            ]
            if groups:
                table = self.read_part(part, with_keys, groups, steps)
                chunks.append(chunk_of_table(self.compact_folder / part.file, table))
        counted = zip(chunks, count_rows(self.out, chunks), strict=True)
        asked = [
            (chunk, counts if steps is None else counts & _is_wanted(chunk, steps))
            for chunk, counts in counted
        ]
        some = [(chunk, rows) for chunk, rows in asked if rows.any()]
        tables = []
        for (chunk, _), loaded in zip(some, for_each(_load, some, self.out), strict=True):
            if isinstance(loaded, Damage):
                damaged.append(loaded)
            else:
                table = loaded if columns is None else loaded.select(columns)
                tables.append((chunk.path, table))
        return tables

    def staged_chunk(
        self, file: StagedFile, columns: Sequence[str] | None, check: bool = False
    ) -> Chunk:
        """A staged file's rows, read only when they must be; arguments as of `read_staged`."""
        if not self.kind.one_step_per_file:
            return chunk_of_table(file.path, self.read_staged(file, columns, check))
        return Chunk(
            file.path,
            file.trial_id,
            np.array([file.step], dtype=np.int64),
            np.array([file.attempt], dtype=np.int16),
            lambda _: self.read_staged(file, columns, check),
        )

    def read_staged(
        self, file: StagedFile, columns: Sequence[str] | None, check: bool = False
    ) -> pa.Table:
        """A staged file's rows, checked against its name.

        Args:
            file: which.
            columns: with the keys among them; None: all.
            check: whether to check the rows themselves; they must have all columns then.

        Raises:
            FileNotFoundError: it has been compacted.
            CorruptFile: it is not what was written.
        """

        def read(source: pq.ParquetFile) -> pa.Table:
            self._check_schema(file.path, source.schema_arrow)
            return source.read(columns=columns, use_threads=False)  # too small to share

        table = read_parquet(file.path, read)
        trial_ids = table.column("trial_id").unique().to_pylist()
        attempts = table.column("attempt").unique().to_pylist()
        steps = table.column("step").unique().to_pylist()
        if (trial_ids, attempts) != ([file.trial_id], [file.attempt]) or None in steps:
            raise CorruptFile(file.path, "its rows are not of the trial and attempt in its name")
        if max(steps) != file.step or (self.kind.one_step_per_file and len(steps) > 1):
            raise CorruptFile(file.path, "its rows are not of the step in its name")
        if check:
            self.check_rows(file.path, table)
        return table

    def check_rows(self, path: AnyPath, table: pa.Table) -> None:
        """Check whole rows against themselves.

        Raises:
            CorruptFile: they cannot be what was written.
        """
        try:
            self.kind.check_rows(table)
        except InputError as error:
            raise CorruptFile(path, str(error)) from None

    def read_part(
        self,
        part: Part,
        columns: Sequence[str] | None,
        groups: Sequence[int],
        steps: Mapping[str, Collection[int]] | None = None,
    ) -> pa.Table:
        """Rows of a part, checked against the manifest.

        Args:
            part: which.
            columns: with the keys among them; None: all.
            groups: which row groups.
            steps: row groups that hold none of these steps may be left out.

        Raises:
            FileNotFoundError: it has been replaced.
            CorruptFile: it is not what was written.
        """
        path = self.compact_folder / part.file
        wanted = list(groups)

        def read(source: pq.ParquetFile) -> pa.Table:
            self.check_part(part, source)
            if steps is not None:
                wanted[:] = [
                    number
                    for number in groups
                    if _may_hold(
                        source.metadata.row_group(number), steps[part.row_groups[number].trial_id]
                    )
                ]
            return source.read_row_groups(wanted, columns=columns)

        table = read_parquet(path, read)
        expected = {part.row_groups[number].trial_id for number in wanted}
        if set(table.column("trial_id").unique().to_pylist()) != expected:
            raise CorruptFile(path, "its rows are not of the trials that the manifest says")
        return table

    def check_part(self, part: Part, source: pq.ParquetFile) -> None:
        """Compare a part's footer with the manifest.

        Raises:
            CorruptFile: they differ.
        """
        path = self.compact_folder / part.file
        size = path.stat().st_size
        if size != part.bytes:
            raise CorruptFile(path, f"has {size} bytes, the manifest says {part.bytes}")
        self._check_schema(path, source.schema_arrow)
        metadata = source.metadata
        rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        if rows != [group.rows for group in part.row_groups]:
            raise CorruptFile(path, "does not have the row groups that the manifest says")

    def _check_schema(self, path: AnyPath, found: pa.Schema) -> None:
        check_schema(str(path), found, self.kind.schema, self.kind.more_doubles)


def _load(asked: tuple[Chunk, NDArray[np.bool_]]) -> pa.Table | Damage:
    chunk, rows = asked
    try:
        return chunk.load(rows)
    except CorruptFile as problem:
        if not isinstance(chunk.trial_ids, str):  # a part: nobody can say what it held
            raise
        return Damage(chunk.trial_ids, int(chunk.steps[0]), problem)


def _is_wanted(chunk: Chunk, steps: Mapping[str, Collection[int]]) -> NDArray[np.bool_]:
    names = np.broadcast_to(np.asarray(chunk.trial_ids, dtype=object), chunk.steps.shape)
    keys = zip(names, chunk.steps.tolist(), strict=True)
    return np.array([step in steps[name] for name, step in keys], dtype=np.bool_)


def _may_hold(row_group: pq.RowGroupMetaData, steps: Collection[int]) -> bool:
    """Whether a row group's range of steps has one of these."""
    for number in range(row_group.num_columns):
        column = row_group.column(number)
        if column.path_in_schema == "step" and column.is_stats_set:
            lowest, highest = column.statistics.min, column.statistics.max
            return any(lowest <= step <= highest for step in steps)
    return True
