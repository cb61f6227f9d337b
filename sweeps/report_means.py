"""Mean distances within and between configurations, as tables."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeps.readable import decimals
from sweeps.report_data import SquareGroup, imported
from sweeps.report_page import Table, titled
from topology.heatmaps import block_means


def relations_table(square: SquareGroup, titles: Mapping[str, str], group: str) -> Table:
    """Mean distance of pairs by what the two networks have in common."""
    rows = square.rows
    trial, label, method, density, seed = (
        pd.factorize(rows[column])[0]
        for column in ("trial_id", "label", "method", "density", "seed")
    )
    a, b = np.triu_indices(len(rows), k=1)
    paired = (density[a] == density[b]) & (seed[a] == seed[b])
    relation = np.select(
        [trial[a] == trial[b], label[a] == label[b], method[a] == method[b], paired],
        [0, 1, 2, 3],
        4,
    )
    names = (
        "same trial, another step",
        "same configuration, another trial",
        "another imported network" if imported(rows) else "same method, another density or setting",
        "another method, same density and seed",
        "another method, another density or seed",
    )
    table = []
    for k, name in enumerate(names):
        pairs = relation == k
        if pairs.any():
            means = [_mean(square.matrices[column][a, b][pairs]) for column in titles]
            table.append([name, f"{pairs.sum():,}", *means])
    return Table(
        titled(
            "Mean distance within and between "
            + ("networks" if imported(rows) else "configurations"),
            group,
        ),
        ["pairs of networks", "number", *titles.values()],
        ["text", *["number"] * (1 + len(titles))],
        table,
        "Of the sample that the heatmap shows." if square.total > len(rows) else "",
    )


def means_table(square: SquareGroup, group: str) -> Table:
    """Mean distance of whole networks for each two configurations."""
    rows = square.rows
    means = block_means(
        square.matrices["network"], rows["label"].tolist(), rows["trial_id"].tolist()
    )
    return Table(
        titled(
            "Mean distance between each two networks"
            if imported(rows)
            else "Mean distance of whole networks by configuration",
            group,
        ),
        ["", *means.columns],
        ["text", *["number"] * len(means.columns)],
        [[str(label), *(decimals(value, 3) for value in row)]
         for label, row in zip(means.index, means.to_numpy(), strict=True)],
        diagonal_note(square),
    )  # fmt: skip


def diagonal_note(square: SquareGroup) -> str:
    """What a mean by configuration is over."""
    parts = []
    if not imported(square.rows):
        parts.append("On the diagonal: between different trials of the configuration.")
    if square.rows["trial_id"].duplicated().any():
        parts.append("Over all pairs of snapshots, from the same epoch or not.")
    return " ".join(parts)


def _mean(values: NDArray[np.float64]) -> str:
    there = values[np.isfinite(values)]
    return decimals(there.mean() if len(there) else math.nan, 3)
