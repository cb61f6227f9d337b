"""How a configuration looks in every picture: one colour a method, one mark a density."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

# Okabe and Ito's colours, made for colour-blind readers; the usual methods always get the same.
FIXED = {"dense": "#4d4d4d", "static": "#d98c00", "set": "#0072b2"}
OTHERS = ("#009e73", "#cc79a7", "#882255", "#999933", "#d55e00", "#56b4e9", "#44aa99", "#aa4499")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.5, 1.3)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LIGHTEST = 0.5  # the share of white in the last of many shades

# More entries than this are no legend but a list: pictures then name the methods only.
LEGEND_LIMIT = 15
LABEL_LENGTH = 34


@dataclass(frozen=True)
class Style:
    """The looks of one configuration."""

    label: str
    method: str
    colour: str
    method_colour: str
    line: Any
    marker: str


def styles(configurations: pd.DataFrame) -> dict[str, Style]:
    """One style a configuration, by label, in the order of the rows.

    Args:
        configurations: one row a configuration with the columns `label` (unique), `method` and
            `density` (a fraction, NaN where there is none).

    The method decides the colour. Within it, density decides shade, line and marker, the same for
    every method; where several configurations of a method share a density their order decides.
    Beyond the first four lines and eight markers only the shade tells them apart.
    """
    colours = method_colours(list(configurations["method"]))
    ranks = _ranks(configurations)
    last = max(ranks, default=0)
    return {
        label: Style(
            label=label,
            method=method,
            colour=_lighter(colours[method], LIGHTEST * rank / max(last, 2)),
            method_colour=colours[method],
            line=LINES[rank] if last < len(LINES) else "-",
            marker=MARKERS[rank] if last < len(MARKERS) else "o",
        )
        for label, method, rank in zip(
            configurations["label"], configurations["method"], ranks, strict=True
        )
    }


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each distinct method; those without a fixed one take turns by name."""
    unknown = sorted({method for method in methods if method.lower() not in FIXED})
    turns = {method: OTHERS[i % len(OTHERS)] for i, method in enumerate(unknown)}
    return {method: turns.get(method) or FIXED[method.lower()] for method in methods}


def shaded_by_density(configurations: pd.DataFrame) -> bool:
    """Whether paler means sparser: no two configurations of a method share a density."""
    densest = configurations["density"].max()
    alike = configurations.assign(density=configurations["density"].fillna(densest))
    return not bool(alike.duplicated(["method", "density"]).any())


def plain(text: str, length: int = LABEL_LENGTH) -> str:
    """`text` as matplotlib shows it letter by letter, cut where it would crowd the picture."""
    short = text if len(text) <= length else text[: length - 1] + "…"
    short = short.replace("$", r"\$")  # dollars would start mathematics
    return f" {short}" if short.startswith("_") else short  # legends leave out "_..."


def _ranks(configurations: pd.DataFrame) -> list[int]:
    density = configurations["density"].astype(float)
    # A method without densities goes with the densest: full line, full colour.
    by_density = (-density.fillna(float("inf"))).rank(method="dense")
    lowest = by_density[density.notna()].min()
    ranks = (by_density - (lowest if pd.notna(lowest) else 1.0)).clip(lower=0.0).astype(int)
    if not shaded_by_density(configurations):
        ranks = configurations.groupby("method", sort=False).cumcount()
    return [int(rank) for rank in ranks]


def _lighter(colour: str, share: float) -> str:
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    mixed = [round(part + (255 - part) * share) for part in parts]
    return "#" + "".join(f"{part:02x}" for part in mixed)
