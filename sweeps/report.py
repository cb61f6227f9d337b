"""The report: one page and its pictures, drawn from a run's Parquet files alone.

It can be built at any time, of a run that is still going on, too, and needs neither ray nor torch
nor mlflow.
"""

from collections import Counter
from typing import Any

import numpy as np
import yaml

from storage.distance_store import CHANCE
from storage.distances import StoredDistances
from storage.errors import InputError
from storage.filesystem import AnyPath, names_in, write_atomic
from storage.importers import is_imported
from storage.runs import Run
from sweeps.configurations import (
    configurations,
    percent,
    stratified_sample,
    telling_columns,
    value_text,
)
from sweeps.readable import readable_bytes
from sweeps.report_accuracy import accuracy_section
from sweeps.report_costs import cost_section
from sweeps.report_data import RunData, read_run
from sweeps.report_distances import distance_section
from sweeps.report_methods import add_epochs
from sweeps.report_moments import Course
from sweeps.report_page import Page, Section, Table, render
from sweeps.report_pairs import pairs_section
from sweeps.report_structure import structure_section
from topology.plot_style import shaded_by_density, styles

TRIALS_SHOWN = 300
FAILURES_SHOWN = 20

SAID_BY_NAME = ("method_name", "method_density", "imported_name")  # columns of a configuration

STATES = ("completed", "stopped", "running", "pending", "failed")

GUIDE = (
    "A configuration is a method at one density (and whatever else varies); its trials differ in "
    "their seeds. A method has one colour in all pictures, {shades}. "
)
IMPORTED_GUIDE = (
    "These networks were trained elsewhere; each goes by the name under which it was imported. "
)
DISTANCES_GUIDE = (
    "Distances (NNSTD) say how much the connections of two networks differ once their neurons are "
    "matched: 0 means the same connections, 1 that none is shared."
)
BY_DENSITY = "paler for its sparser configurations"
BY_ORDER = "in other shades for its configurations"


def build_report(run: Run) -> AnyPath:
    """Write OUT/report/index.html and its pictures anew.

    Each file appears whole or not at all, the page last; pictures of an earlier report that this
    one does not have are deleted. The same data gives the same bytes. What cannot be read, or is
    not there yet, is said on the page.

    Returns:
        The page.

    Raises:
        InputError: the trials' records cannot be read.
    """
    data = read_run(run)
    shown = configurations(data.named)
    looks = styles(shown)
    imported = is_imported(run)
    sections: list[Section] = []
    if not imported:
        sections.append(accuracy_section(data, looks))
        more = (pairs_section(data, looks), cost_section(data, looks))
        sections += [section for section in more if section]
    problems = list(data.problems)
    study = _study_file(run)
    asked = study.get("distances")
    rank = {name: k for k, name in enumerate(asked)} if isinstance(asked, dict) else {}
    # In the order in which the study asks for them.
    data.distances.sort(key=lambda stored: rank.get(stored.name, len(rank)))
    sets: dict[str, Section] = {}
    courses: list[Course] = []
    for stored in data.distances:
        try:
            sets[stored.name], found = distance_section(data, stored, looks)
            courses += found
        except InputError as error:
            problems.append(f"distances {stored.name}: {error}")
    methods = add_epochs(sets, courses, looks)
    sections += [*([methods] if methods else []), *sets.values()]
    if not data.distances:
        note = "This run has no finished distances (toposweep distances computes them)."
        sections.append(Section("distances", "Distances", intro=note))
    try:
        structure = structure_section(data)
        sections += [structure] if structure else []
    except InputError as error:
        problems.append(f"structure: {error}")
    sections.append(_trials(data))
    shades = BY_DENSITY if shaded_by_density(shown) else BY_ORDER
    page = Page(
        title=run.study,
        description=str(study.get("description") or ""),
        facts=_facts(data),
        guide=(IMPORTED_GUIDE if imported else GUIDE.format(shades=shades)) + DISTANCES_GUIDE,
        problems=[*_failures(data), *problems],
        sections=sections,
        code=_code(data),
        folders=_folders(data),
        versions=_versions(run),
    )
    return _write(run, page)


def _write(run: Run, page: Page) -> AnyPath:
    pictures = [picture for section in page.sections for picture in section.pictures]
    for picture in pictures:
        write_atomic(run.report_folder / picture.file, picture.png)
    index = run.report_folder / "index.html"
    write_atomic(index, render(page).encode())
    kept = {picture.file for picture in pictures}
    for name in names_in(run.report_folder):
        if name.endswith(".png") and name not in kept:
            (run.report_folder / name).unlink(missing_ok=True)
    return index


def _study_file(run: Run) -> dict[str, Any]:
    """The study as it stands in OUT; nothing where there is none to read."""
    try:
        study = yaml.safe_load(run.study_path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return study if isinstance(study, dict) else {}


def _facts(data: RunData) -> list[tuple[str, str]]:
    states = Counter(data.trials["state"])
    known = [state for state in (*STATES, *sorted(set(states) - {*STATES})) if states[state]]
    counted = ", ".join(f"{states[state]} {state}" for state in known)
    methods = list(dict.fromkeys(data.named["method"]))
    densities = sorted(set(data.named["density"].dropna()))
    facts = [("trials", f"{len(data.trials)}: {counted}" if counted else "none yet")]
    if data.imported:
        whole = set(states) == {"completed"}
        facts = [("networks", f"{len(data.trials)}: {'imported' if whole else counted}")]
    elif methods:
        facts.append(("methods", _list(methods, 12)))
    if densities:
        facts.append(("densities", _list([percent(density) for density in densities], 12)))
    facts.append(("snapshots", f"{data.snapshots:,} (all masks of a network at one step)"))
    facts.append(
        ("imported" if data.imported else "started", _time(str(data.run.info["created_at"])))
    )
    changed = max((record.updated_at for record in data.run.records().values()), default="")
    if changed:
        facts.append(("last change", _time(changed)))
    facts.append(("run", data.run.uuid))
    return facts


def _time(iso: str) -> str:
    return f"{iso[:10]} {iso[11:16]} UTC" if len(iso) >= 16 else iso


def _list(items: list[str], most: int) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _failures(data: RunData) -> list[str]:
    failed = data.trials[data.trials["state"] == "failed"]
    labels = failed["trial_id"].map(data.named["label"])
    lines = [
        f"trial {trial_id} ({label}) failed: {reason or 'no reason given'}"
        for trial_id, label, reason in zip(
            failed["trial_id"], labels, failed["reason"], strict=True
        )
    ]
    if len(lines) > FAILURES_SHOWN:
        more = f"{len(lines) - FAILURES_SHOWN} more trials failed: toposweep status lists them"
        return [*lines[:FAILURES_SHOWN], more]
    return lines


def _trials(data: RunData) -> Section:
    section = Section("trials", "Trials")
    order = {trial_id: k for k, trial_id in enumerate(data.named.index)}
    trials = data.trials.sort_values("trial_id", key=lambda ids: ids.map(order), kind="stable")
    labels = [str(data.named.at[trial_id, "label"]) for trial_id in trials["trial_id"]]
    shown = stratified_sample(list(zip(labels, trials["state"], strict=True)), TRIALS_SHOWN)
    if len(shown) < len(trials):
        section.intro = (
            f"Shown are {len(shown)} of {len(trials)} trials, a sample in which every "
            "configuration and state has its share; Run.open(out).trials() gives them all."
        )
    settings = telling_columns(trials)
    settings = [column for column in settings if column not in SAID_BY_NAME]
    seeds = any(data.named["seed"])
    finals = [
        (column, head)
        for column, head in (("final_test_accuracy", "test accuracy"), ("final_density", "density"))
        if column in trials
    ]
    rows = []
    for position in shown:
        trial = trials.iloc[position]
        named = data.named.loc[trial["trial_id"]]
        rows.append(
            [trial["trial_id"], named["label"], *([named["seed"]] if seeds else []),
             *(value_text(trial[column]) for column in settings), trial["state"],
             *(_share(trial[column]) for column, _ in finals)]
        )  # fmt: skip
    name = "network" if data.imported else "configuration"
    columns = ["trial_id", name, *["seed"] * seeds, *settings, "state", *(h for _, h in finals)]
    kinds = ["code", *["text"] * (2 + seeds + len(settings)), *["number"] * len(finals)]
    if rows:
        section.tables.append(Table("", columns, kinds, rows))
    else:
        section.intro = "There are none yet."
    return section


def _share(value: float | None) -> str:
    number = float("nan") if value is None else float(value)
    return f"{100 * number:.2f}%" if np.isfinite(number) else ""


def _folders(data: RunData) -> list[tuple[str, str]]:
    out = data.run.out
    rows = [(str(out), "this run")]
    for folder, what, usage in (
        ("masks/", "every snapshot's masks", data.run.masks.usage),
        ("metrics/", "each epoch's metrics", data.run.metrics.usage),
    ):
        try:
            files, size = usage()
        except InputError:
            continue  # damaged, which read_run has said
        if files:
            count = f"{files:,} file{'s' * (files > 1)}"
            rows.append((folder, f"{what}, Parquet ({count}, {readable_bytes(size)})"))
    for stored in data.distances:
        what = f"{stored.pairs:,} pairs, a row each; labels.parquet names i and j"
        rows.append((f"distances/{stored.name}/matrix.parquet", what))
        if (stored.path / CHANCE).exists():
            what = "the distances expected by chance, for each two classes of equal degrees"
            rows.append((f"distances/{stored.name}/{CHANCE}", what))
    rows.append(("trials/", "each trial's configuration, state and final metrics, JSON"))
    return rows


def _code(data: RunData) -> str:
    """Lines that load what there is into pandas."""
    lines = [
        "from storage import MaskStore, MetricStore, Run, load_distances",
        "",
        f"out = {str(data.run.out)!r}",
        "Run.open(out).trials()                            # one row a trial",
        "MetricStore(out).load(with_config=True)           # one row a trial and epoch",
        "MaskStore(out).index()                            # one row a snapshot and layer",
    ]
    if data.last_snapshot:
        trial_id, step = data.last_snapshot
        call = f"MaskStore(out).load({trial_id!r}, step={step})"
        lines.append(f"{call:<49} # {{layer: scipy.sparse.csr_array}}")
    return "\n".join([*lines, *(_distances_line(stored) for stored in data.distances)])


def _distances_line(stored: StoredDistances) -> str:
    group = ", group=0" if stored.against is None and len(stored.groups) > 1 else ""
    call = f"load_distances(out, {stored.name!r}{group})"
    what = "square" if stored.against is None else f"to the {stored.against} snapshot"
    return f"{call:<49} # {what}"


def _versions(run: Run) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in run.info["versions"].items())
    return f"Run {run.uuid}, schema version {run.info['schema_version']}. {versions}"
