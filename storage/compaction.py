"""Compaction: many staged files into few parts, whatever happens beside it.

It writes new parts, which nobody sees; publishes a manifest that names them; and only then deletes
what they replace. Killed before the manifest it has changed nothing, killed after it every row is
in a part, and in a staged file or an old part besides, where readers pass it over.

A part is replaced when it holds a trial with new rows, or rows that a later attempt has fenced off,
or when it is small. A file that is not what was written stays where it is and is reported.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.attempts import list_attempts, read_claims
from storage.errors import CorruptFile
from storage.filesystem import AnyPath, for_each, remove_if_empty, remove_temporaries
from storage.layout import StagedFile
from storage.lock import RunLock, held
from storage.manifest import Part, publish_manifest
from storage.parquet import open_parquet
from storage.parts import check_bytes, is_small, write_parts
from storage.retrying import retried
from storage.rows import Chunk, chunk_of_table, count_rows
from storage.schema import KEY_COLUMNS
from storage.staged import StagedTable

# A trial is one row group unless its rows take more memory than this.
ROW_GROUP_BYTES = 64 * 2**20
_FILES_AT_ONCE = 64  # that are in memory before they are a row group


@dataclass
class Compaction:
    """What a compaction has left.

    Attributes:
        files: parts of the table.
        rows: rows in them.
        bytes: bytes of them.
        corrupt: files that are not what was written, left where they are.
    """

    files: int = 0
    rows: int = 0
    bytes: int = 0
    corrupt: list[CorruptFile] = field(default_factory=list)


def compact_table(table: StagedTable, lock: RunLock | None = None) -> Compaction:
    """Compact a table.

    Args:
        table: masks or metrics of a run.
        lock: OUT's lock if the caller holds it; None: it is taken for the time.

    Raises:
        InputError: the lock is held by another process, or was lost.
    """
    if not table.folder.is_dir():
        return Compaction()
    with held(table.out, "compact", lock) as mine:
        # Publishing is the only step that counts; all before it may be done again.
        return retried(lambda: _Compactor(table, mine).run())


class _Compactor:
    """One compaction of one table."""

    def __init__(self, table: StagedTable, lock: RunLock) -> None:
        self.table = table
        self.lock = lock
        self.corrupt: dict[str, CorruptFile] = {}
        # Parsing a part's footer once for all its row groups; trials follow the parts' order.
        self._footer = lru_cache(maxsize=16)(self._read_footer)

    def run(self) -> Compaction:
        try:
            listing = self.table.listing()
        except CorruptFile as problem:  # nobody can say what is compacted and what is not
            return Compaction(corrupt=[problem])
        parts = listing.parts
        self.published = listing.manifest.number if listing.manifest else 0
        if listing.manifest is None and listing.staged:
            self._publish(())  # read_manifest says why
        self._clean(parts)

        trials = {group.trial_id for part in parts for group in part.row_groups}
        unknown = self._with_unreadable_claims(trials | {file.trial_id for file in listing.staged})
        staged = [file for file in listing.staged if file.trial_id not in unknown]
        replaced = self._choose(parts, staged, unknown)
        if replaced or staged:
            parts = self._rewrite(parts, replaced, staged)
        return Compaction(
            files=len(parts),
            rows=sum(part.rows for part in parts),
            bytes=sum(part.bytes for part in parts),
            corrupt=list(self.corrupt.values()),
        )

    def _clean(self, parts: Sequence[Part]) -> None:
        """Remove what compactions and writers that died have left."""
        if orphans := list(self.table.orphans(parts)):
            self._publish(tuple(parts))  # refused when another's are among them; later, the other
            for orphan in orphans:
                orphan.unlink(missing_ok=True)
        for folder in (self.table.folder, self.table.compact_folder):
            remove_temporaries(folder)

    def _report(self, problem: CorruptFile) -> None:
        self.corrupt[problem.path] = problem

    # What to replace

    def _with_unreadable_claims(self, trial_ids: Collection[str]) -> set[str]:
        """Trials of which nobody can say which rows count: they stay as they are."""
        unknown = set()
        for trial_id in trial_ids:
            try:
                read_claims(self.table.out, trial_id)
            except CorruptFile as problem:
                self._report(problem)
                unknown.add(trial_id)
        return unknown

    def _choose(
        self, parts: Sequence[Part], staged: Sequence[StagedFile], unknown: Collection[str]
    ) -> list[Part]:
        news = {file.trial_id for file in staged}
        chosen, small = [], []
        for part in parts:
            trials = {group.trial_id for group in part.row_groups}
            if trials & set(unknown):
                continue
            if trials & news or self._has_fenced_rows(part):
                chosen.append(part)
            elif is_small(part):
                small.append(part)
        if news or chosen or len(small) > 1:
            chosen += small
        return [part for part in chosen if self._is_whole(part)]

    def _has_fenced_rows(self, part: Part) -> bool:
        again = [
            number
            for number, group in enumerate(part.row_groups)
            if len(list_attempts(self.table.out, group.trial_id)) > 1
        ]
        if not again:
            return False
        try:
            rows = self.table.read_part(part, KEY_COLUMNS, again)
        except (CorruptFile, FileNotFoundError):  # _is_whole reports it
            return True
        return not count_rows(self.table.out, [chunk_of_table(self._path(part), rows)])[0].all()

    def _is_whole(self, part: Part) -> bool:
        """Whether a part is what was written, every byte: else no other may take its place."""
        try:
            check_bytes(self._path(part), part)
        except CorruptFile as problem:
            self._report(problem)
            return False
        return True

    # Replacing it

    def _rewrite(
        self, parts: Sequence[Part], replaced: Sequence[Part], staged: Sequence[StagedFile]
    ) -> tuple[Part, ...]:
        schema = self._schema(replaced, staged)
        made = write_parts(
            self.table.compact_folder,
            schema,
            self.table.kind.plain_columns,
            self._row_groups(replaced, staged),
        )
        published = (*(part for part in parts if part not in replaced), *made)
        self._publish(published)
        for part in replaced:
            self._path(part).unlink(missing_ok=True)
        self._remove_staged([file.path for file in staged if str(file.path) not in self.corrupt])
        return published

    def _publish(self, parts: tuple[Part, ...]) -> None:
        self.lock.check()
        publish_manifest(self.table.folder, parts, after=self.published)
        self.published += 1

    def _remove_staged(self, paths: Sequence[AnyPath]) -> None:
        list(for_each(lambda path: path.unlink(missing_ok=True), paths, self.table.out))
        for folder in {path.parent for path in paths}:
            remove_temporaries(folder)
            remove_if_empty(folder)  # else a writer is at work there

    def _schema(self, parts: Sequence[Part], staged: Sequence[StagedFile]) -> pa.Schema:
        """The columns of the new parts: all that any source has."""
        schema = self.table.kind.schema
        if not self.table.kind.more_doubles:
            return schema
        found = dict.fromkeys(schema.names)
        for path in [*map(self._path, parts), *(file.path for file in staged)]:
            # A file that cannot be read is reported when its rows are wanted.
            with suppress(CorruptFile, FileNotFoundError), open_parquet(path) as source:
                found.update(dict.fromkeys(source.schema_arrow.names))
        more = [pa.field(name, pa.float64()) for name in found if name not in schema.names]
        return pa.schema([*schema, *more], metadata=schema.metadata)

    def _row_groups(
        self, parts: Sequence[Part], staged: Sequence[StagedFile]
    ) -> Iterator[tuple[str, pa.Table]]:
        """The rows that count, trial by trial, in tables of about ROW_GROUP_BYTES at most."""
        files: dict[str, list[StagedFile]] = defaultdict(list)
        for file in staged:
            files[file.trial_id].append(file)
        groups: dict[str, list[tuple[Part, int]]] = defaultdict(list)
        for part in parts:
            for number, group in enumerate(part.row_groups):
                groups[group.trial_id].append((part, number))
        for trial_id in sorted({*files, *groups}):
            chunks = self._staged_chunks(files[trial_id])
            chunks += [self._group_chunk(part, number) for part, number in groups[trial_id]]
            for table in self._tables(chunks):
                yield trial_id, table

    def _tables(self, chunks: Sequence[Chunk]) -> Iterator[pa.Table]:
        tables: list[pa.Table] = []
        size = 0
        for loaded in self._loaded(chunks):
            if tables and size + loaded.nbytes > ROW_GROUP_BYTES:
                yield _joined(tables)
                tables, size = [], 0
            tables.append(loaded)
            size += loaded.nbytes
        if tables:
            yield _joined(tables)

    def _loaded(self, chunks: Sequence[Chunk]) -> Iterator[pa.Table]:
        """The rows that count, by step; those that cannot be read are reported and left out."""
        counted = zip(chunks, count_rows(self.table.out, chunks), strict=True)
        wanted = [pair for pair in sorted(counted, key=_first_step) if pair[1].any()]
        for start in range(0, len(wanted), _FILES_AT_ONCE):
            some = wanted[start : start + _FILES_AT_ONCE]
            for table in for_each(lambda pair: self._load(*pair), some, self.table.out):
                if table is not None:
                    yield table

    def _load(self, chunk: Chunk, counts: NDArray[np.bool_]) -> pa.Table | None:
        try:
            return chunk.load(counts)
        except CorruptFile as problem:
            if chunk.path.parent == self.table.compact_folder:
                raise  # it was whole a moment ago: publish nothing
            self._report(problem)
        except FileNotFoundError:
            if chunk.path.parent == self.table.compact_folder:
                raise
        return None

    def _staged_chunks(self, files: Sequence[StagedFile]) -> list[Chunk]:
        chunks = []
        for file in files:
            try:
                chunks.append(self.table.staged_chunk(file, None, check=True))
            except CorruptFile as problem:
                self._report(problem)
            except FileNotFoundError:  # taken away by somebody: it will not be deleted by us
                continue
        return chunks

    def _group_chunk(self, part: Part, number: int) -> Chunk:
        path = self._path(part)

        def read(columns: list[str] | None) -> pa.Table:
            with open_parquet(path, self._footer(part)) as source:
                return source.read_row_group(number, columns=columns)

        def load(counts: NDArray[np.bool_]) -> pa.Table:
            return chunk_of_table(path, read(None)).load(counts)

        return replace(chunk_of_table(path, read(KEY_COLUMNS)), load=load)

    def _read_footer(self, part: Part) -> pq.FileMetaData:
        with open_parquet(self._path(part)) as source:
            self.table.check_part(part, source)
            return source.metadata

    def _path(self, part: Part) -> AnyPath:
        return self.table.compact_folder / part.file


def _first_step(counted: tuple[Chunk, NDArray[np.bool_]]) -> int:
    return int(counted[0].steps.min(initial=0))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table, by step; rows of one step stay in their order."""
    table = pa.concat_tables(tables, promote_options="default")
    steps = table.column("step").to_numpy()
    return table if (np.diff(steps) >= 0).all() else table.take(np.argsort(steps, kind="stable"))
