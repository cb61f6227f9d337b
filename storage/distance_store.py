"""Distances between snapshots: the tiles as they come, the matrix put together from them.

OUT/distances/<name>/
    tiles/<tile>.parquet  one shard of the pairs each; the unit of resumption
    matrix.parquet        every pair, one row each, in the order of the plan's tiles
    labels.parquet        what the numbers i and j stand for: trial_id, step, group, configuration
    spec.json             what was asked for
    begun.json            of a stage that has not ended: how many tiles there will be
    chance.parquet, chance_classes.parquet  the distances expected by chance: `chance_store`

A row holds `i` and `j` (int32, positions in the labels), `network` (double), `canonical` (bool) and
a double a layer, null where the pair's networks do not have that layer. Every file carries the
digest of what it was computed from.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from storage.digested import digest_of, read_digested, write_digested
from storage.distance_schema import FIXED_COLUMNS, distance_schema, labels_table
from storage.distance_sets import SPEC
from storage.errors import CorruptFile, InputError
from storage.filesystem import (
    AnyPath,
    Location,
    for_each,
    names_in,
    read_json,
    remove_temporaries,
    run_folder,
    write_json,
)
from storage.parquet import open_parquet
from storage.retrying import retried

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TILE_FILE = re.compile(r"[^.].*\.parquet")
_ROW_GROUP = 100_000
_OTHER_PLAN = "not completed, or being written: compute these distances again"

CHANCE, CHANCE_CLASSES = "chance.parquet", "chance_classes.parquet"


def check_distance_name(name: str) -> str:
    """The name if it can be a folder's, else InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"distances cannot be named {name!r:.80}: a name is letters, digits, '_' and '-'"
        )
    return name


def list_names(out: Location) -> list[str]:
    """The names of a run's sets of distances, begun or finished."""
    return [name for name in names_in(run_folder(out) / "distances") if _NAME.fullmatch(name)]


def finished_distances(out: Location) -> list[str]:
    """The names of those that have a matrix."""
    folder = run_folder(out) / "distances"
    return [name for name in list_names(out) if (folder / name / "matrix.parquet").exists()]


class DistanceStore:
    """The files of one named set of distances. Every write appears whole or not at all."""

    def __init__(self, out: Location, name: str) -> None:
        self.name = check_distance_name(name)
        self.folder = run_folder(out) / "distances" / name
        self.tiles = self.folder / "tiles"
        self.matrix = self.folder / "matrix.parquet"
        self.labels = self.folder / "labels.parquet"
        self.spec = self.folder / SPEC

    def write_tile(
        self,
        tile: str,
        digest: str,
        *,
        i: NDArray[np.int32],
        j: NDArray[np.int32],
        values: NDArray[np.float64],
        canonical: NDArray[np.bool_],
        layers: Sequence[str],
    ) -> None:
        """Write one tile.

        Args:
            tile: its name within the plan.
            digest: what its values follow from; a tile with another digest is not current.
            i, j: (n,) the pairs.
            values: (n, 1 + L) the network's distance and each layer's.
            canonical: (n,).
            layers: L names.
        """
        columns = {
            "i": pa.array(i, pa.int32()),
            "j": pa.array(j, pa.int32()),
            "network": pa.array(values[:, 0]),
            "canonical": pa.array(canonical),
        }
        columns |= {name: pa.array(values[:, 1 + k]) for k, name in enumerate(layers)}
        table = pa.table(columns, schema=distance_schema(layers))
        write_digested(self.tile_path(tile), table.schema, [table], digest)

    def tile_path(self, tile: str) -> AnyPath:
        """Where a tile lies."""
        return self.tiles / f"{tile}.parquet"

    def current_tiles(self, digests: Mapping[str, str]) -> set[str]:
        """The tiles that are there, whole, and hold what their digests stand for."""
        found = {name.removesuffix(".parquet") for name in names_in(self.tiles)}
        there = [tile for tile in digests if tile in found]
        current = for_each(lambda tile: self._is_current(tile, digests[tile]), there, self.tiles)
        return {tile for tile, whole in zip(there, current, strict=True) if whole}

    def _is_current(self, tile: str, digest: str) -> bool:
        try:
            return read_digested(self.tile_path(tile))[1] == digest
        except (CorruptFile, FileNotFoundError):
            return False

    def assemble(self, tiles: Iterable[tuple[str, str]], layers: Sequence[str], plan: str) -> None:
        """Put the matrix together from its tiles, a few of them in memory at a time.

        Args:
            tiles: name and digest of each, in the order in which their rows are to come.
            layers: names of all layers of all tiles; a tile without one has nulls there.
            plan: digest of the whole set.

        Raises:
            CorruptFile: a tile is missing, damaged, or another one than the digest says.
        """
        schema = distance_schema(layers)
        tiles = list(tiles)
        retried(
            lambda: write_digested(
                self.matrix, schema, _row_groups(self._rows(tiles, schema)), plan
            )
        )

    def _rows(self, tiles: Iterable[tuple[str, str]], schema: pa.Schema) -> Iterator[pa.Table]:
        for tile, digest in tiles:
            path = self.tile_path(tile)
            try:
                table, found = read_digested(path)
            except FileNotFoundError:
                raise CorruptFile(path, "this tile is missing") from None
            if found != digest:
                raise CorruptFile(path, "this tile holds other pairs")
            columns = [
                table[field.name]
                if field.name in table.column_names
                else pa.nulls(len(table), field.type)
                for field in schema
            ]
            yield pa.table(columns, schema=schema)

    def write_labels(self, labels: pd.DataFrame, plan: str) -> None:
        """Write what the positions stand for: one row a snapshot, in order.

        Columns: trial_id, step, epoch, group, where snapshots are compared with a reference its
        position as `reference` (missing for those that only serve as one), and any others.
        """
        table = labels_table(labels)
        write_digested(self.labels, table.schema, [table], plan)

    def read_labels(self) -> pd.DataFrame:
        """What the positions stand for, in their order.

        Raises:
            InputError: there are no distances of this name.
            CorruptFile: the file is damaged.
        """
        return self._read_labels()[0]

    def read_plan(self) -> str | None:
        """The digest of the snapshots, their order and the method: InputError as `read_labels`."""
        return self._read_labels()[1]

    def _read_labels(self) -> tuple[pd.DataFrame, str | None]:
        try:
            table, plan = read_digested(self.labels)
        except FileNotFoundError:
            raise InputError(self._absent()) from None
        labels: pd.DataFrame = table.drop_columns("index").to_pandas()
        return labels, plan

    def write_spec(self, spec: Mapping[str, Any]) -> None:
        """Write what was asked for."""
        write_json(self.spec, dict(spec))

    def read_spec(self) -> dict[str, Any]:
        """What was asked for.

        Raises:
            InputError: there are no distances of this name.
            CorruptFile: the file is damaged.
        """
        try:
            spec = read_json(self.spec)
        except FileNotFoundError:
            raise InputError(self._absent()) from None
        if not isinstance(spec, dict):
            raise CorruptFile(self.spec, "this is no description of distances")
        return spec

    def remove_other_tiles(self, tiles: Iterable[str]) -> int:
        """Delete the tiles that a plan does not have, and what dead writers left; how many."""
        keep = {self.tile_path(tile).name for tile in tiles}
        others = [path for path in self._tile_files() if path.name not in keep]
        for path in others:
            path.unlink(missing_ok=True)
        for folder in (self.folder, self.tiles):
            remove_temporaries(folder)
        return len(others)

    def _tile_files(self) -> list[AnyPath]:
        names = names_in(self.tiles)
        return [self.tiles / name for name in names if _TILE_FILE.fullmatch(name)]

    def verify(self) -> list[CorruptFile]:
        """Every damaged file, named; reads all of them, a few rows at a time.

        A stage that was interrupted is no damage: it has tiles and, the first time, no matrix.
        """
        paths = self._tile_files()
        complete = self.matrix.exists()
        if complete:
            paths += [self.labels, self.matrix]
        chance = self.folder / CHANCE, self.folder / CHANCE_CLASSES
        paths += [path for path in chance if path.exists()]
        found: list[CorruptFile] = []
        plans, levels = set(), set()
        for path in paths:
            try:
                with open_parquet(path) as file:
                    for _ in file.iter_batches():
                        pass
                    if path in (self.labels, self.matrix):
                        plans.add(digest_of(file))
                    elif path in chance:  # whose digest begins with the plan
                        plans.add((digest_of(file) or "").partition(" ")[0])
                        levels.add(digest_of(file))
            except FileNotFoundError:
                found.append(CorruptFile(path, "the file is missing"))
            except CorruptFile as error:
                found.append(error)
        if complete:
            try:
                plans.add(self.read_spec().get("plan"))
            except InputError as error:
                found.append(CorruptFile(self.spec, getattr(error, "why", "the file is missing")))
        if len(plans) > 1 and not found:
            found.append(CorruptFile(self.matrix, _OTHER_PLAN))
        elif len(levels) > 1:
            found.append(CorruptFile(chance[0], "is not of the classes beside it"))
        return found

    def batches(self, column: str) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """i, j and the distance of some rows of the matrix at a time.

        Args:
            column: `network` or a layer's name.

        Raises:
            InputError: there are no distances of this name, or no such column.
            CorruptFile: the file is damaged, or is not the labels' matrix.
        """
        _, plan = self._read_labels()
        try:
            with open_parquet(self.matrix) as file:
                if digest_of(file) != plan:
                    raise CorruptFile(self.matrix, _OTHER_PLAN)
                known = ["network", *file.schema_arrow.names[len(FIXED_COLUMNS) :]]
                if column not in known:
                    raise InputError(
                        f"distances {self.name!r} have no {column!r}: {', '.join(known)}"
                    )
                for batch in file.iter_batches(columns=["i", "j", column], use_threads=False):
                    i, j, values = (
                        batch.column(k).to_numpy(zero_copy_only=False) for k in range(3)
                    )
                    yield i, j, values
        except FileNotFoundError:
            raise InputError(self._absent()) from None

    def _absent(self) -> str:
        folder = self.folder.parent
        names = finished_distances(folder.parent)
        there = f"there are {', '.join(names)}" if names else "there are none"
        return f"no distances named {self.name!r} in {folder}: {there}"


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in larger pieces: a row group for each small tile would read slowly."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += len(table)
        if rows >= _ROW_GROUP:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held)
