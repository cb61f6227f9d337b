"""What a report shows of a run, read from Parquet into frames; samples where there is too much."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.distances import DistanceStore, StoredDistances, list_distances
from storage.errors import CorruptFile, InputError
from storage.runs import Run
from sweeps.configurations import NO_METHOD, name_configurations, stratified_sample

MASKS_ONLY = "masks only"  # the state of a trial that came without a record

# Rows of a heatmap: more have less than a pixel each.
SNAPSHOTS_SHOWN = 1000
# Groups of networks that cannot be compared with each other: each has pictures of its own.
GROUPS_SHOWN = 6


@dataclass
class RunData:
    """A run as the report needs it.

    Attributes:
        trials: one row a trial: `Run.trials()`, and the trials that have masks only.
        named: by trial_id, in the report's order: label, method, density, seed. Imported networks
            alone are called by their names.
        metrics: one row a trial and epoch, with the trial's label.
        snapshots: how many there are.
        last_snapshot: trial_id and step of one of them.
        index: one row per snapshot and layer, as `MaskStore.index` gives it without configuration.
        distances: the finished sets.
        problems: what could not be read, a line each.
    """

    run: Run
    trials: pd.DataFrame
    named: pd.DataFrame
    metrics: pd.DataFrame
    snapshots: int
    last_snapshot: tuple[str, int] | None
    index: pd.DataFrame
    distances: list[StoredDistances]
    problems: list[str] = field(default_factory=list)

    @property
    def imported(self) -> bool:
        """Whether all networks came without a configuration."""
        return imported(self.named)

    def shape(self, trial_id: str) -> str:
        """The widths of a trial's network, inputs first: `784-64-64-10`."""
        rows = self.index[self.index["trial_id"] == trial_id]
        layers = rows[rows["step"] == rows["step"].min()].sort_values("layer_index")
        return "-".join(str(n) for n in [layers["n_in"].iloc[0], *layers["n_out"]])


@dataclass(frozen=True)
class SquareGroup:
    """Distances between all pairs of snapshots that can be compared, or of a sample of them.

    Attributes:
        number: of the group, as `load_distances` takes it.
        rows: one row a snapshot, in the report's order: trial_id, step, epoch (as a fraction where
            steps are between two), and label, method, density and seed of its trial.
        matrices: (n, n) by column, `network` first.
        total: snapshots in the group; more than `rows` where this is a sample.
    """

    number: int
    rows: pd.DataFrame
    matrices: dict[str, NDArray[np.float64]]
    total: int


@dataclass(frozen=True)
class EvolutionGroup:
    """Distances of snapshots to one snapshot of their own trial.

    Attributes:
        number: of the group, as `load_distances` takes it.
        rows: one row a snapshot: trial_id, step, epoch (as a fraction where steps are between two),
            reference_step, and label, method, density and seed of its trial.
        distances: (n,) by column, `network` first, then the layers.
    """

    number: int
    rows: pd.DataFrame
    distances: dict[str, NDArray[np.float64]]


def read_run(run: Run) -> RunData:
    """Everything but the distances themselves. Damaged files are named, not fatal."""
    problems: list[str] = []
    trials = run.trials()
    index = pd.DataFrame({"trial_id": pd.Series(dtype=str), "step": pd.Series(dtype="int64")})
    metrics = pd.DataFrame({"trial_id": pd.Series(dtype=str), "epoch": pd.Series(dtype="int64")})
    distances: list[StoredDistances] = []
    try:
        index = run.masks.index(with_config=False)
    except InputError as error:
        problems.append(str(error))
    try:
        metrics = run.metrics.load()
    except InputError as error:
        problems.append(str(error))
    try:
        distances = list_distances(run.out)
    except InputError as error:
        problems.append(str(error))

    unknown = sorted(set(index["trial_id"]) - set(trials["trial_id"]))
    if unknown:
        trials = pd.concat(
            [trials, pd.DataFrame({"trial_id": unknown, "state": MASKS_ONLY})], ignore_index=True
        )
    named = _without_method(name_configurations(trials))
    last = None
    if len(index):
        last = str(index["trial_id"].iloc[-1]), int(index["step"].iloc[-1])
    return RunData(
        run=run,
        trials=trials,
        named=named,
        metrics=metrics.assign(label=metrics["trial_id"].map(named["label"])),
        snapshots=len(index[["trial_id", "step"]].drop_duplicates()),
        last_snapshot=last,
        index=index,
        distances=distances,
        problems=problems,
    )


def imported(rows: pd.DataFrame) -> bool:
    """Whether none of these trials or snapshots has a training method."""
    return len(rows) > 0 and bool((rows["method"] == NO_METHOD).all())


def _without_method(named: pd.DataFrame) -> pd.DataFrame:
    """Where all networks are imported, that is no part of their names."""
    if not imported(named):
        return named
    return named.assign(label=named["label"].str.replace(f"^{NO_METHOD} (?=.)", "", regex=True))


def square_groups(data: RunData, stored: StoredDistances) -> list[SquareGroup]:
    """The groups of a set of all pairs, the `GROUPS_SHOWN` largest, in order of their numbers.

    Reads the pairs some rows at a time and keeps those between snapshots that are shown.

    Raises:
        InputError: the set cannot be read; CorruptFile: it is damaged.
    """
    store = DistanceStore(data.run.out, stored.name)
    labels = _with_names(store, store.read_labels(), data.named)
    order = {trial_id: k for k, trial_id in enumerate(data.named.index)}
    columns = ["network", *stored.layers]
    members = _largest_groups(labels)
    groups = [_shown(rows, order) for rows in members.values()]
    # Where each position of the labels stands: in which group, in which row.
    group_of = np.full(len(labels), -1)
    row_of = np.zeros(len(labels), dtype=np.int64)
    squares: list[dict[str, NDArray[np.float64]]] = []
    for number, rows in enumerate(groups):
        group_of[rows.index] = number
        row_of[rows.index] = np.arange(len(rows))
        squares.append({column: _empty(len(rows)) for column in columns})
    for column in columns:
        for i, j, values in store.batches(column):
            for number, square in enumerate(squares):
                inside = (group_of[i] == number) & (group_of[j] == number)
                a, b = row_of[i[inside]], row_of[j[inside]]
                square[column][a, b] = square[column][b, a] = values[inside]
    return [
        SquareGroup(number, rows.reset_index(drop=True), _without_absent(square), len(all_rows))
        for (number, all_rows), rows, square in zip(members.items(), groups, squares, strict=True)
    ]


def evolution_groups(data: RunData, stored: StoredDistances) -> list[EvolutionGroup]:
    """The groups of a set `against` a snapshot of each trial, as many and in the same order.

    Raises:
        InputError: the set cannot be read; CorruptFile: it is damaged.
    """
    store = DistanceStore(data.run.out, stored.name)
    labels = store.read_labels()
    rows = _with_names(store, labels, data.named)
    compared = labels["reference"].notna().to_numpy()
    reference = labels["reference"].fillna(0).to_numpy(dtype=np.int64)
    rows["reference_step"] = labels["step"].to_numpy()[reference]
    is_reference = (labels["reference"] == labels.index).fillna(False).to_numpy(dtype=bool)
    columns = {}
    for column in ("network", *stored.layers):
        columns[column] = np.full(len(labels), np.nan)
        for i, _, values in store.batches(column):
            columns[column][i] = values
    found = []
    for number, group in _largest_groups(rows).items():
        members = np.zeros(len(rows), dtype=bool)
        members[group.index] = True
        distances = {}
        for column, values in columns.items():
            # A layer that the networks of this group lack has no distance at all.
            if column == "network" or np.isfinite(values[members]).any():
                distances[column] = np.where(is_reference, 0.0, values)[members & compared]
        shown = rows[members & compared].reset_index(drop=True)
        found.append(EvolutionGroup(number, shown, distances))
    return found


def _largest_groups(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """The rows of the largest groups, in the order of their numbers."""
    largest = rows["group"].value_counts().sort_index().nlargest(GROUPS_SHOWN)
    return {int(number): rows[rows["group"] == number] for number in sorted(largest.index)}


def _with_names(store: DistanceStore, rows: pd.DataFrame, named: pd.DataFrame) -> pd.DataFrame:
    """trial_id, step and epoch with the name of each row's configuration."""
    strangers = sorted(set(rows["trial_id"]) - set(named.index))
    if strangers:
        raise CorruptFile(store.labels, f"names trial {strangers[0]}, which the run does not have")
    names = {column: rows["trial_id"].map(named[column]) for column in named.columns}
    kept = ["trial_id", "step", "epoch", *(c for c in ("group", "steps_per_epoch") if c in rows)]
    return rows[kept].assign(epoch=_epochs(rows), **names)


def _epochs(rows: pd.DataFrame) -> pd.Series:
    """Epochs with their fraction, where the number of steps in one is known."""
    whole = rows["epoch"].astype(float)
    if "steps_per_epoch" not in rows:
        return whole
    return (rows["step"] / pd.to_numeric(rows["steps_per_epoch"])).fillna(whole)


def _shown(rows: pd.DataFrame, order: Mapping[str, int]) -> pd.DataFrame:
    """In the report's order; a sample by configuration and step where there are too many."""
    rank = rows["trial_id"].map(order)
    rows = rows.assign(rank=rank).sort_values(["rank", "step"], kind="stable").drop(columns="rank")
    strata = list(zip(rows["label"], rows["step"], strict=True))
    return rows.iloc[stratified_sample(strata, SNAPSHOTS_SHOWN)]


def _empty(n: int) -> NDArray[np.float64]:
    square = np.full((n, n), np.nan)
    np.fill_diagonal(square, 0.0)
    return square


def _without_absent(square: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Without the layers that networks of this group do not have."""
    return {
        column: matrix
        for column, matrix in square.items()
        if column == "network" or np.isfinite(matrix).sum() > len(matrix)
    }
