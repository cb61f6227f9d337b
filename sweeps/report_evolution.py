"""What a report shows of one set of distances to a snapshot of each trial: curves over training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from storage.distances import StoredDistances
from sweeps.report_chance import Chance
from sweeps.report_data import EvolutionGroup
from sweeps.report_page import Picture, Section, titled
from sweeps.report_sets import panel_titles, picture_file, telling
from topology.plot_style import LEGEND_LIMIT, Style
from topology.plots import BANDS_LIMIT, curves, to_png


def add_evolution(
    section: Section,
    stored: StoredDistances,
    evolution: EvolutionGroup,
    looks: Mapping[str, Style],
    group: str,
    chance: Chance | None,
) -> None:
    """Add the curves of one group to its set's section."""
    # Layers may have any name, "epoch" too: the frame gets names of its own.
    distances = telling(evolution.distances, section)
    names = {f"distance {k}": column for k, column in enumerate(distances)}
    values = evolution.rows[["label", "epoch", "trial_id"]].assign(
        **{name: distances[column] for name, column in names.items()}
    )
    network = pd.Series(distances["network"]).groupby(values["label"]).transform("max")
    still = (network == 0).to_numpy()
    expected = {}
    if chance and not still.all():
        found = chance.of_snapshots(evolution, list(distances))
        for name, column in names.items():
            expected[name] = f"by chance {name}", f"error {name}"
            # How far something would be by chance that never moves is no question.
            values[expected[name][0]] = np.where(still, np.nan, found[column])
            values[expected[name][1]] = np.where(still, np.nan, found[f"{column}_error"])
    titles = panel_titles(list(distances))
    against = str(stored.against)
    to = f"{against} snapshot" if against in ("first", "last") else f"snapshot at {against}"
    figure = curves(
        values, {name: titles[column] for name, column in names.items()}, looks,
        y_label=f"distance to the {to}", limits=(-0.015, None), expected=expected,
    )  # fmt: skip
    trials = values.groupby("label")["trial_id"].nunique()
    section.pictures.append(
        Picture(
            picture_file(stored.name, "evolution", group), to_png(figure),
            titled(f"Distance of each snapshot to its trial's {to}", group),
            _evolution_caption(trials, still=bool(still.any()), marked=bool(expected)),
        )
    )  # fmt: skip


def _evolution_caption(trials: pd.Series, still: bool, marked: bool) -> str:
    low, high = int(trials.min()), int(trials.max())
    seeds = f"{low} to {high} seeds" if low < high else f"{low} seed{'s' * (low > 1)}"
    parts = ["NNSTD over training."]
    if still:
        parts.append("A line that stays at 0 is a topology that does not change.")
    if high == 1:
        parts.append("One trial each: no spread can be shown.")
    else:
        parts.append(f"A line is the mean of a configuration's trials ({seeds})")
        parts[-1] += (
            ", the band reaches from the least to the greatest."
            if len(trials) <= BANDS_LIMIT
            else "; their bands are left out, they would hide each other."
        )
    if marked:
        parts.append(
            "Dotted: the distance expected by chance, with its standard error; grey where "
            "configurations share it."
        )
    if len(trials) > LEGEND_LIMIT:
        parts.append("The legend names the methods; their shades are the configurations.")
    return " ".join(parts)
