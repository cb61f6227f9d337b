"""What a report shows of the training: accuracy over epochs, and at the end."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sweeps.configurations import percent
from sweeps.intervals import interval
from sweeps.report_data import RunData
from sweeps.report_density import density_picture
from sweeps.report_page import Picture, Section, Table
from topology.plot_style import LEGEND_LIMIT, Style
from topology.plots import BANDS_LIMIT, ROWS_LIMIT, curves, dots, mean_and_spread, to_png

# Rows of the table of final accuracies.
CONFIGURATIONS_SHOWN = 100


def accuracy_section(data: RunData, looks: Mapping[str, Style]) -> Section:
    section = Section("accuracy", "Accuracy on test data")
    rows = _finite(data.metrics, "test_accuracy")
    if len(rows):
        rows = rows.assign(percent=100 * rows["test_accuracy"])
        low = _axis_start(rows)
        figure = curves(
            rows, {"percent": ""}, looks, y_label="accuracy on test data (%)", limits=(low, None)
        )
        section.pictures.append(
            Picture("accuracy.png", to_png(figure), "Test accuracy over training",
                    _accuracy_caption(rows, low))
        )  # fmt: skip
    else:
        section.intro = "No accuracy on test data has been recorded."
    done = data.trials[data.trials["state"] == "completed"]
    final = _finite(done.assign(label=done["trial_id"].map(data.named["label"])),
                    "final_test_accuracy")  # fmt: skip
    if final.empty:
        if len(rows):
            section.notes.append("No trial is completed: there are no final accuracies yet.")
        return section
    final = final.assign(percent=100 * final["final_test_accuracy"])
    halves = {str(label): interval(own).half for label, own in final.groupby("label")["percent"]}
    section.pictures.append(
        Picture(
            "final-accuracy.png",
            to_png(
                dots(
                    final,
                    "percent",
                    looks,
                    "accuracy on test data after the last epoch (%)",
                    halves=halves,
                    bounds=(0.0, 100.0),
                )
            ),
            "Final test accuracy",
            _final_caption(final),
        )
    )
    over_density = density_picture(final, looks)
    section.pictures += [over_density] if over_density else []
    section.tables.append(_final_table(final, looks))
    stopped = int((data.trials["state"] == "stopped").sum())
    if stopped:
        section.notes.append(
            f"Stopped early by the scheduler, and so not among these: {stopped} of "
            f"{len(data.trials)} trials. The table of trials has their last accuracies."
        )
    return section


def _axis_start(rows: pd.DataFrame) -> float | None:
    """Where the accuracy axis starts: above the steep rise, where that would fill half of it."""
    means = mean_and_spread(rows, "epoch", "percent")
    late = means[means["epoch"] > means["epoch"].max() / 5]
    if late.empty:
        return None
    low, top, least = late["mean"].min(), means["high"].max(), means["low"].min()
    if low - least < top - low:
        return None
    return max(float(np.floor(low - 0.2 * (top - low))), 0.0)


def _accuracy_caption(rows: pd.DataFrame, low: float | None) -> str:
    trials = rows.groupby("label")["trial_id"].nunique()
    n = len(trials)
    parts = [f"A line is the mean of a configuration's trials ({_seeds(trials)})."]
    if trials.max() == 1:
        parts = ["One trial each: no spread can be shown."]
    elif n <= BANDS_LIMIT:
        parts.append("The band reaches from its worst to its best trial.")
    else:
        parts.append(f"The bands of {n} configurations would hide each other and are left out.")
    if n > LEGEND_LIMIT:
        parts.append("The legend names the methods; their shades are the configurations.")
    if low is not None:
        parts.append(f"The axis starts at {low:g}%: the first epochs lie below.")
    return " ".join(parts)


def _seeds(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return f"{low} seed{'s' * (low > 1)}"
    return f"{low} to {high} seeds"


def _final_caption(final: pd.DataFrame) -> str:
    counts = final.groupby("label")["percent"].count()
    caption = (
        f"A dot is a completed trial ({_seeds(counts)} each), a stroke the mean of several, the "
        "thin line through it the mean's 95% confidence interval."
    )
    if len(counts) > ROWS_LIMIT:
        caption += f" Shown are the best {ROWS_LIMIT} of {len(counts)} configurations."
    return caption


def _final_table(final: pd.DataFrame, looks: Mapping[str, Style]) -> Table:
    optional = {"final_density": "density", "final_exploration": "explored"}
    there = [c for c in optional if c in final and np.isfinite(final[c].astype(float)).any()]
    validated = len(_finite(final, "final_validation_accuracy")) > 0
    means = final.groupby("label")["percent"].mean().sort_values(ascending=False, kind="stable")
    shown = set(means.index[:CONFIGURATIONS_SHOWN])
    rows = []
    for label in (label for label in looks if label in shown):
        group = final[final["label"] == label]
        values = group["percent"]
        spread = f"{values.std(ddof=1):.2f}" if len(values) > 1 else "–"
        found = interval(values)
        sure = f"± {found.half:.2f}" if len(values) > 1 else "–"
        shares = [group[column].astype(float).mean() for column in there]
        numbers = [f"{values.mean():.2f}", sure, spread]
        numbers += [f"{values.min():.2f}", f"{values.max():.2f}"]
        texts = [percent(share) if share == share else "" for share in shares]
        if validated:
            held_out = group["final_validation_accuracy"].astype(float).dropna()
            texts.insert(0, interval(100 * held_out).text(2) if len(held_out) else "")
        rows.append([label, str(len(values)), *numbers, *texts])
    columns = ["configuration", "seeds", "mean (%)", "95% CI", "std", "worst", "best",
               *["validation (%)"] * validated,
               *(optional[column] for column in there)]  # fmt: skip
    note = (
        "Completed trials, after their last epoch. CI: the mean's confidence interval over seeds "
        "by Student's t; std: their standard deviation (n - 1 in the denominator)."
    )
    if validated:
        note += (
            " Validation: mean and CI of the accuracy on the samples held out from training, by "
            "which settings may be chosen."
        )
    if "final_density" in there:
        note += " Density: connections over weights of the masked layers."
    if "final_exploration" in there:
        note += " Explored: the share of these weights that was ever connected."
    if len(shown) < len(means):
        note += f" Shown are the best {len(shown)} of {len(means)} configurations."
    return Table("Final test accuracy over seeds", columns,
                 ["text", *["number"] * (len(columns) - 1)], rows, note)  # fmt: skip


def _finite(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    if column not in frame:
        return frame.iloc[:0]
    return frame[np.isfinite(frame[column].astype(float))]
