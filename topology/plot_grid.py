"""Heatmaps of the same networks in rows and columns, as of methods and epochs, on one scale."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from topology.heatmaps import COLOURS
from topology.plot_blocks import name_rows, named_blocks, separate
from topology.plot_style import Style, plain
from topology.plots import new_figure

# Rows of a small heatmap that can each carry a tick, and those whose cells can hold a number.
SMALL_TICKS_LIMIT = 16
NUMBERS_LIMIT = 6

_WIDTH = 8.6  # inches for all columns of heatmaps
_LEAST, _MOST = 1.35, 2.3  # inches, the side of a heatmap
_ACROSS, _DOWN = 0.16, 0.22  # inches between heatmaps
_LINE = 0.16  # inches that a line of a note takes
_STEP = 0.05  # scales end at a multiple of it


class Cell(NamedTuple):
    """One heatmap: (n, n) distances, not-a-number in grey, and what is written above it."""

    matrix: NDArray[np.float64]
    note: str = ""


def scale_end(matrices: Iterable[NDArray[np.float64]]) -> float:
    """Where a scale from 0 may end: the least multiple of 0.05 that no distance exceeds."""
    highest = max((float(np.nanmax(m)) for m in matrices if np.isfinite(m).any()), default=0.0)
    return float(min(max(np.ceil(round(highest / _STEP, 9)), 1) * _STEP, 1.0))


def heatmap_grid(
    cells: Mapping[tuple[str, str], Cell],
    labels: Sequence[str],
    looks: Mapping[str, Style],
    ticks: Sequence[str] | None = None,
    end: float | None = None,
) -> Figure:
    """Square heatmaps in rows and columns, all on the scale [0, `end`] with one colour bar.

    Args:
        cells: by names of row and column, each row with each column, in order of appearance. Row
            and column k of all matrices are the same network.
        labels: (n,) the configuration of each network; neighbours with the same label are a block.
        looks: the style of each label.
        ticks: (n,) what tells the networks of a block apart; left out where they are too many.
        end: of the scale, for figures that are to share it; that of these cells by default.

    A few networks have each distance written into its cell.
    """
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    end = scale_end(cell.matrix for cell in cells.values()) if end is None else end
    side = float(np.clip(_WIDTH / len(columns), _LEAST, _MOST))
    notes = max(cell.note.count("\n") + 1 if cell.note else 0 for cell in cells.values())
    # Only the outermost panels have labels: no layout has to be searched for, and those outside
    # of the figure are in its "tight" box.
    across, down = side + _ACROSS, side + _DOWN + _LINE * notes
    figure = new_figure(across * len(columns), down * len(rows), layout=None)
    blocks, named = named_blocks(labels, looks, side)
    ticks = ticks if ticks is not None and len(labels) <= SMALL_TICKS_LIMIT else None
    image: Any = None
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            cell = cells[row, column]
            corner = c / len(columns), (len(rows) - 1 - r) / len(rows)
            size = side / across / len(columns), side / down / len(rows)
            panel = figure.add_axes((*corner, *size))
            image = panel.imshow(
                cell.matrix, cmap=COLOURS, vmin=0.0, vmax=end, interpolation="nearest"
            )
            panel.text(0.5, 1.02, cell.note, fontsize=8.5, ha="center", va="bottom",
                       color="#444444", transform=panel.transAxes)  # fmt: skip
            if r == 0:
                panel.set_title(plain(column), fontsize=11, pad=5 + 72 * _LINE * notes)
            separate(panel, blocks, looks, side)
            name_rows(panel, named, ticks, left=c == 0, bottom=r == len(rows) - 1)
            if c == 0:
                panel.set_ylabel(plain(row), fontsize=11)
            if len(labels) <= NUMBERS_LIMIT:
                _write_numbers(panel, cell.matrix, end, size=2.9 * side * 6 / len(labels))
    _colour_bar(figure, image, end)
    return figure


def _write_numbers(panel: Any, matrix: NDArray[np.float64], end: float, size: float) -> None:
    """Each distance in its cell; the diagonal is 0 and stays empty."""
    for i, j in zip(*np.nonzero(np.isfinite(matrix)), strict=True):
        if i != j:
            dark = matrix[i, j] < 0.6 * end  # in viridis
            panel.text(j, i, f"{matrix[i, j]:.2f}", fontsize=min(size, 8.5), ha="center",
                       va="center", color="white" if dark else "black")  # fmt: skip


def _colour_bar(figure: Figure, image: Any, end: float) -> None:
    """At the right, 2.4 inches high where there is room."""
    width, height = figure.get_size_inches()
    tall = min(2.4, 0.75 * height)
    box = 1 + 0.15 / width, (height - tall) / 2 / height, 0.15 / width, tall / height
    bar = figure.colorbar(image, cax=figure.add_axes(box))
    step = next(step for step in (0.05, 0.1, 0.2, 0.25) if end / step <= 5.01)
    at = np.arange(0.0, end + 1e-9, step)
    words = [f"{value:.2f}".rstrip("0").rstrip(".") for value in at]
    words[0] = "0  same connections"
    if at[-1] == 1:
        words[-1] = "1  none in common"
    bar.set_ticks(at.tolist(), labels=words, fontsize=9)
    bar.ax.set_title("distance (NNSTD)", fontsize=9, loc="left", pad=10)
    bar.outline.set_visible(False)
