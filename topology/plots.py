"""Pictures of topologies and of their training: arrays and frames in, matplotlib figures out.

Nothing here knows files, runs or studies. A configuration is named by its label;
`plot_style.styles` says how each looks, and the same styles passed to every function keep a report
consistent.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from topology.plot_style import LEGEND_LIMIT, Style, plain

DPI = 150
# Even steps to the eye, also in grey and to the colour-blind; what is not there is grey.
COLOURS = colormaps["viridis"].with_extremes(bad="#d9d9d9")

# Bands of more configurations than this hide each other: means only.
BANDS_LIMIT = 8
# Rows of dots beyond this do not fit a screen.
ROWS_LIMIT = 40
# Rows of a heatmap that can each carry a readable tick.
TICKS_LIMIT = 30

_PANEL = 3.1  # inches, the side of one of several heatmaps
_LARGE_PANEL = 5.0  # of a heatmap that stands alone
_LINE = 0.17  # inches that one line of a label takes


class Block(NamedTuple):
    """Neighbouring rows `start` to `stop` (exclusive) of a heatmap that share a label."""

    label: str
    start: int
    stop: int

    @property
    def centre(self) -> float:
        return (self.start + self.stop - 1) / 2


def to_png(figure: Figure) -> bytes:
    """The picture as PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(
        file, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08,
        metadata={"Software": None},
    )  # fmt: skip
    return file.getvalue()


def heatmaps(
    matrices: Mapping[str, NDArray[np.float64]],
    labels: Sequence[str],
    looks: Mapping[str, Style],
    ticks: Sequence[str] | None = None,
    ticks_are: str = "seed",
) -> Figure:
    """One square heatmap a matrix, all on the scale [0, 1] with one colour bar.

    Args:
        matrices: by title, (n, n) each; row and column k of all of them are the same topology,
            shown in the order given. Not-a-number is grey.
        labels: (n,) the configuration of each row; neighbours with the same label form a block.
        looks: the style of each label; the strip beside the axes has the methods' colours.
        ticks: (n,) what tells the rows of a block apart; left out above `TICKS_LIMIT` rows.
        ticks_are: what the ticks are, for the axes.

    Blocks too thin for their names are named by method; so are all, where one would be.
    """
    n_columns = {1: 1, 2: 2, 4: 2}.get(len(matrices), 3)
    n_rows = -(-len(matrices) // n_columns)
    side = _LARGE_PANEL if len(matrices) == 1 else _PANEL
    # Room for labels and titles is what "tight" makes of it when the figure is saved.
    figure = _figure(side * n_columns + 2.6, side * n_rows + 1.6, layout="compressed")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    blocks, named = _named_blocks(labels, looks, side)
    ticks = ticks if ticks is not None and len(labels) <= TICKS_LIMIT else None
    for panel in axes.flat[len(matrices) :]:
        panel.remove()
    for k, (title, matrix) in enumerate(matrices.items()):
        panel = axes.flat[k]
        image = panel.imshow(matrix, cmap=COLOURS, vmin=0.0, vmax=1.0, interpolation="nearest")
        panel.set_title(plain(title), fontsize=11)
        _separate(panel, blocks, looks, side)
        left, bottom = k % n_columns == 0, k + n_columns >= len(matrices)
        _name_rows(panel, named, ticks, left, bottom)
        if ticks is not None and left:
            panel.set_ylabel(f"configuration, {ticks_are}", fontsize=9)
        if ticks is not None and bottom:
            panel.set_xlabel(f"configuration, {ticks_are}", fontsize=9)
    bar = figure.colorbar(
        image,
        ax=list(axes.flat[: len(matrices)]),
        shrink=0.9 if n_rows == 1 else 0.6,
        aspect=24,
        pad=0.02,
    )
    bar.set_ticks(
        [0.0, 0.25, 0.5, 0.75, 1.0],
        labels=["0  same connections", "0.25", "0.5", "0.75", "1  none in common"],
        fontsize=9,
    )
    bar.ax.set_title("distance (NNSTD)", fontsize=9, loc="left", pad=10)
    bar.outline.set_visible(False)
    return figure


def block_means(
    matrix: NDArray[np.float64], labels: Sequence[str], trials: Sequence[str]
) -> pd.DataFrame:
    """Mean distance within and between configurations.

    Args:
        matrix: (n, n) distances.
        labels: (n,) the configuration of each row.
        trials: (n,) the trial of each row: two snapshots of one trial are no pair here.

    Returns:
        A square DataFrame by label, in order of appearance; NaN where there is no pair.
    """
    names = list(dict.fromkeys(labels))
    codes = np.array([names.index(label) for label in labels])
    _, trial = np.unique(np.asarray(trials, dtype=object).astype(str), return_inverse=True)
    pairs = (trial[:, None] != trial[None, :]) & np.isfinite(matrix)
    member = (codes[:, None] == np.arange(len(names))).astype(float)
    totals = member.T @ np.where(pairs, matrix, 0.0) @ member
    counts = member.T @ pairs.astype(float) @ member
    means = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)
    return pd.DataFrame(means, index=names, columns=names)


def mean_and_spread(values: pd.DataFrame, x: str, column: str) -> pd.DataFrame:
    """Columns mean, low, high and n of `column` per label and x; rows without a value left out.

    `low` and `high` are the least and the greatest value.
    """
    there = values[np.isfinite(values[column].astype(float))]
    grouped = there.groupby(["label", x], sort=True)[column]
    return grouped.agg(mean="mean", low="min", high="max", n="count").reset_index()


def curves(
    values: pd.DataFrame,
    panels: Mapping[str, str],
    looks: Mapping[str, Style],
    x: str = "epoch",
    x_label: str = "epoch",
    y_label: str = "",
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """Mean and spread (least to greatest) of measures over training, a line a configuration.

    Args:
        values: rows with the columns `label`, `x` and one a panel.
        panels: column -> title; the panels share both axes.
        looks: the style of each label; lines and legend in its order.
        limits: of y; None is fitted to what is shown.

    Above `BANDS_LIMIT` configurations only means are drawn, above `LEGEND_LIMIT` the legend names
    methods only.
    """
    n_columns = min(len(panels), 3)
    n_rows = -(-len(panels) // n_columns)
    width, height = (6.2, 3.9) if len(panels) == 1 else (3.1, 2.7)
    figure = _figure(width * n_columns + 1.9, height * n_rows + 0.3)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    shown = [label for label in looks if label in set(values["label"])]
    for panel in axes.flat[len(panels) :]:
        panel.remove()
    for k, (column, title) in enumerate(panels.items()):
        panel = axes.flat[k]
        spread = mean_and_spread(values, x, column)
        for label in reversed(shown):  # the first of the legend lies on top
            rows, look = spread[spread["label"] == label], looks[label]
            alone = len(rows) < 2  # a line of one point is none
            panel.plot(
                rows[x], rows["mean"], color=look.colour, linestyle=look.line,
                linewidth=1.8 if len(shown) <= LEGEND_LIMIT else 1.0,
                marker=look.marker if alone else None, markersize=5,
            )  # fmt: skip
            if len(shown) <= BANDS_LIMIT:
                panel.fill_between(
                    rows[x], rows["low"], rows["high"], color=look.colour, alpha=0.18, linewidth=0
                )
        if title:
            panel.set_title(plain(title), fontsize=11)
        bottom = k + n_columns >= len(panels)
        panel.tick_params(labelsize=9, labelbottom=bottom)
        panel.set_xlabel(x_label if bottom else "", fontsize=10)
        panel.set_ylabel(y_label if k % n_columns == 0 else "", fontsize=10)
        _open_axes(panel)
    axes.flat[0].set_ylim(*limits)
    axes.flat[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, [looks[label] for label in shown], lines=True)
    return figure


def dots(values: pd.DataFrame, column: str, looks: Mapping[str, Style], x_label: str) -> Figure:
    """The values of each configuration as dots in a row of its own, their mean as a stroke.

    Args:
        values: rows with the columns `label` and `column`; those without a value are left out.
        looks: the style of each label; the rows are in its order, or the best `ROWS_LIMIT` of them
            where there are more.
    """
    there = values[np.isfinite(values[column].astype(float))]
    means = there.groupby("label")[column].mean()
    best = set(means.sort_values(ascending=False, kind="stable").index[:ROWS_LIMIT])
    shown = [label for label in looks if label in best]
    figure = _figure(7.6, 0.9 + 0.3 * max(len(shown), 2))
    panel = figure.subplots()
    for row, label in enumerate(shown):
        look, points = looks[label], there.loc[there["label"] == label, column]
        panel.plot(
            points, np.full(len(points), row), linestyle="none", marker=look.marker, markersize=6.5,
            color=look.colour, alpha=0.75, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
        panel.plot([means[label]] * 2, [row - 0.32, row + 0.32], color="black", linewidth=1.6)
    panel.set_yticks(range(len(shown)), labels=[plain(label) for label in shown], fontsize=9.5)
    panel.set_ylim(len(shown) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=9)
    panel.set_xlabel(x_label, fontsize=10)
    panel.margins(x=0.06)
    _open_axes(panel)
    panel.grid(axis="y", color="#eeeeee", linewidth=0.8)
    panel.spines["left"].set_visible(False)
    return figure


def embedding(
    points: NDArray[np.float64],
    labels: Sequence[str],
    looks: Mapping[str, Style],
    trials: Sequence[str],
    order: Sequence[float],
) -> Figure:
    """Topologies as points in the plane, near each other where they are alike.

    Args:
        points: (n, 2), in the distances' unit.
        labels: (n,) the configuration of each point.
        looks: the style of each label.
        trials: (n,) the trial of each point; a thin line joins the snapshots of one.
        order: (n,) when each snapshot was taken; a trial's last one is drawn large.
    """
    frame = pd.DataFrame(
        {"x": points[:, 0], "y": points[:, 1], "label": labels, "trial": trials, "order": order}
    )
    shown = [label for label in looks if label in set(labels)]
    figure = _figure(7.8, 5.2)
    panel = figure.subplots()
    size = 60 if len(frame) <= 200 else 28
    for label in reversed(shown):
        look, rows = looks[label], frame[frame["label"] == label]
        for _, path in rows.sort_values("order", kind="stable").groupby("trial", sort=True):
            if len(path) > 1:
                panel.plot(path["x"], path["y"], color=look.colour, linewidth=0.8, alpha=0.6)
        last = rows["order"] == rows.groupby("trial")["order"].transform("max")
        sizes = np.where(last, size, size * 0.3)
        panel.scatter(
            rows["x"], rows["y"], s=sizes, marker=look.marker, color=look.colour, alpha=0.85,
            edgecolors="white", linewidths=0.6, zorder=3,
        )  # fmt: skip
    panel.set_aspect("equal", adjustable="datalim")
    panel.margins(0.08)
    panel.set_xlabel("first main axis (NNSTD)", fontsize=10)
    panel.set_ylabel("second main axis (NNSTD)", fontsize=10)
    panel.tick_params(labelsize=9)
    _open_axes(panel)
    panel.grid(color="#eeeeee", linewidth=0.8)
    _legend(figure, [looks[label] for label in shown], lines=False)
    return figure


def _figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _open_axes(panel: Any) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)


def _legend(figure: Figure, looks: Sequence[Style], lines: bool) -> None:
    """At the right, outside of the panels; methods only where all would be too many."""
    if len(looks) <= LEGEND_LIMIT:
        entries = [(look.label, look.colour, look.line, look.marker) for look in looks]
        title = None
    else:
        entries = list(dict.fromkeys((k.method, k.method_colour, "-", "o") for k in looks))
        title = f"{len(looks)} configurations"
        rest = len(entries) - LEGEND_LIMIT
        if rest > 0:
            entries = [*entries[:LEGEND_LIMIT], (f"and {rest} more", "white", "none", "")]
    handles = [
        Line2D(
            [], [], color=colour, linestyle=line if lines else "none", linewidth=1.8,
            marker=None if lines else marker, markersize=7, markeredgecolor="white",
        )
        for _, colour, line, marker in entries
    ]  # fmt: skip
    figure.legend(
        handles, [plain(name) for name, *_ in entries], loc="outside right upper", title=title,
        frameon=False, fontsize=9, title_fontsize=9, alignment="left", handlelength=2.6,
    )  # fmt: skip


def blocks_of(labels: Sequence[str]) -> list[Block]:
    """Neighbouring rows with the same label, in order."""
    rows = [list(group) for _, group in groupby(range(len(labels)), key=lambda k: labels[k])]
    return [Block(labels[group[0]], group[0], group[-1] + 1) for group in rows]


def _named_blocks(
    labels: Sequence[str], looks: Mapping[str, Style], side: float
) -> tuple[list[Block], list[Block]]:
    """All blocks, and those that get a name: configurations, else methods, else those that fit."""
    blocks = blocks_of(labels)
    room = _LINE / side * len(labels)  # rows that one line of text covers
    if _far_enough(blocks, room) == blocks:
        return blocks, blocks
    methods = blocks_of([looks[label].method for label in labels])
    return blocks, _far_enough(methods, room)


def _far_enough(blocks: Sequence[Block], room: float) -> list[Block]:
    kept: list[Block] = []
    for block in blocks:
        if not kept or block.centre - kept[-1].centre >= room:
            kept.append(block)
    return kept


def _separate(panel: Any, blocks: Sequence[Block], looks: Mapping[str, Style], side: float) -> None:
    """White lines between blocks, a strip of the methods' colours along both axes."""
    room = side / len(blocks)  # inches of the mean block
    strip_at, strip_width = -0.09 / side, 0.06 / side
    for before, block in zip([None, *blocks[:-1]], blocks, strict=True):
        look = looks[block.label]
        if before is not None:
            other_method = looks[before.label].method != look.method
            if other_method or room > 0.08:
                for line in (panel.axhline, panel.axvline):
                    line(block.start - 0.5, color="white", linewidth=1.4 if other_method else 0.6)
        start, length = block.start - 0.5, block.stop - block.start
        for corner, size, transform in (
            ((strip_at, start), (strip_width, length), panel.get_yaxis_transform()),
            ((start, strip_at), (length, strip_width), panel.get_xaxis_transform()),
        ):
            strip = Rectangle(corner, *size, transform=transform, clip_on=False)
            strip.set(facecolor=look.colour, edgecolor="none")
            panel.add_patch(strip)
    panel.spines[:].set_visible(False)


def _name_rows(
    panel: Any, named: Sequence[Block], ticks: Sequence[str] | None, left: bool, bottom: bool
) -> None:
    centres, names = [block.centre for block in named], [plain(block.label) for block in named]
    for axis, on in ((panel.yaxis, left), (panel.xaxis, bottom)):
        upright = axis is panel.xaxis
        axis.remove_overlapping_locs = False
        axis.set_ticks(centres, labels=names if on else [""] * len(names))
        axis.set_tick_params(length=0, pad=22 if ticks else 9, labelsize=9)
        if upright:
            axis.set_tick_params(rotation=90)
        if ticks is not None:
            axis.set_ticks(
                range(len(ticks)), labels=list(ticks) if on else [""] * len(ticks), minor=True
            )
            size = 8 if len(ticks) <= TICKS_LIMIT // 2 else 6.5
            axis.set_tick_params(which="minor", length=0, pad=9, labelsize=size)
