"""What a report says of the distances that are expected by chance, where there are any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.chance_store import ChanceStore, level_table
from storage.errors import CorruptFile
from sweeps.readable import decimals
from sweeps.report_data import EvolutionGroup, RunData, SquareGroup
from sweeps.report_means import diagonal_note
from sweeps.report_page import Section, Table, titled
from topology.heatmaps import block_means


@dataclass(frozen=True)
class Chance:
    """The levels of one set of distances, and each snapshot's class by (trial_id, step)."""

    levels: pd.DataFrame
    classes: "pd.Series[str]"

    @property
    def samples(self) -> int:
        """Pairs of random networks behind each level."""
        return int(self.levels["samples"].min())

    def of_pairs(self, square: SquareGroup) -> dict[str, NDArray[np.float64]]:
        """By column, (n, n): what is expected for each pair that the group shows; NaN for none."""
        own = self._classes(square.rows)
        found = {}
        for column in square.matrices:
            table = level_table(self.levels, square.number, column)
            found[column] = table.reindex(index=own, columns=own).to_numpy(copy=True)
            np.fill_diagonal(found[column], np.nan)
        return found

    def of_snapshots(
        self, evolution: EvolutionGroup, columns: Sequence[str]
    ) -> dict[str, NDArray[np.float64]]:
        """By column, and column_error, (n,): what is expected for each snapshot and its reference.

        NaN where a snapshot is its own reference.
        """
        rows = evolution.rows
        own = self._classes(rows)
        reference = self._classes(rows.assign(step=rows["reference_step"]))
        itself = (rows["step"] == rows["reference_step"]).to_numpy()
        found = {}
        for column in (*columns, *(f"{column}_error" for column in columns)):
            table = level_table(self.levels, evolution.number, column).stack()
            values = table.reindex(pd.MultiIndex.from_arrays([own, reference])).to_numpy()
            found[column] = np.where(itself, np.nan, values)
        return found

    def _classes(self, rows: pd.DataFrame) -> NDArray[np.object_]:
        keys = pd.MultiIndex.from_frame(rows[["trial_id", "step"]])
        return self.classes.loc[keys].to_numpy(dtype=object)


def read_chance(data: RunData, name: str, section: Section) -> Chance | None:
    """The levels of a set, and a sentence about them in its section; None where there are none."""
    try:
        found = ChanceStore(data.run.out, name).read()
    except CorruptFile as error:
        section.notes.append(f"The distances expected by chance are not shown: {error}")
        return None
    if found is None or found[0].empty:
        return None
    levels, classes = found
    chance = Chance(levels, classes.set_index(["trial_id", "step"])["chance_class"])
    section.intro += (
        " By chance: the mean distance of random networks whose neurons have as many connections "
        f"in and out as these ({chance.samples} pairs for each two classes of networks with about "
        "the same degrees). Networks that are as far apart have nothing in common but their "
        "degrees."
    )
    return chance


def ratios_table(
    square: SquareGroup, expected: Mapping[str, NDArray[np.float64]], group: str
) -> Table:
    """Mean share of the chance level for each two configurations."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = square.matrices["network"] / expected["network"]
    labels = square.rows["label"].tolist()
    means = block_means(ratio, labels, square.rows["trial_id"].tolist())
    return Table(
        titled("Distance of whole networks as a share of that expected by chance", group),
        ["", *means.columns],
        ["text", *["number"] * len(means.columns)],
        [[str(label), *(decimals(value, 2) for value in row)]
         for label, row in zip(means.index, means.to_numpy(), strict=True)],
        f"1.00: as far apart as random networks of the same degrees. {diagonal_note(square)}",
    )  # fmt: skip
