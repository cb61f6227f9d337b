"""Pictures of topologies and of their training: arrays and frames in, matplotlib figures out.

Nothing here knows files, runs or studies. A configuration is named by its label;
`plot_style.styles` says how each looks, and the same styles passed to every function keep a report
consistent.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from topology.plot_style import LEGEND_LIMIT, Style, plain

DPI = 150

# Bands of more configurations than this hide each other: means only.
BANDS_LIMIT = 8
# Rows of dots beyond this do not fit a screen.
ROWS_LIMIT = 40
# Of what is expected by chance.
EXPECTED_LINE, EXPECTED_COLOUR = (0, (1, 1.6)), "#555555"
# Points of a line that are each worth a mark.
MARKED_LIMIT = 15


def to_png(figure: Figure) -> bytes:
    """The picture as PNG; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(
        file, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08,
        metadata={"Software": None},
    )  # fmt: skip
    return file.getvalue()


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
    expected: Mapping[str, tuple[str, str]] | None = None,
) -> Figure:
    """Mean and spread (least to greatest) of measures over training, a line a configuration.

    Args:
        values: rows with the columns `label`, `x` and one a panel.
        panels: column -> title; the panels share both axes.
        looks: the style of each label; lines and legend in its order.
        limits: of y; None is fitted to what is shown.
        expected: for a panel's column the two columns with what is expected by chance and its
            standard error (rows without are left out): a dotted line with a band for each
            configuration that has one, grey where configurations share it.

    Above `BANDS_LIMIT` configurations only means are drawn, above `LEGEND_LIMIT` the legend names
    methods only.
    """
    n_columns = panel_columns(len(panels))
    n_rows = -(-len(panels) // n_columns)
    width, height = (6.2, 3.9) if len(panels) == 1 else (3.1, 2.7)
    figure = new_figure(width * n_columns + 1.9, height * n_rows + 0.3)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    shown = [label for label in looks if label in set(values["label"])]
    marks = values[x].nunique() <= MARKED_LIMIT and len(shown) <= LEGEND_LIMIT
    marks |= values[x].nunique() == 1  # a line of one point is none
    for panel in axes.flat[len(panels) :]:
        panel.remove()
    for k, (column, title) in enumerate(panels.items()):
        panel = axes.flat[k]
        spread = mean_and_spread(values, x, column)
        for label in reversed(shown):  # the first of the legend lies on top
            rows, look = spread[spread["label"] == label], looks[label]
            panel.plot(
                rows[x], rows["mean"], color=look.colour, linestyle=look.line,
                linewidth=1.8 if len(shown) <= LEGEND_LIMIT else 1.0,
                marker=look.marker if marks else None, markersize=4.5,
            )  # fmt: skip
            if len(shown) <= BANDS_LIMIT:
                panel.fill_between(
                    rows[x], rows["low"], rows["high"], color=look.colour, alpha=0.15, linewidth=0
                )
        if expected and column in expected:
            colours = {label: looks[label].colour for label in shown}
            _draw_expected(panel, values, x, expected[column], colours)
        if title:
            panel.set_title(plain(title), fontsize=11)
        bottom = k + n_columns >= len(panels)
        panel.tick_params(labelsize=9, labelbottom=bottom)
        panel.set_xlabel(x_label if bottom else "", fontsize=10)
        panel.set_ylabel(y_label if k % n_columns == 0 else "", fontsize=10)
        open_axes(panel)
    axes.flat[0].set_ylim(*limits)
    axes.flat[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_legend(figure, [looks[label] for label in shown], lines=True, marks=marks,
            expected=bool(expected))  # fmt: skip
    return figure


def _draw_expected(
    panel: Any,
    values: pd.DataFrame,
    x: str,
    columns: tuple[str, str],
    colours: Mapping[str, str],
) -> None:
    """The level of chance over training, and its standard error."""
    means = values.groupby(["label", x], sort=True)[list(columns)].mean().dropna()
    lines: dict[bytes, list[str]] = {}
    for label in colours:
        if label in means.index:
            key = means.loc[label].reset_index().to_numpy().round(12).tobytes()
            lines.setdefault(key, []).append(label)
    for labels in lines.values():
        rows = means.loc[labels[0]]
        colour = colours[labels[0]] if len(labels) == 1 else EXPECTED_COLOUR
        level, error = rows[columns[0]], rows[columns[1]]
        panel.plot(rows.index, level, color=colour, linestyle=EXPECTED_LINE, linewidth=1.6)
        panel.fill_between(
            rows.index, level - error, level + error, color=colour, alpha=0.25, linewidth=0
        )


def dots(
    values: pd.DataFrame,
    column: str,
    looks: Mapping[str, Style],
    x_label: str,
    halves: Mapping[str, float] | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Figure:
    """Each configuration's values as dots in a row of its own, the mean of several as a stroke.

    Args:
        halves: by label, half the width of the mean's confidence interval; NaN draws none. What is
            wider than the dots of all configurations is cut at the edge.
        bounds: what no single value can exceed; intervals that do are cut off near them.
        values: rows with the columns `label` and `column`; those without a value are left out.
        looks: the style of each label; the rows are in its order, or the best `ROWS_LIMIT` of them
            where there are more.
    """
    there = values[np.isfinite(values[column].astype(float))]
    means = there.groupby("label")[column].mean()
    best = set(means.sort_values(ascending=False, kind="stable").index[:ROWS_LIMIT])
    shown = [label for label in looks if label in best]
    figure = new_figure(7.6, 0.9 + 0.3 * max(len(shown), 2))
    panel = figure.subplots()
    for row, label in enumerate(shown):
        look, points = looks[label], there.loc[there["label"] == label, column]
        # Equal values lie side by side, not on top of each other.
        equal = points.groupby(points)
        aside = equal.cumcount() - (equal.transform("size") - 1) / 2
        panel.plot(
            points, row + 0.17 * aside.clip(-2, 2), linestyle="none", color=look.colour, alpha=0.75,
            marker=look.marker, markersize=6.5, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
        if len(points) > 1:
            panel.plot([means[label]] * 2, [row - 0.32, row + 0.32], color="black", linewidth=1.6)
            half = (halves or {}).get(label, np.nan)
            if np.isfinite(half):
                panel.plot(
                    [means[label] - half, means[label] + half], [row, row], color="black",
                    linewidth=0.9, zorder=1,
                )  # fmt: skip
    panel.set_yticks(range(len(shown)), labels=[plain(label) for label in shown], fontsize=9.5)
    panel.set_ylim(len(shown) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=9)
    panel.set_xlabel(x_label, fontsize=10)
    panel.margins(x=0.06)
    least, greatest = there[column].min(), there[column].max()
    if halves and least < greatest:
        low, high = panel.get_xlim()
        seen = max(low, 2 * least - greatest), min(high, 2 * greatest - least)
        panel.set_xlim(*cut(seen, bounds))
    open_axes(panel)
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
    figure = new_figure(7.8, 5.2)
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
    open_axes(panel)
    panel.grid(color="#eeeeee", linewidth=0.8)
    draw_legend(figure, [looks[label] for label in shown], lines=False, marks=True)
    return figure


def new_figure(
    width: float,
    height: float,
    layout: Literal["constrained", "compressed"] | None = "constrained",
) -> Figure:
    """A figure of its own, in inches, that pyplot does not know."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def panel_columns(n_panels: int) -> int:
    """Panels side by side: at most three, without one that is left alone where that can be."""
    return {1: 1, 2: 2, 4: 2}.get(n_panels, 3)


def cut(seen: tuple[float, float], bounds: tuple[float, float]) -> tuple[float, float]:
    """The ends of an axis, hardly beyond what values can be.

    >>> cut((-20.0, 110.0), (0.0, 100.0))
    (-2.6, 102.6)
    """
    room = 0.02 * (seen[1] - seen[0])
    return max(seen[0], bounds[0] - room), min(seen[1], bounds[1] + room)


def open_axes(panel: Any) -> None:
    """Without a frame, with thin lines across."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)


def draw_legend(
    figure: Figure, looks: Sequence[Style], lines: bool, marks: bool, expected: bool = False
) -> None:
    """At the right, outside of the panels; methods only where all would be too many."""
    title = None
    if len(looks) <= LEGEND_LIMIT:
        entries = [(look.label, look.colour, look.line, look.marker) for look in looks]
    else:
        title = f"{len(looks)} configurations"
        entries = [(m, c, "-", "o") for m, c in {k.method: k.method_colour for k in looks}.items()]
        rest = len(entries) - LEGEND_LIMIT
        if rest > 0:
            entries = [*entries[:LEGEND_LIMIT], (f"and {rest} more", "none", "none", "")]
    if expected:
        entries.append(("by chance", EXPECTED_COLOUR, EXPECTED_LINE, ""))
    handles = [
        Line2D(
            [], [], color=colour, linestyle=line if lines else "none", linewidth=1.8,
            marker=marker if marks else "", markersize=5 if lines else 7,
        )
        for _, colour, line, marker in entries
    ]  # fmt: skip
    figure.legend(
        handles, [plain(name) for name, *_ in entries], loc="outside right upper", title=title,
        frameon=False, fontsize=9, title_fontsize=9, alignment="left", handlelength=2.6,
    )  # fmt: skip
