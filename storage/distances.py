"""Distances between snapshots as people read them: DataFrames, a list of what there is, a check."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from storage.distance_schema import distance_schema
from storage.distance_sets import StoredDistances
from storage.distance_store import (
    DistanceStore,
    check_distance_name,
    finished_distances,
    list_names,
)
from storage.errors import CorruptFile, InputError
from storage.filesystem import Location

__all__ = [
    "DistanceStore",
    "StoredDistances",
    "check_distance_name",
    "distance_schema",
    "list_distances",
    "load_distances",
    "verify_distances",
]

# A square DataFrame of float64 has 128 MB at this number of snapshots.
LARGEST_SQUARE = 4000


def list_distances(out: Location) -> list[StoredDistances]:
    """The finished sets of distances of a run, by name.

    Raises:
        CorruptFile: a spec.json is damaged.
    """
    stores = [DistanceStore(out, name) for name in finished_distances(out)]
    return [StoredDistances.of(store.folder, store.read_spec()) for store in stores]


def verify_distances(out: Location) -> list[CorruptFile]:
    """Every damaged file under a run's distances, named."""
    names = list_names(out)
    return [error for name in names for error in DistanceStore(out, name).verify()]


def load_distances(
    out: Location, name: str, column: str = "network", group: int | None = None
) -> pd.DataFrame:
    """Distances as a DataFrame.

    All pairs: a square DataFrame, MultiIndex (trial_id, step) both ways, symmetric (a pair is
    measured once), 0 on the diagonal.

    Each snapshot against its trial's reference (`against`): a tidy DataFrame with index
    (trial_id, step), one row a snapshot, and the columns `reference_step`, the distance under its
    own name, `epoch`, `group` and the trial's configuration. A snapshot that is itself the
    reference is at distance 0. Groups that do not have the layer are left out.

    Args:
        out: the run's folder.
        name: which distances.
        column: `network` or a layer's name.
        group: which snapshots, where some cannot be compared with others; a square needs it then.

    Raises:
        InputError: no such distances, column or group; several groups and none chosen; too many
            snapshots for a square, which matrix.parquet holds in long form.
        CorruptFile: a file is damaged, or was not completed.
    """
    store = DistanceStore(out, name)
    labels = store.read_labels()
    groups = sorted(set(labels["group"].tolist()))
    if group is not None and group not in groups:
        raise InputError(f"distances {name!r} have no group {group}: {_listed(groups)}")
    if "reference" in labels:
        return _against(store, labels, column, group)
    if group is None and len(groups) > 1:
        raise InputError(
            f"distances {name!r} are in groups of snapshots that cannot be compared with each "
            f"other: choose group {_listed(groups)}"
        )
    chosen = labels if group is None else labels[labels["group"] == group]
    return _square(store, chosen, column)


def _square(store: DistanceStore, labels: pd.DataFrame, column: str) -> pd.DataFrame:
    n = len(labels)
    if n > LARGEST_SQUARE:
        raise InputError(
            f"{n} snapshots are too many for a square table (at most {LARGEST_SQUARE}): "
            f"read {store.matrix} instead, a row a pair"
        )
    square = np.zeros((n, n))
    first = int(labels.index[0])  # the snapshots of a group follow one another
    found = 0
    for i, j, values in store.batches(column):
        inside = (i >= first) & (i < first + n)
        row, across = i[inside] - first, j[inside] - first
        square[row, across] = square[across, row] = values[inside]
        found += len(row)
    _check_complete(store, found, n * (n - 1) // 2)
    if n > 1 and np.isnan(square).any():  # null for all pairs of a group or for none
        group = labels["group"].iloc[0]
        raise InputError(f"the snapshots of group {group} of {store.name!r} have no {column!r}")
    names = pd.MultiIndex.from_frame(labels[["trial_id", "step"]])
    return pd.DataFrame(square, index=names, columns=names)


def _against(
    store: DistanceStore, labels: pd.DataFrame, column: str, group: int | None
) -> pd.DataFrame:
    distance = np.zeros(len(labels))  # of a snapshot to itself, which is no pair
    found = 0
    for i, _, values in store.batches(column):
        distance[i] = values
        found += len(i)
    reference = labels["reference"].fillna(-1).to_numpy(dtype=np.int64)
    compared = reference >= 0  # the others are references only
    _check_complete(store, found, int((compared & (reference != np.arange(len(labels)))).sum()))
    table = labels.drop(columns=["reference", column], errors="ignore")
    table.insert(2, "reference_step", labels["step"].to_numpy()[reference])
    table.insert(3, column, distance)
    without = set(labels["group"][np.isnan(distance)])
    if group is None:
        table = table[compared & ~labels["group"].isin(without)]
    elif group in without:
        raise InputError(f"the snapshots of group {group} of {store.name!r} have no {column!r}")
    else:
        table = table[compared & (labels["group"] == group)]
    return table.set_index(["trial_id", "step"])


def _check_complete(store: DistanceStore, found: int, expected: int) -> None:
    if found != expected:
        raise CorruptFile(store.matrix, f"has {found} of {expected} pairs")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
