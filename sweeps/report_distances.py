"""What a report shows of one set of distances between all pairs: a heatmap, an embedding, means."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.distances import DistanceStore, StoredDistances
from sweeps.report_chance import ratios_table, read_chance
from sweeps.report_data import RunData, SquareGroup, evolution_groups, imported, square_groups
from sweeps.report_evolution import add_evolution
from sweeps.report_means import means_table, relations_table
from sweeps.report_moments import Course, course_of
from sweeps.report_page import Picture, Section, titled
from sweeps.report_sets import (
    group_name,
    method_name,
    panel_titles,
    picture_file,
    set_intro,
    set_title,
    telling,
)
from topology.embedding import metric_mds
from topology.heatmaps import heatmaps
from topology.plot_blocks import TICKS_LIMIT
from topology.plot_style import LEGEND_LIMIT, Style
from topology.plots import embedding, to_png

# More configurations than this are no small table.
MEANS_LIMIT = 12


def distance_section(
    data: RunData, stored: StoredDistances, looks: Mapping[str, Style]
) -> tuple[Section, list[Course]]:
    """The section of one finished set, and of all pairs what each group is at each epoch.

    Raises:
        InputError: the set cannot be read; CorruptFile: it is damaged.
    """
    spec = DistanceStore(data.run.out, stored.name).read_spec()
    section = Section(f"distances-{stored.name}", set_title(stored), intro=set_intro(stored, spec))
    chance = read_chance(data, stored.name, section)
    courses = []
    if stored.against is None:
        for square in square_groups(data, stored):
            group = group_name(data, stored, square)
            expected = chance.of_pairs(square) if chance else {}
            _add_square(section, stored, square, looks, group, expected)
            courses.append(course_of(stored.name, method_name(spec), group, square, expected))
    else:
        for evolution in evolution_groups(data, stored):
            group = group_name(data, stored, evolution)
            add_evolution(section, stored, evolution, looks, group, chance)
    return section, courses


def _add_square(
    section: Section,
    stored: StoredDistances,
    square: SquareGroup,
    looks: Mapping[str, Style],
    group: str,
    expected: Mapping[str, NDArray[np.float64]],
) -> None:
    rows = square.rows
    if len(rows) < 2:
        name = f"{group[:1].upper()}{group[1:]} has" if group else "There is"
        section.notes.append(f"{name} one topology only: nothing to compare it with.")
        return
    labels = rows["label"].tolist()
    matrices = telling(square.matrices, section)
    titles = panel_titles(list(matrices))
    ticks, ticks_are = _ticks(rows)
    levels = {
        titles[c]: expected[c] for c in matrices if np.isfinite(expected.get(c, np.nan)).any()
    }
    figure = heatmaps(
        {titles[column]: matrix for column, matrix in matrices.items()},
        labels, looks, ticks=ticks, ticks_are=ticks_are, chance=levels,
        rows_are="network" if imported(rows) else "configuration",
    )  # fmt: skip
    section.pictures.append(
        Picture(
            picture_file(stored.name, "heatmap", group), to_png(figure),
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
                picture_file(stored.name, "embedding", group), to_png(figure),
                titled("All topologies in one plane", group),
                _embedding_caption(square, stress),
            )
        )  # fmt: skip


def _ticks(rows: pd.DataFrame) -> tuple[list[str] | None, str]:
    """What tells the rows of a block apart: seeds, epochs or both; None where nothing does."""
    seeds = rows["seed"].tolist()
    epochs = [f"{epoch:g}" for epoch in rows["epoch"]]
    several = rows.duplicated("trial_id").any()
    if several and any(seeds) and rows["trial_id"].nunique() > 1:
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
        + (
            "Networks come by name"
            if imported(rows)
            else "Configurations come by method, then by density"
        )
        + "; white lines part them, and the strips along the axes have their colours."
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
