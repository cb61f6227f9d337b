"""Accuracy over density: what sparsity costs, a line a method."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from sweeps.configurations import sortable, value_text
from sweeps.intervals import interval
from sweeps.report_page import Picture
from topology.plot_intervals import means_over
from topology.plot_style import Style, styles
from topology.plots import to_png

# Fewer densities than this are no curve.
DENSITIES_NEEDED = 3


def density_picture(final: pd.DataFrame, looks: Mapping[str, Style]) -> Picture | None:
    """The picture; None where no method has several densities, or they are too few.

    Args:
        final: completed trials: `label`, `percent` (accuracy), `final_density` and the
            configuration's columns.
    """
    if "final_density" not in final:
        return None
    rows = []
    for series, method, labels in _series(final, looks):
        for label in labels:
            own = final[final["label"] == label]
            found = interval(own["percent"])
            rows.append(
                {"label": series, "method": method, "x": own["final_density"].mean(),
                 "mean": found.mean, "half": found.half, "n": found.n}
            )  # fmt: skip
    points = pd.DataFrame(rows)
    dense = points[points["method"] == "dense"]
    sparse = points[points["method"] != "dense"]
    if max(sparse.groupby("label")["x"].nunique(), default=0) < DENSITIES_NEEDED:
        return None
    lines = points.drop_duplicates("label")[["label", "method"]].assign(density=np.nan)
    level = None
    if len(dense) == 1:
        level = str(dense["label"].iloc[0]), dense["mean"].iloc[0], dense["half"].iloc[0]
    figure = means_over(
        sparse, styles(lines.reset_index(drop=True)), "density (share of connections kept)",
        "accuracy on test data (%)", level=level, bounds=(0.0, 100.0),
    )  # fmt: skip
    return Picture("density.png", to_png(figure), "Test accuracy over density",
                   _caption(points, level is not None))  # fmt: skip


def _series(
    final: pd.DataFrame, looks: Mapping[str, Style]
) -> Iterator[tuple[str, str, list[str]]]:
    """Name, method and labels of what makes a line: a method on one model and data set.

    Where a method has two configurations at the same density they are lines of their own.
    """
    columns = [str(column) for column in final]
    settings = [c for c in columns if c.startswith(("data_", "model_")) or c == "epochs"]
    first = final.drop_duplicates("label").set_index("label")
    settings = [c for c in settings if len({sortable(value) for value in first[c]}) > 1]
    groups: dict[tuple[str, str], list[str]] = {}
    for label in (label for label in looks if label in first.index):
        told = " ".join(value_text(first.at[label, c]) for c in settings)
        groups.setdefault((looks[label].method, told), []).append(label)
    for (method, told), labels in groups.items():
        densities = first.loc[labels, "final_density"].tolist()
        name = f"{method} {told}".strip()
        if len(set(densities)) == len(densities):
            yield name, method, labels
        else:
            yield from _split(name, method, labels, first)


def _split(
    name: str, method: str, labels: list[str], first: pd.DataFrame
) -> Iterator[tuple[str, str, list[str]]]:
    """By what else tells the configurations of one method apart, their density aside."""
    own = first.loc[labels]
    aside = ("method_density", "method_name", "final_density")
    columns = [
        c for c in map(str, own)
        if c.startswith(("method_", "optimizer_")) and c not in aside
        and len({sortable(value) for value in own[c]}) > 1
    ]  # fmt: skip
    parts: dict[str, list[str]] = {}
    for label in labels:
        words = [f"{c.split('_', 1)[1].replace('_', ' ')} {value_text(own.at[label, c])}"
                 for c in columns]  # fmt: skip
        parts.setdefault(" ".join([name, *words]), []).append(label)
    for part, members in parts.items():
        yield part, method, members


def _caption(points: pd.DataFrame, level: bool) -> str:
    low, high = int(points["n"].min()), int(points["n"].max())
    seeds = f"{low} to {high} seeds" if low < high else f"{low} seed{'s' * (low > 1)}"
    words = f"A mark is the mean over a configuration's completed trials ({seeds})"
    words += ", a bar its 95% confidence interval." if high > 1 else "."
    if level:
        words += " The horizontal line: the dense network"
        words += ", the band its interval." if high > 1 else "."
    return (
        f"{words} The axis of density is logarithmic; marks at the same density are moved apart a "
        "little."
    )
