"""Heatmaps of distances: one a layer, rows in blocks of a configuration, one scale."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from topology.plot_blocks import TICKS_LIMIT, name_rows, named_blocks, separate
from topology.plot_style import Style, plain
from topology.plots import new_figure, panel_columns

# Even steps to the eye, also in grey and to the colour-blind; what is not there is grey.
COLOURS = colormaps["viridis"].with_extremes(bad="#d9d9d9")

# Levels that can each have a mark on the colour bar.
MARKS_LIMIT = 6

_PANEL = 3.1  # inches, the side of one of several heatmaps
_LARGE_PANEL = 5.0  # of a heatmap that stands alone


def heatmaps(
    matrices: Mapping[str, NDArray[np.float64]],
    labels: Sequence[str],
    looks: Mapping[str, Style],
    ticks: Sequence[str] | None = None,
    ticks_are: str = "seed",
    rows_are: str = "configuration",
    chance: Mapping[str, NDArray[np.float64]] | None = None,
) -> Figure:
    """One square heatmap a matrix, all on the scale [0, 1] with one colour bar.

    Args:
        matrices: by title, (n, n) each; row and column k of all of them are the same topology,
            shown in the order given. Not-a-number is grey.
        labels: (n,) the configuration of each row; neighbours with the same label form a block.
        looks: the style of each label; the strips along the axes have its colour.
        ticks: (n,) what tells the rows of a block apart; left out above `TICKS_LIMIT` rows.
        ticks_are, rows_are: what ticks and blocks are, for the axes.
        chance: by title, the levels that are expected by chance: each panel says from where to
            where they reach, and those of the first one are marked on the colour bar.

    Blocks too thin for their names are named by method; so are all, where one would be.
    """
    n_columns = panel_columns(len(matrices))
    n_rows = -(-len(matrices) // n_columns)
    side = _LARGE_PANEL if len(matrices) == 1 else _PANEL
    # Room for labels and titles is what "tight" makes of it when the figure is saved.
    figure = new_figure(side * n_columns + 2.6, side * n_rows + 1.6, layout="compressed")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    blocks, named = named_blocks(labels, looks, side)
    ticks = ticks if ticks is not None and len(labels) <= TICKS_LIMIT else None
    for panel in axes.flat[len(matrices) :]:
        panel.remove()
    for k, (title, matrix) in enumerate(matrices.items()):
        panel = axes.flat[k]
        image = panel.imshow(matrix, cmap=COLOURS, vmin=0.0, vmax=1.0, interpolation="nearest")
        panel.set_title(plain(title), fontsize=11, pad=18 if chance else None)
        if chance and title in chance:
            panel.text(0.5, 1.02, f"by chance {_reach(chance[title])}", fontsize=8.5, ha="center",
                       va="bottom", color="#555555", transform=panel.transAxes)  # fmt: skip
        separate(panel, blocks, looks, side)
        left, bottom = k % n_columns == 0, k + n_columns >= len(matrices)
        name_rows(panel, named, ticks, left, bottom)
        if ticks is not None and left:
            panel.set_ylabel(f"{rows_are}, {ticks_are}", fontsize=9)
        if ticks is not None and bottom:
            panel.set_xlabel(f"{rows_are}, {ticks_are}", fontsize=9)
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
    if chance:
        _mark(bar.ax, next(iter(chance.values())))
    return figure


def _reach(levels: NDArray[np.float64]) -> str:
    """`0.73`, or `0.73 to 0.83`."""
    low, high = f"{np.nanmin(levels):.2f}", f"{np.nanmax(levels):.2f}"
    return low if low == high else f"{low} to {high}"


def _mark(bar: Any, levels: NDArray[np.float64]) -> None:
    """A stroke across the colour bar at each level, or where they begin and end."""
    across = bar.get_yaxis_transform()  # x in widths of the bar, y in distances
    known = np.unique(levels[np.isfinite(levels)])
    if len(known) > MARKS_LIMIT:
        known = known[[0, -1]]
        bar.plot([-0.3, -0.3], known, color="black", linewidth=1.2, clip_on=False, transform=across)
    for level in known:
        bar.plot([0, 1], [level, level], color="white", linewidth=2.6, transform=across)
        bar.plot([-0.3, 1], [level, level], color="black", linewidth=1.2, clip_on=False,
                 transform=across)  # fmt: skip
    bar.text(
        -0.6, known.mean(), "by chance", rotation=90, fontsize=8.5, ha="right", va="center",
        color="#333333", transform=across,
    )  # fmt: skip


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
