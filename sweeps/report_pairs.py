"""What a report says of methods compared in pairs: the same seeds, two methods, one difference."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from sweeps.configurations import FIRST_METHODS, sortable
from sweeps.intervals import Interval, interval
from sweeps.report_data import RunData
from sweeps.report_page import Picture, Section, Table
from topology.plot_intervals import Difference, differences
from topology.plot_style import Style
from topology.plots import to_png

# Rows: more are cut to those against the first methods, then to the first of them.
PAIRS_SHOWN = 60
# The first of them: every two have to be looked at.
CONFIGURATIONS_COMPARED = 400

_SPARSITY = ("method_density", "method_epsilon", "method_densities")


@dataclass(frozen=True)
class _Configuration:
    """One configuration's completed trials.

    Attributes:
        alike: settings that must be equal in a pair: data, model, epochs.
        sparsity: how sparse it was to be; None for a dense network, which goes with every one.
        optimizer: settings that are equal in a pair where such a pair exists.
        accuracy: final test accuracy in percent by seed.
    """

    label: str
    method: str
    alike: tuple[object, ...]
    sparsity: tuple[object, ...] | None
    optimizer: tuple[object, ...]
    accuracy: Mapping[str, float]


@dataclass(frozen=True)
class PairedDifference:
    """Accuracies of `a` minus those of `b`, seed by seed, in percentage points."""

    a: str
    b: str
    values: tuple[float, ...]

    @property
    def interval(self) -> Interval:
        return interval(self.values)


def pairs_section(data: RunData, looks: Mapping[str, Style]) -> Section | None:
    """The section; None where no two methods share two seeds."""
    found = [d for d in paired_differences(data) if len(d.values) > 1]
    if not found:
        return None
    section = Section("pairs", "Paired differences", intro=_intro(found))
    shown = _shown(found, {label: look.method for label, look in looks.items()})
    rows = [
        Difference(f"{d.a} − {d.b}", d.values, d.interval.mean, d.interval.half,
                   looks[d.a].method_colour)
        for d in shown
    ]  # fmt: skip
    figure = differences(rows, "difference of accuracies on test data (percentage points)")
    section.pictures.append(
        Picture(
            "paired-differences.png", to_png(figure), "Differences between methods, seed by seed",
            "A dot is a pair of trials with the same seed, a diamond their mean, a bar its 95% "
            "confidence interval. Right of the line the first one is better.",
        )
    )  # fmt: skip
    section.tables.append(_table(shown))
    if len(shown) < len(found):
        section.notes.append(
            f"Shown are {len(shown)} of {len(found)} differences, those with dense and static "
            "networks first."
        )
    return section


def paired_differences(data: RunData) -> list[PairedDifference]:
    """Every two configurations of different methods that are otherwise alike and share seeds.

    Alike: the same data, model, epochs and density (a dense network goes with every density);
    and the same optimiser, or, where one of the two has no trial of the other's, whichever it has.
    """
    known = list(islice(_configurations(data), CONFIGURATIONS_COMPARED))
    by_optimizer: dict[object, list[_Configuration]] = defaultdict(list)
    for one in known:
        by_optimizer[one.method, one.optimizer].append(one)
    found = []
    for first, second in combinations(known, 2):
        if not _comparable(first, second):
            continue
        if first.optimizer != second.optimizer and (
            any(_stands_for(c, second) for c in by_optimizer[second.method, first.optimizer])
            or any(_stands_for(c, first) for c in by_optimizer[first.method, second.optimizer])
        ):
            continue
        # The later in the report's order minus the earlier: dense and static come first.
        seeds = [seed for seed in second.accuracy if seed in first.accuracy]
        values = tuple(second.accuracy[seed] - first.accuracy[seed] for seed in seeds)
        if values:
            found.append(PairedDifference(second.label, first.label, values))
    return found


def _stands_for(one: _Configuration, other: _Configuration) -> bool:
    """Whether they differ in the optimiser alone, of the settings that a pair looks at."""
    return one.alike == other.alike and one.sparsity == other.sparsity


def _configurations(data: RunData) -> Iterator[_Configuration]:
    trials = data.trials
    if "final_test_accuracy" not in trials:
        return
    done = trials[(trials["state"] == "completed") & trials["final_test_accuracy"].notna()]
    done = done.set_index("trial_id")
    columns = [str(column) for column in done]
    alike = [c for c in columns if c.startswith(("data_", "model_")) or c == "epochs"]
    optimizer = [c for c in columns if c.startswith("optimizer_")]
    sparsity = [c for c in _SPARSITY if c in columns]
    for label, named in data.named.groupby("label", sort=False):
        own = done.loc[[trial_id for trial_id in named.index if trial_id in done.index]]
        if own.empty:
            continue
        first = {str(column): value for column, value in own.iloc[0].items()}
        dense = str(first.get("method_name")) == "dense"
        accuracy = (100 * own["final_test_accuracy"]).tolist()
        yield _Configuration(
            label=str(label),
            method=str(named["method"].iloc[0]),
            alike=tuple(sortable(first[c]) for c in alike),
            sparsity=None if dense else tuple(sortable(first[c]) for c in sparsity),
            optimizer=tuple(sortable(first[c]) for c in optimizer),
            accuracy=dict(zip(named["seed"][own.index], accuracy, strict=True)),
        )


def _comparable(a: _Configuration, b: _Configuration) -> bool:
    sparsity = a.sparsity is None or b.sparsity is None or a.sparsity == b.sparsity
    return a.method != b.method and a.alike == b.alike and sparsity


def _shown(found: list[PairedDifference], methods: Mapping[str, str]) -> list[PairedDifference]:
    if len(found) <= PAIRS_SHOWN:
        return found
    rank = [methods[d.b] not in FIRST_METHODS for d in found]
    kept = sorted(range(len(found)), key=lambda k: (rank[k], k))[:PAIRS_SHOWN]
    if sum(not r for r in rank) >= 2:
        kept = [k for k in kept if not rank[k]]
    return [found[k] for k in sorted(kept)]


def _intro(found: list[PairedDifference]) -> str:
    counts = {len(d.values) for d in found}
    low, high = min(counts), max(counts)
    seeds = f"{low} seeds" if low == high else f"{low} to {high} seeds"
    return (
        "Trials with the same seed start from the same draws of weights and topology and see the "
        "same batches, whatever their method; so two methods are compared seed by seed, which "
        f"leaves the seeds' own luck out. {seeds[:1].upper()}{seeds[1:]} a comparison; test "
        "accuracy after the last epoch."
    )


def _table(shown: list[PairedDifference]) -> Table:
    rows = []
    for difference in shown:
        found = difference.interval
        above = sum(value > 0 for value in difference.values)
        rows.append(
            [difference.a, difference.b, str(found.n), _signed(found.mean),
             f"{_signed(found.low)} to {_signed(found.high)}", f"{above} of {found.n}",
             _verdict(found)]
        )  # fmt: skip
    luck = len(rows) * 0.05
    note = (
        "Percentage points of test accuracy, first minus second. The interval is the mean's by "
        "Student's t over the pairs (95%); a verdict says on which side of 0 the whole of it lies."
    )
    if luck >= 0.5:
        note += (
            f" These are {len(rows)} comparisons: about {math.ceil(luck)} of them would have a "
            "verdict by luck alone if all methods were equal."
        )
    columns = ["first", "second", "pairs", "mean difference", "95% interval", "first is better in",
               "verdict"]  # fmt: skip
    kinds = ["text", "text", "number", "number", "number", "number", "text"]
    return Table("Paired differences of test accuracy", columns, kinds, rows, note)


def _signed(points: float) -> str:
    return f"{round(points, 2) + 0.0:+.2f}"  # no minus before zero


def _verdict(found: Interval) -> str:
    if not np.isfinite(found.half):
        return ""
    if found.low > 0:
        return "first is better"
    return "second is better" if found.high < 0 else "not told apart"
