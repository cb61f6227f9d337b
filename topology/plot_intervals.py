"""Means with their confidence intervals: over a quantity, and differences beside zero."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from topology.plot_style import Style, plain
from topology.plots import cut, draw_legend, new_figure, open_axes

ZERO_COLOUR = "#777777"
_APART = 0.03  # of a mark from the next, in natural logarithms
NAME_LENGTH = 70  # letters beside a difference, which names two configurations


def means_over(
    values: pd.DataFrame,
    looks: Mapping[str, Style],
    x_label: str,
    y_label: str,
    lines: bool = True,
    level: tuple[str, float, float] | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Figure:
    """Means over a share of 1 on a logarithmic axis in percent, with error bars.

    Args:
        values: rows with the columns `label`, `x` (a share above 0), `mean` and `half` (of the
            error bar; NaN draws none).
        looks: the style of each label; legend in its order.
        lines: join the points of a label.
        level: name, mean and half (NaN for no band) of something that has no x, across the picture.
        bounds: what no single value can exceed; bars that do are cut off near them.

    Marks at the same x are moved apart a little.

    Above `LEGEND_LIMIT` labels the legend names methods only.
    """
    shown = [label for label in looks if label in set(values["label"])]
    values = _moved_apart(values, shown)
    figure = new_figure(8.1, 4.2)
    panel = figure.subplots()
    panel.set_xscale("log")
    for label in reversed(shown):  # the first of the legend lies on top
        rows, look = values[values["label"] == label].sort_values("x"), looks[label]
        panel.errorbar(
            rows["x"], rows["mean"], yerr=rows["half"].fillna(0.0), color=look.colour,
            linestyle=look.line if lines else "none", linewidth=1.8, marker=look.marker,
            markersize=6, markeredgecolor="white", markeredgewidth=0.6, capsize=3, elinewidth=1.2,
        )  # fmt: skip
    if level is not None:
        name, mean, half = level
        colour = looks[name].colour
        panel.axhline(mean, color=colour, linewidth=1.4)
        if np.isfinite(half):
            panel.axhspan(mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
    _percent_axis(panel)
    panel.set_ylim(*cut(panel.get_ylim(), bounds))
    panel.set_xlabel(x_label, fontsize=10)
    panel.set_ylabel(y_label, fontsize=10)
    panel.tick_params(labelsize=9)
    open_axes(panel)
    named = [looks[label] for label in (*([level[0]] if level else []), *shown)]
    draw_legend(figure, named, lines=lines, marks=True)
    return figure


def _moved_apart(values: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """With bars side by side that would lie on each other."""
    rank = values["label"].map({label: k for k, label in enumerate(order)})
    values = values.assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank")
    same = values.groupby(np.log(values["x"]).div(_APART).round())["x"]
    aside = same.cumcount() - (same.transform("size") - 1) / 2
    return values.assign(x=values["x"] * np.exp(_APART * aside))


def _percent_axis(panel: Any) -> None:
    """Ticks at 1, 2 and 5 of each decade, in percent."""
    low, high = panel.get_xlim()
    wide = high / low > 1e3
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    panel.xaxis.set_minor_formatter(NullFormatter())


class Difference(NamedTuple):
    """Single differences, their mean and half the width of its interval (NaN for none)."""

    name: str
    values: Sequence[float]
    mean: float
    half: float
    colour: str


def differences(rows: Sequence[Difference], x_label: str) -> Figure:
    """A row a difference: its single values as dots, mean and interval on top, beside zero."""
    names = [plain(row.name, NAME_LENGTH) for row in rows]
    letters = max((len(name) for name in names), default=0)
    figure = new_figure(5.2 + 0.075 * letters, 0.9 + 0.3 * max(len(rows), 2))
    panel = figure.subplots()
    panel.axvline(0, color=ZERO_COLOUR, linewidth=1.2)
    for k, row in enumerate(rows):
        panel.plot(
            row.values, [k] * len(row.values), linestyle="none", marker="o", markersize=4,
            color=row.colour, alpha=0.35, markeredgewidth=0,
        )  # fmt: skip
        half = [row.half] if np.isfinite(row.half) else None
        panel.errorbar(
            [row.mean], [k], xerr=half, marker="D", markersize=5.5, color=row.colour, capsize=3.5,
            linewidth=1.6, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
    panel.set_yticks(range(len(rows)), labels=names, fontsize=9.5)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=9)
    panel.set_xlabel(x_label, fontsize=10)
    panel.margins(x=0.06)
    open_axes(panel)
    panel.grid(axis="y", color="#eeeeee", linewidth=0.8)
    panel.spines["left"].set_visible(False)
    return figure
