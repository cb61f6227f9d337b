"""The same networks by several methods, heatmaps side by side."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.configurations import evenly
from sweeps.report_epochs import add_course, cell_of, grid, means_of_moments
from sweeps.report_moments import EPOCHS_SHOWN, Course, Moment
from sweeps.report_page import Section, titled
from sweeps.report_sets import METHODS, panel_titles
from topology.plot_grid import scale_end
from topology.plot_style import Style

Snapshots = tuple[tuple[str, int], ...]

# The largest of them.
COMPARISONS_SHOWN = 3

SEE_METHODS = (
    "These distances stand beside other methods' under Methods side by side, epoch by epoch."
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The same snapshots measured by several methods.

    Attributes:
        like: one of the courses; it has the networks.
        moments: by method, then by name of the moment; a method may lack some.
        names: of the moments, in the order of time.
        measured: by which method which snapshots are known; more than `moments` where these are a
            sample of the epochs.
        total: epochs that at least two methods have.
    """

    like: Course
    moments: dict[str, dict[str, Moment]]
    names: list[str]
    measured: set[tuple[str, Snapshots]]
    total: int

    @property
    def all_moments(self) -> list[Moment]:
        """Of all methods."""
        return [moment for course in self.moments.values() for moment in course.values()]


def add_epochs(
    sections: Mapping[str, Section], courses: Sequence[Course], looks: Mapping[str, Style]
) -> Section | None:
    """What there is to see epoch by epoch.

    A set's own section gets it where the set has several epochs, unless other sets have the same
    snapshots by another method: these come side by side in a section of their own.

    Args:
        sections: of the sets, by name.

    Returns:
        That section; None where no two methods have snapshots in common.
    """
    found = _comparisons(courses)
    section = Section("methods", "Methods side by side") if found else None
    compared = {known for comparison in found for known in comparison.measured}
    for course in courses:
        own = sections[course.name]
        if course.moments and all((course.method, m.snapshots) in compared for m in course.moments):
            own.notes += [] if SEE_METHODS in own.notes else [SEE_METHODS]
        elif len(course.moments) > 1:
            add_course(own, course, looks)
    if section:
        methods = [m for m in METHODS if any(m in comparison.moments for comparison in found)]
        section.intro = (
            "The same networks by each method. "
            + " ".join(f"{m[:1].upper()}{m[1:]}: {METHODS[m]}." for m in methods)
            + " Colours mean the same in all pictures of this section."
        )
        matrices = [m.matrices for comparison in found for m in comparison.all_moments]
        end = scale_end(matrix for by_column in matrices for matrix in by_column.values())
        for k, comparison in enumerate(found, start=1):
            _add_comparison(section, comparison, looks, end, k if len(found) > 1 else None)
    return section


def _comparisons(courses: Iterable[Course]) -> list[Comparison]:
    """Courses of the same networks that share snapshots, the largest ones first."""
    cohorts: dict[tuple[str, ...], list[Course]] = {}
    for course in courses:
        cohorts.setdefault(tuple(course.networks["trial_id"]), []).append(course)
    found = [comparison for cohort in cohorts.values() if (comparison := _compared(cohort))]
    found.sort(key=lambda c: -len(c.like.networks) * len(c.names))
    return found[:COMPARISONS_SHOWN]


def _compared(cohort: Sequence[Course]) -> Comparison | None:
    """What at least two methods have of these courses."""
    measured: dict[Snapshots, dict[str, Moment]] = {}
    for course in cohort:
        for moment in course.moments:
            # The same twice, of two sets: one that knows the level of chance is better.
            other = measured.setdefault(moment.snapshots, {}).get(course.method)
            if other is None or (moment.expected and not other.expected):
                measured[moment.snapshots][course.method] = moment
    all_common = sorted((by for by in measured.values() if len(by) > 1), key=_time)
    if not all_common:
        return None
    known = {(method, m.snapshots) for by in all_common for method, m in by.items()}
    common = [all_common[k] for k in evenly(len(all_common), EPOCHS_SHOWN)]
    methods = sorted({m for by in common for m in by}, key=_rank)
    names = _distinct([next(iter(by.values())).name for by in common])
    moments = {
        m: {name: by[m] for name, by in zip(names, common, strict=True) if m in by}
        for m in methods
    }  # fmt: skip
    return Comparison(cohort[0], moments, names, known, len(all_common))


def _time(measured: Mapping[str, Moment]) -> float:
    return float(np.mean([step for _, step in next(iter(measured.values())).snapshots]))


def _rank(method: str) -> tuple[int, str]:
    return ([*METHODS].index(method) if method in METHODS else len(METHODS)), method


def _distinct(names: Sequence[str]) -> list[str]:
    return [f"{n} ({names[:k].count(n) + 1})" if n in names[:k] else n for k, n in enumerate(names)]


def _add_comparison(
    section: Section,
    comparison: Comparison,
    looks: Mapping[str, Style],
    end: float,
    number: int | None,
) -> None:
    """One picture a layer, a row a method, a column an epoch; of one epoch, one for all layers."""
    course, moments, names = comparison.like, comparison.moments, comparison.names
    titles = panel_titles(course.columns)
    which = course.group.partition(": ")[2]
    if number is not None:
        which = ", ".join([*([which] if which else []), f"{len(course.networks)} networks"])
    prefix = "methods" if number is None else f"methods-{number}"
    if len(names) == 1:
        cells = {
            (titles[column], method): cell_of(course, found.get(names[0]), column)
            for column in course.columns
            for method, found in moments.items()
        }
        title = titled(f"Distances by each method, {names[0]}", which)
        words = "A column is a method, a row the whole network or a layer."
        section.pictures.append(grid(course, cells, looks, f"{prefix}.png", title, words, end))
    else:
        for k, (column, layer) in enumerate(titles.items()):
            cells = {
                (method, name): cell_of(course, found.get(name), column)
                for method, found in moments.items()
                for name in names
            }
            file = f"{prefix}-{k}-{re.sub('[^A-Za-z0-9_.-]+', '-', column)}.png"
            title = titled(f"{layer[:1].upper()}{layer[1:]}: distances at each epoch", which)
            words = "A column is an epoch, a row a method."
            if len(names) < comparison.total:
                words += f" Shown are {len(names)} of {comparison.total} epochs."
            section.pictures.append(grid(course, cells, looks, file, title, words, end))
    rows = [
        ((method, name), found[name])
        for name in names
        for method, found in moments.items()
        if name in found
    ]
    title = titled("Mean distance by each method", which)
    section.tables.append(means_of_moments(title, ("method", "epoch"), rows, course.columns))
