"""Small heatmaps of networks at one epoch each, in rows and columns, and their means."""

from collections.abc import Mapping, Sequence

import numpy as np

from sweeps.configurations import evenly
from sweeps.readable import decimals
from sweeps.report_moments import EPOCHS_SHOWN, Course, Moment
from sweeps.report_page import Picture, Section, Table, titled
from sweeps.report_sets import panel_titles, picture_file
from topology.plot_grid import SMALL_TICKS_LIMIT, Cell, heatmap_grid
from topology.plot_style import Style
from topology.plots import to_png


def add_course(section: Section, course: Course, looks: Mapping[str, Style]) -> None:
    """Add to its set's section one picture, a row a layer and a column an epoch, and a table."""
    moments = [course.moments[k] for k in evenly(len(course.moments), EPOCHS_SHOWN)]
    titles = panel_titles(course.columns)
    cells = {
        (titles[column], moment.name): cell_of(course, moment, column)
        for column in course.columns
        for moment in moments
    }
    words = "A column is an epoch, a row the whole network or a layer."
    if len(moments) < len(course.moments):
        words += f" Shown are {len(moments)} of {len(course.moments)} epochs."
    file = picture_file(course.name, "epochs", course.group)
    title = titled("Distances between the networks at each epoch", course.group)
    section.pictures.append(grid(course, cells, looks, file, title, words))
    title = titled("Mean distance between the networks at each epoch", course.group)
    rows = [((moment.name,), moment) for moment in moments]
    section.tables.append(means_of_moments(title, ("epoch",), rows, course.columns))


def cell_of(course: Course, moment: Moment | None, column: str) -> Cell:
    """One heatmap; grey where there is no such moment."""
    if moment is None:
        n = len(course.networks)
        return Cell(np.full((n, n), np.nan), "not computed")
    return Cell(moment.matrices[column], moment.note(column))


def grid(
    course: Course,
    cells: Mapping[tuple[str, str], Cell],
    looks: Mapping[str, Style],
    file: str,
    title: str,
    words: str,
    end: float | None = None,
) -> Picture:
    """The picture of these cells.

    Args:
        words: what its rows and columns are, for the caption.
        end: of the scale; that of these cells by default.
    """
    labels = course.networks["label"].tolist()
    figure = heatmap_grid(cells, labels, looks, ticks=course.ticks, end=end)
    chance = any("chance" in cell.note for cell in cells.values())
    caption = [
        words,
        "Row k and column k of a heatmap are the same network. Above it: the mean over its pairs"
        + (", and that of random networks with their degrees (by chance)." if chance else "."),
    ]
    if course.total > len(labels):
        caption.append(f"Shown are {len(labels)} of {course.total} networks, a sample.")
    if any(np.isnan(cell.matrix).any() for cell in cells.values()):
        caption.append("Grey: not there.")
    if course.ticks and len(labels) <= SMALL_TICKS_LIMIT:
        caption.append(f"The small numbers: {course.ticks_are}.")
    return Picture(file, to_png(figure), title, " ".join(caption))


def means_of_moments(
    title: str,
    heads: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Moment]],
    columns: Sequence[str],
) -> Table:
    """Mean distance by column, and the whole network's as a share of what chance gives.

    Args:
        heads: of the first columns, as many as each row has names.
        rows: names and moment of each.
    """
    titles = panel_titles(columns)
    shares = [moment.mean("network") / moment.mean_expected("network") for _, moment in rows]
    known = bool(np.isfinite(shares).any())
    body = [
        [
            *(name.removeprefix("epoch ") for name in names),
            f"{moment.pairs:,}",
            *(decimals(moment.mean(column), 3) for column in columns),
            *([decimals(share, 2)] if known else []),
        ]
        for (names, moment), share in zip(rows, shares, strict=True)
    ]
    return Table(
        title,
        [*heads, "pairs", *titles.values(), *(["share of chance"] if known else [])],
        [*["text"] * len(heads), *["number"] * (1 + len(titles) + known)],
        body,
        "Share of chance: the whole network's distance divided by the one expected by chance."
        if known
        else "",
    )
