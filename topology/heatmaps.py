"""Heatmaps of distances: one a layer, rows in blocks of a configuration, one scale."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from topology.plot_style import Style, plain
from topology.plots import new_figure, panel_columns

# Even steps to the eye, also in grey and to the colour-blind; what is not there is grey.
COLOURS = colormaps["viridis"].with_extremes(bad="#d9d9d9")

# Rows that can each carry a readable tick.
TICKS_LIMIT = 30
# Levels that can each have a mark on the colour bar.
MARKS_LIMIT = 6

_PANEL = 3.1  # inches, the side of one of several heatmaps
_LARGE_PANEL = 5.0  # of a heatmap that stands alone
_LINE = 0.17  # inches that one line of a label takes
_NAME_WIDTH = 18  # letters in a line of a block's name


class Block(NamedTuple):
    """Neighbouring rows `start` to `stop` (exclusive) of a heatmap that share a label."""

    label: str
    start: int
    stop: int

    @property
    def centre(self) -> float:
        return (self.start + self.stop - 1) / 2


def heatmaps(
    matrices: Mapping[str, NDArray[np.float64]],
    labels: Sequence[str],
    looks: Mapping[str, Style],
    ticks: Sequence[str] | None = None,
    ticks_are: str = "seed",
    chance: Mapping[str, NDArray[np.float64]] | None = None,
) -> Figure:
    """One square heatmap a matrix, all on the scale [0, 1] with one colour bar.

    Args:
        matrices: by title, (n, n) each; row and column k of all of them are the same topology,
            shown in the order given. Not-a-number is grey.
        labels: (n,) the configuration of each row; neighbours with the same label form a block.
        looks: the style of each label; the strips along the axes have its colour.
        ticks: (n,) what tells the rows of a block apart; left out above `TICKS_LIMIT` rows.
        ticks_are: what the ticks are, for the axes.
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
    blocks, named = _named_blocks(labels, looks, side)
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


def blocks_of(labels: Sequence[str]) -> list[Block]:
    """Neighbouring rows with the same label, in order."""
    rows = [list(group) for _, group in groupby(range(len(labels)), key=lambda k: labels[k])]
    return [Block(labels[group[0]], group[0], group[-1] + 1) for group in rows]


def _named_blocks(
    labels: Sequence[str], looks: Mapping[str, Style], side: float
) -> tuple[list[Block], list[Block]]:
    """All blocks, and those that get a name: configurations, else methods, else those that fit."""
    blocks = blocks_of(labels)
    methods = blocks_of([looks[label].method for label in labels])
    line = _LINE / side * len(labels)  # rows that one line of text covers
    if _far_enough(blocks, line) == blocks:
        return blocks, blocks
    return blocks, _far_enough(methods, line)


def _far_enough(blocks: Sequence[Block], line: float) -> list[Block]:
    """The blocks whose names do not touch the name before."""
    kept: list[Block] = []
    for block in blocks:
        lines = [len(_wrapped(b.label).split("\n")) for b in (*kept[-1:], block)]
        if not kept or block.centre - kept[-1].centre >= line * sum(lines) / 2:
            kept.append(block)
    return kept


def _wrapped(label: str) -> str:
    """A block's name in short lines, so that the names leave the heatmaps their room."""
    return "\n".join(textwrap.wrap(plain(label).strip(), _NAME_WIDTH))


def _separate(panel: Any, blocks: Sequence[Block], looks: Mapping[str, Style], side: float) -> None:
    """White lines between blocks, a strip of the configurations' colours along both axes."""
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
    """Names of blocks outside, ticks of rows between them and the panel."""
    centres, names = [block.centre for block in named], [_wrapped(block.label) for block in named]
    longest = max((len(tick) for tick in ticks or ()), default=0)
    size = 8.0 if len(ticks or ()) <= TICKS_LIMIT // 2 else 6.5
    for axis, on in ((panel.yaxis, left), (panel.xaxis, bottom)):
        upright = axis is panel.xaxis
        axis.remove_overlapping_locs = False
        axis.set_ticks(centres, labels=names if on else [""] * len(names))
        axis.set_tick_params(length=0, pad=9, labelsize=9, rotation=90 if upright else 0)
        if ticks is None:
            continue
        axis.set_ticks(range(len(ticks)), labels=ticks if on else [""] * len(ticks), minor=True)
        turned = upright and longest > 2
        axis.set_tick_params(
            which="minor", length=0, pad=9, labelsize=size, rotation=90 if turned else 0
        )
        depth = size if upright and not turned else 0.65 * size * longest  # points
        axis.set_tick_params(pad=14 + depth)
