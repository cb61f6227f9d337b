"""The distances of a set cut into epochs: the networks as they are at the same time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeps.configurations import evenly, stratified_sample
from sweeps.report_data import SquareGroup

# Rows and columns of small heatmaps (the paper's figure 4 has nine epochs); networks in one.
EPOCHS_SHOWN = 9
COLUMNS_SHOWN = 6
NETWORKS_SHOWN = 100

Square = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moment:
    """The networks of a course at one epoch.

    Attributes:
        name: `epoch 50`.
        snapshots: trial_id and step of those that are there.
        matrices: (n, n) by column; not-a-number where a network has no snapshot.
        expected: the same by chance; empty where that is not known.
    """

    name: str
    snapshots: tuple[tuple[str, int], ...]
    matrices: dict[str, Square]
    expected: dict[str, Square]

    @property
    def pairs(self) -> int:
        """How many pairs of networks there are."""
        return len(self.snapshots) * (len(self.snapshots) - 1) // 2

    def mean(self, column: str) -> float:
        """Mean distance between its networks."""
        return _mean_of_pairs(self.matrices[column])

    def mean_expected(self, column: str) -> float:
        """Mean of what is expected by chance; not-a-number where that is not known."""
        return _mean_of_pairs(self.expected[column]) if column in self.expected else float("nan")

    def note(self, column: str) -> str:
        """Both means in few words."""
        level = self.mean_expected(column)
        chance = f"\nby chance {level:.3f}" if np.isfinite(level) else ""
        return f"mean {self.mean(column):.3f}{chance}"


@dataclass(frozen=True, eq=False)
class Course:
    """One group of a set of all pairs, moment by moment.

    Attributes:
        name: of the set.
        method: as `report_sets.method_name` says it.
        group: its name and shape; empty where there is one only.
        networks: one row a trial, in the report's order: trial_id, label, method, seed; row k of
            all matrices.
        total: trials in the group; more than `networks` where these are a sample.
        columns: `network`, and the layers that differ between networks, a few of them.
        moments: in the order of time.
    """

    name: str
    method: str
    group: str
    networks: pd.DataFrame
    total: int
    columns: tuple[str, ...]
    moments: list[Moment]

    @property
    def ticks(self) -> list[str] | None:
        """What tells the networks apart: seeds, or the one setting in which their names differ."""
        seeds = [str(seed) for seed in self.networks["seed"]]
        if any(seeds):
            return seeds
        last = [words[-1] for words in self._words]
        return last if self.ticks_are != "seed" else None

    @property
    def ticks_are(self) -> str:
        """What the ticks are called: `seed`, or a setting's name."""
        words = self._words
        setting = {tuple(own[:-1]) for own in words}
        alone = len(words) == len({own[-1] for own in words}) > 1
        if any(self.networks["seed"]) or len(setting) > 1 or not alone or len(words[0]) < 3:
            return "seed"
        return words[0][-2]

    @property
    def _words(self) -> list[list[str]]:
        return [str(label).split(" ") for label in self.networks["label"]]


def course_of(
    name: str, method: str, group: str, square: SquareGroup, expected: Mapping[str, Square]
) -> Course:
    """Cut a group's matrices into moments; those of fewer than two networks are left out.

    Args:
        expected: (n, n) by column, as `Chance.of_pairs` gives it; may be empty.
    """
    rows = square.rows
    trials = rows.drop_duplicates("trial_id")
    sample = stratified_sample(trials["label"].tolist(), NETWORKS_SHOWN)
    networks = trials.iloc[sample].reset_index(drop=True)
    place = {trial_id: k for k, trial_id in enumerate(networks["trial_id"])}
    columns = _columns(square)
    moments = []
    for title, positions in _at_each_time(rows):
        at = positions[rows["trial_id"].iloc[positions].isin(place.keys()).to_numpy()]
        if len(at) < 2:
            continue
        here = rows.iloc[at]
        to = np.array([place[trial_id] for trial_id in here["trial_id"]])
        moments.append(
            Moment(
                title,
                tuple(zip(here["trial_id"], (int(s) for s in here["step"]), strict=True)),
                {c: _placed(square.matrices[c], at, to, len(place)) for c in columns},
                {c: _placed(expected[c], at, to, len(place)) for c in columns if c in expected},
            )
        )
    return Course(name, method, group, networks, len(trials), columns, moments)


def _columns(square: SquareGroup) -> tuple[str, ...]:
    layers = [c for c, matrix in square.matrices.items() if c != "network" and matrix.any()]
    return ("network", *(layers[k] for k in evenly(len(layers), COLUMNS_SHOWN - 1)))


def _at_each_time(rows: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Name and positions of the rows that belong to one time, the earliest first."""
    positions = np.arange(len(rows))
    if not rows["trial_id"].duplicated().any():
        low, high = (f"{epoch:.4g}" for epoch in (rows["epoch"].min(), rows["epoch"].max()))
        yield (f"epoch {low}" if low == high else f"epochs {low} to {high}"), positions
        return
    # Epochs go with the data seen, steps may differ in it; without fractions epochs may repeat.
    by = "step" if rows.duplicated(["trial_id", "epoch"]).any() else "epoch"
    values = rows[by].to_numpy()
    for value in np.unique(values):
        yield f"{by} {value:.4g}" if by == "epoch" else f"step {value}", positions[values == value]


def _placed(matrix: Square, at: NDArray[np.int64], to: NDArray[np.int64], n: int) -> Square:
    """(n, n) with the rows and columns `at` of a matrix in the places `to`, NaN elsewhere."""
    square = np.full((n, n), np.nan)
    square[np.ix_(to, to)] = matrix[np.ix_(at, at)]
    return square


def _mean_of_pairs(matrix: Square) -> float:
    values = matrix[np.triu_indices(len(matrix), k=1)]
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")
