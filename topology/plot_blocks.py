"""Names and lines along the axes of a heatmap whose rows come in blocks of a configuration."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from matplotlib.patches import Rectangle

from topology.plot_style import Style, plain

# Rows that can each carry a readable tick.
TICKS_LIMIT = 30

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


def blocks_of(labels: Sequence[str]) -> list[Block]:
    """Neighbouring rows with the same label, in order."""
    rows = [list(group) for _, group in groupby(range(len(labels)), key=lambda k: labels[k])]
    return [Block(labels[group[0]], group[0], group[-1] + 1) for group in rows]


def named_blocks(
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


def separate(panel: Any, blocks: Sequence[Block], looks: Mapping[str, Style], side: float) -> None:
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


def name_rows(
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
