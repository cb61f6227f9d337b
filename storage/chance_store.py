"""The distances expected by chance, beside the distances they are of.

A level is of two classes of snapshots, which have about the same degrees each: the mean distance
of random networks with the degrees of pairs of the matrix, one network of each class.

OUT/distances/<name>/
    chance.parquet          one row per pair of classes: `group`, `class_i`, `class_j`, `samples`
                            (pairs of random networks), `network` and `network_error` (the mean of
                            their distances and its standard error), and the same for each layer.
                            In a set `against` a snapshot of each trial, `class_j` is that one's.
    chance_classes.parquet  the class of each snapshot, in the order of labels.parquet: `trial_id`,
                            `step`, `group`, `chance_class`

A class is named by its density; its name tells nothing across groups.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from storage.digested import read_digested, write_digested
from storage.distance_store import CHANCE, CHANCE_CLASSES, DistanceStore
from storage.distances import load_distances
from storage.errors import CorruptFile, InputError
from storage.filesystem import Location

_FIXED = ("group", "class_i", "class_j", "samples")
_CLASSES = pa.schema(
    [
        pa.field("trial_id", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("chance_class", pa.string(), nullable=False),
    ]
)


class ChanceStore:
    """The two files of one named set of distances."""

    def __init__(self, out: Location, name: str) -> None:
        self.distances = DistanceStore(out, name)
        self.levels = self.distances.folder / CHANCE
        self.classes = self.distances.folder / CHANCE_CLASSES

    def write(
        self, levels: pd.DataFrame, classes: pd.DataFrame, layers: Sequence[str], digest: str
    ) -> None:
        """Write both files, which stand for the distances as they are now.

        Args:
            levels, classes: with the columns above.
            layers: the layers' names.
            digest: of what the levels follow from, the distances' plan aside.
        """
        schema = chance_schema(layers)
        whole = f"{self.distances.read_plan()} {digest}"
        for path, frame, columns in (
            (self.classes, classes, _CLASSES),
            (self.levels, levels, schema),  # last: with it they are complete
        ):
            table = pa.Table.from_pandas(frame, schema=columns, preserve_index=False)
            write_digested(path, table.schema, [table], whole)

    def is_current(self, digest: str) -> bool:
        """Whether the levels that this digest stands for are there, for these distances."""
        try:
            digests = {read_digested(path)[1] for path in (self.levels, self.classes)}
        except (CorruptFile, FileNotFoundError):
            return False
        return digests == {f"{self.distances.read_plan()} {digest}"}

    def remove_outdated(self) -> None:
        """Delete levels that belong to other distances than the ones that are there now."""
        try:
            self.read()
        except InputError:
            for path in (self.levels, self.classes):
                path.unlink(missing_ok=True)

    def read(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Levels and classes; None where there are none.

        Raises:
            InputError: there are no distances of this name.
            CorruptFile: a file is damaged, or belongs to other distances.
        """
        plan = self.distances.read_plan()
        try:
            levels, digest = read_digested(self.levels)
            classes, other = read_digested(self.classes)
        except FileNotFoundError:
            return None
        if digest is None or digest != other or digest.split()[0] != plan:
            raise CorruptFile(self.levels, "is of other distances: compute the chance level again")
        return levels.to_pandas(), classes.to_pandas()


def chance_schema(layers: Sequence[str]) -> pa.Schema:
    """The columns of chance.parquet.

    Raises:
        InputError: a layer's name is another column's.
    """
    names = ["network", *layers]
    columns = [*_FIXED, *names, *(f"{name}_error" for name in names)]
    for name in layers:
        if columns.count(name) > 1:
            raise InputError(f"a layer cannot be named {name!r}: chance levels have such a column")
    values = [column for name in names for column in (name, f"{name}_error")]
    return pa.schema(
        [
            pa.field("group", pa.int32(), nullable=False),
            pa.field("class_i", pa.string(), nullable=False),
            pa.field("class_j", pa.string(), nullable=False),
            pa.field("samples", pa.int32(), nullable=False),
            *(pa.field(column, pa.float64()) for column in values),
        ]
    )


def load_chance(out: Location, name: str) -> pd.DataFrame:
    """The chance levels of a set of distances: one row per group and pair of classes.

    Columns: group, class_i, class_j, samples, network, network_error, and <layer>, <layer>_error
    for each layer (missing in groups that do not have it). An error is a standard error of the
    mean over the samples: times sqrt(samples), it is the spread of single pairs.

    Args:
        out: the run's folder.
        name: which distances.

    Raises:
        InputError: no such distances, or none with a chance level.
        CorruptFile: a file is damaged, or belongs to other distances.
    """
    return _read(out, name)[0]


def expected_distances(
    out: Location, name: str, column: str = "network", group: int | None = None
) -> pd.DataFrame:
    """The distance of each pair that is expected by chance, as `load_distances` gives distances.

    All pairs: a square DataFrame with the same rows and columns, missing on the diagonal. `against`
    sets: the same rows, with the level under the column's name and `<column>_error`; missing where
    the snapshot is its own reference. So `load_distances(...) / expected_distances(...)` is the
    share of the chance level (of a set `against`, of this one column).

    Raises:
        InputError, CorruptFile: as `load_distances` and `load_chance`.
    """
    distances = load_distances(out, name, column, group)
    levels, classes = _read(out, name)
    found = classes.set_index(["trial_id", "step"])
    mine = found.loc[distances.index]
    if "reference_step" not in distances:
        square = level_table(levels, int(mine["group"].iloc[0]), column)
        own = mine["chance_class"]
        values = square.reindex(index=own, columns=own).to_numpy(copy=True)
        np.fill_diagonal(values, np.nan)
        return pd.DataFrame(values, index=distances.index, columns=distances.columns)
    trials = distances.index.get_level_values("trial_id")
    references = pd.MultiIndex.from_arrays([trials, distances["reference_step"]])
    pairs = pd.DataFrame(
        {
            "group": mine["group"].to_numpy(),
            "class_i": mine["chance_class"].to_numpy(),
            "class_j": found.loc[references, "chance_class"].to_numpy(),
        }
    )
    wanted = [column, f"{column}_error"]
    keys = ["group", "class_i", "class_j"]
    expected = pairs.merge(levels[[*keys, *wanted]], on=keys, how="left")[wanted]
    steps = distances.index.get_level_values("step").to_numpy()
    expected.loc[steps == distances["reference_step"].to_numpy()] = np.nan
    return expected.set_index(distances.index)


def level_table(levels: pd.DataFrame, group: int, column: str) -> pd.DataFrame:
    """One group's levels as a square by class; missing where no pair is of these classes."""
    rows = levels[levels["group"] == group]
    names = list(dict.fromkeys([*rows["class_i"], *rows["class_j"]]))
    square = rows.pivot_table(index="class_i", columns="class_j", values=column, dropna=False)
    square = square.reindex(index=names, columns=names)
    return square.fillna(square.T)


def _read(out: Location, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    store = ChanceStore(out, name)
    found = store.read()
    if found is None:
        raise InputError(
            f"distances {name!r} have no chance level: "
            f"toposweep distances {out} --name {name} --chance 10 computes it"
        )
    return found
