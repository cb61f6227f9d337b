"""What a report shows of one set of distances: heatmaps, evolution, an embedding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.distances import DistanceStore, StoredDistances
from sweeps.report_chance import Chance, ratios_table, read_chance
from sweeps.report_data import (
    GROUPS_SHOWN,
    EvolutionGroup,
    RunData,
    SquareGroup,
    evolution_groups,
    square_groups,
)
from sweeps.report_means import means_table, relations_table
from sweeps.report_page import Picture, Section, titled
from topology.embedding import metric_mds
from topology.heatmaps import TICKS_LIMIT, heatmaps
from topology.plot_style import LEGEND_LIMIT, Style
from topology.plots import BANDS_LIMIT, curves, embedding, to_png

# More configurations than this are no small table.
MEANS_LIMIT = 8


def distance_section(data: RunData, stored: StoredDistances, looks: Mapping[str, Style]) -> Section:
    """The section of one finished set.

    Raises:
        InputError: the set cannot be read; CorruptFile: it is damaged.
    """
    spec = DistanceStore(data.run.out, stored.name).read_spec()
    section = Section(f"distances-{stored.name}", _title(stored), intro=_intro(stored, spec))
    chance = read_chance(data, stored.name, section)
    if stored.against is None:
        for square in square_groups(data, stored):
            _add_square(section, stored, square, looks, _group_name(data, stored, square), chance)
    else:
        for evolution in evolution_groups(data, stored):
            group = _group_name(data, stored, evolution)
            _add_evolution(section, stored, evolution, looks, group, chance)
    return section


def _title(stored: StoredDistances) -> str:
    if stored.against is None:
        return f"Distances between networks: {stored.name}"
    return f"Evolution of topology: {stored.name}"


def _intro(stored: StoredDistances, spec: Mapping[str, Any]) -> str:
    steps = spec.get("steps")
    words = {"last": "the last snapshot of each trial", "first": "the first snapshot of each trial",
             "all": "all snapshots"}  # fmt: skip
    which = words.get(str(steps)) or f"the snapshots at {_steps_text(steps)}"
    where = f" where {spec['where']}" if spec.get("where") else ""
    dense = "" if spec.get("include_dense") else "; networks that are dense everywhere are left out"
    if stored.against is None:
        compared = (
            f"{stored.snapshots:,} topologies, {stored.pairs:,} pairs: {which}{where}{dense}."
        )
    else:
        against = _against_text(stored.against)
        which = f"{which[:1].upper()}{which[1:]}"
        compared = f"{which}{where}, each compared with {against} of its own trial{dense}."
    apart = ""
    if len(stored.groups) > 1:
        apart = (
            f" The networks form {len(stored.groups)} groups that cannot be compared with each "
            "other (another depth, width or input): each has its own pictures."
        )
    if len(stored.groups) > GROUPS_SHOWN:
        apart += f" Shown are the {GROUPS_SHOWN} largest."
    return f"{compared} Method: {stored.method}.{apart}"


def _steps_text(steps: object) -> str:
    return ", ".join(str(s) for s in steps) if isinstance(steps, list) else str(steps)


def _against_text(against: str) -> str:
    return f"the {against} one" if against in ("first", "last") else f"the one at {against}"


def _group_name(data: RunData, stored: StoredDistances, group: SquareGroup | EvolutionGroup) -> str:
    """The number that `load_distances` takes, and the shape of the group's networks."""
    if len(stored.groups) == 1:
        return ""
    return f"group {group.number}: {data.shape(group.rows['trial_id'].iloc[0])}"


def _file(stored: StoredDistances, what: str, group: str) -> str:
    number = group.partition(":")[0].replace(" ", "-")
    parts = ["distances", stored.name, *([number] if group else []), what]
    return "-".join(parts) + ".png"


def _panels(columns: Sequence[str]) -> dict[str, str]:
    return {c: "whole network" if c == "network" else f"layer {c}" for c in columns}


def _telling(
    distances: Mapping[str, NDArray[np.float64]], section: Section
) -> dict[str, NDArray[np.float64]]:
    """Without layers that are the same in all networks, such as a dense output; a note says so."""
    same = [column for column in distances if column != "network" and not distances[column].any()]
    if same:
        names = ", ".join(same)
        note = f"Left out: {names}; the networks have the same connections there."
        if note not in section.notes:
            section.notes.append(note)
    return {column: values for column, values in distances.items() if column not in same}


def _add_square(
    section: Section,
    stored: StoredDistances,
    square: SquareGroup,
    looks: Mapping[str, Style],
    group: str,
    chance: Chance | None,
) -> None:
    rows = square.rows
    if len(rows) < 2:
        name = f"{group[:1].upper()}{group[1:]} has" if group else "There is"
        section.notes.append(f"{name} one topology only: nothing to compare it with.")
        return
    labels = rows["label"].tolist()
    matrices = _telling(square.matrices, section)
    titles = _panels(list(matrices))
    ticks, ticks_are = _ticks(rows)
    expected = chance.of_pairs(square) if chance else {}
    levels = {
        titles[c]: expected[c] for c in matrices if np.isfinite(expected.get(c, np.nan)).any()
    }
    figure = heatmaps(
        {titles[column]: matrix for column, matrix in matrices.items()},
        labels, looks, ticks=ticks, ticks_are=ticks_are, chance=levels,
    )  # fmt: skip
    section.pictures.append(
        Picture(
            _file(stored, "heatmap", group), to_png(figure),
            titled("Distance of every topology to every other", group),
            _heatmap_caption(square, ticks_are if ticks and len(rows) <= TICKS_LIMIT else "",
                             marked=bool(levels)),
        )
    )  # fmt: skip
    section.tables.append(relations_table(square, titles, group))
    n_labels = rows["label"].nunique()
    if 2 <= n_labels <= MEANS_LIMIT:
        section.tables.append(means_table(square, group))
    if levels and n_labels <= MEANS_LIMIT:
        section.tables.append(ratios_table(square, expected, group))
    network = square.matrices["network"]
    if len(rows) > 2 and np.isfinite(network).all():
        points, stress = metric_mds(network)
        figure = embedding(points, labels, looks, rows["trial_id"].tolist(), rows["step"].tolist())
        section.pictures.append(
            Picture(
                _file(stored, "embedding", group), to_png(figure),
                titled("All topologies in one plane", group),
                _embedding_caption(square, stress),
            )
        )  # fmt: skip


def _ticks(rows: pd.DataFrame) -> tuple[list[str] | None, str]:
    """What tells the rows of a block apart: seeds, epochs or both; None where nothing does."""
    seeds = rows["seed"].tolist()
    epochs = [f"{epoch:g}" for epoch in rows["epoch"]]
    several = rows.duplicated("trial_id").any()
    if several and any(seeds):
        return [f"{s}·{e}" for s, e in zip(seeds, epochs, strict=True)], "seed·epoch"
    if several:
        return epochs, "epoch"
    return (seeds, "seed") if any(seeds) else (None, "")


def _heatmap_caption(square: SquareGroup, ticks_are: str, marked: bool) -> str:
    rows = square.rows
    parts = []
    if square.total > len(rows):
        parts.append(
            f"Shown are {len(rows):,} of {square.total:,} snapshots, a sample in which every "
            "configuration and step has its share."
        )
    parts.append(
        "Row k and column k are the same network: the diagonal is a network with itself. "
        "Configurations come by method, then by density; white lines part them, and the strips "
        "along the axes have their colours."
    )
    if marked:
        parts.append(
            "The strokes across the colour bar: what is expected for whole networks by chance."
        )
    if ticks_are:
        parts.append(f"The small numbers: {ticks_are.replace('·', ' and ')}.")
    elif rows.duplicated("trial_id").any():
        parts.append("Within a configuration, trial follows trial, each in the order of its steps.")
    return " ".join(parts)


def _embedding_caption(square: SquareGroup, stress: float) -> str:
    if stress < 0.05:
        verdict = "hardly anything is lost"
    elif stress < 0.15:
        verdict = "the picture is a fair one"
    else:
        verdict = "too much for a plane: trust which groups lie apart, not single lengths"
    parts = [
        "A point is a topology; the points are placed so that their distances in the plane come as "
        "near as they can to those of the whole networks (metric multidimensional scaling by "
        f"SMACOF). Stress {stress:.3f}: {verdict}.",
    ]
    if square.rows.duplicated("trial_id").any():
        parts.append("A thin line joins a trial's snapshots; the large mark is its last one.")
    if square.total > len(square.rows):
        parts.append(f"The same {len(square.rows):,} of {square.total:,} snapshots as above.")
    if square.rows["label"].nunique() > LEGEND_LIMIT:
        parts.append("The legend names the methods; their shades are the configurations.")
    return " ".join(parts)


def _add_evolution(
    section: Section,
    stored: StoredDistances,
    evolution: EvolutionGroup,
    looks: Mapping[str, Style],
    group: str,
    chance: Chance | None,
) -> None:
    # Layers may have any name, "epoch" too: the frame gets names of its own.
    distances = _telling(evolution.distances, section)
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
    titles = _panels(list(distances))
    against = str(stored.against)
    to = f"{against} snapshot" if against in ("first", "last") else f"snapshot at {against}"
    figure = curves(
        values, {name: titles[column] for name, column in names.items()}, looks,
        y_label=f"distance to the {to}", limits=(-0.015, None), expected=expected,
    )  # fmt: skip
    trials = values.groupby("label")["trial_id"].nunique()
    section.pictures.append(
        Picture(
            _file(stored, "evolution", group), to_png(figure),
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
