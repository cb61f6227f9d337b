"""What a report says of the price of accuracy: parameters, FLOPs, exploration."""

from collections.abc import Mapping

import pandas as pd

from sweeps.configurations import percent
from sweeps.intervals import interval
from sweeps.readable import readable_count
from sweeps.report_data import RunData
from sweeps.report_page import Picture, Section, Table
from topology.plot_intervals import means_over
from topology.plot_style import LEGEND_LIMIT, Style
from topology.plots import to_png

CONFIGURATIONS_SHOWN = 100

_COSTS = ("parameters", "inference_flops", "training_flops")


def cost_section(data: RunData, looks: Mapping[str, Style]) -> Section | None:
    """The section; None where no completed trial has counted its FLOPs."""
    needed = [f"final_{kind}{name}" for name in _COSTS for kind in ("", "dense_")]
    if any(column not in data.trials for column in [*needed, "final_test_accuracy"]):
        return None
    done = data.trials[data.trials["state"] == "completed"].dropna(
        subset=[*needed, "final_test_accuracy"]
    )
    done = done.assign(label=done["trial_id"].map(data.named["label"]))
    if done.empty:
        return None
    section = Section(
        "cost",
        "Cost",
        intro="FLOPs are the multiplications and additions of connections, as a sparse "
        "implementation would do them: 2 for each connection in a forward pass, three times as "
        "much for a training step, and what a method's updates need, such as the gradient of all "
        "weights. Training FLOPs are those of the whole training; shares are of the dense network "
        "of the same shape, trained on the same samples.",
    )
    means = _means(done, looks)
    if means["x"].nunique() > 1:
        section.pictures.append(
            Picture(
                "cost.png",
                to_png(
                    means_over(
                        means, looks, "training FLOPs, share of the dense network's",
                        "accuracy on test data (%)", lines=False, bounds=(0.0, 100.0),
                    )
                ),
                "Test accuracy and training FLOPs",
                _caption(means),
            )
        )  # fmt: skip
    section.tables.append(_table(done, looks))
    return section


def _means(done: pd.DataFrame, looks: Mapping[str, Style]) -> pd.DataFrame:
    rows = []
    for label in looks:
        own = done[done["label"] == label]
        if len(own):
            accuracy = interval(100 * own["final_test_accuracy"])
            share = (own["final_training_flops"] / own["final_dense_training_flops"]).mean()
            rows.append(
                {"label": label, "x": share, "mean": accuracy.mean, "half": accuracy.half,
                 "n": accuracy.n}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _caption(means: pd.DataFrame) -> str:
    low, high = int(means["n"].min()), int(means["n"].max())
    seeds = f"{low} to {high} seeds" if low < high else f"{low} seed{'s' * (low > 1)}"
    words = f"A mark is the mean of a configuration's completed trials ({seeds})"
    words += ", a bar its 95% confidence interval." if high > 1 else "."
    words += " Marks at the same cost are moved apart a little."
    if len(means) > LEGEND_LIMIT:
        words += " The legend names the methods; their shades are the configurations."
    return words


def _table(done: pd.DataFrame, looks: Mapping[str, Style]) -> Table:
    explored = "final_exploration" in done and bool(done["final_exploration"].notna().any())
    there = set(done["label"])
    labels = [label for label in looks if label in there]
    rows = []
    for label in labels[:CONFIGURATIONS_SHOWN]:
        own = done[done["label"] == label]
        accuracy = interval(100 * own["final_test_accuracy"])
        row = [label, str(accuracy.n), accuracy.text(2)]
        if explored:
            row.append(interval(100 * own["final_exploration"].dropna()).text(1))
        for name in _COSTS:
            mean = float(own[f"final_{name}"].mean())
            share = float((own[f"final_{name}"] / own[f"final_dense_{name}"]).mean())
            row.append(f"{readable_count(mean)} ({percent(share)})")
        rows.append(row)
    columns = ["configuration", "seeds", "accuracy (%)", *["explored (%)"] * explored,
               "parameters", "inference FLOPs", "training FLOPs"]  # fmt: skip
    note = (
        "Means over seeds with 95% confidence intervals (Student's t). Parameters: connections, "
        "biases and whatever else is learned. Inference FLOPs are those of one sample. In "
        "brackets: the share of the dense network's."
    )
    if explored:
        note += " Explored: the share of the masked layers' weights that was ever connected."
    if len(labels) > CONFIGURATIONS_SHOWN:
        note += f" Shown are the first {CONFIGURATIONS_SHOWN} of {len(labels)} configurations."
    return Table("Accuracy and its cost", columns,
                 ["text", *["number"] * (len(columns) - 1)], rows, note)  # fmt: skip
