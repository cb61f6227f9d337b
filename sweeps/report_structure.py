"""What a report says of the networks themselves: density, degrees, dead neurons, what has moved."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.errors import InputError
from sweeps.configurations import evenly, percent, stratified_sample
from sweeps.readable import decimals
from sweeps.report_data import RunData
from sweeps.report_page import Section, Table
from topology.prepared import Topology, prepare
from topology.structure import dead_neurons, degree_statistics, exploration_rate, hamming, jaccard

# Trials whose masks are read, and snapshots of each.
TRIALS_READ = 60
SNAPSHOTS_READ = 12
# Configurations of which each layer gets a row.
CONFIGURATIONS_SHOWN = 40


@dataclass(frozen=True)
class _Structure:
    """One trial's network. Arrays have a number a layer.

    Attributes:
        layers: names, first layer first.
        density, in_degree, in_degree_sd, dead: of the last snapshot; `dead` as a share, NaN for
            residual networks, around whose layers there are ways that no mask shows.
        hamming, jaccard: between the first and the last snapshot; NaN where there is only one.
        exploration: of the snapshots read; 1 for a layer that is full at all times.
        thinned: not every snapshot has been read.
    """

    label: str
    layers: tuple[str, ...]
    density: NDArray[np.float64]
    in_degree: NDArray[np.float64]
    in_degree_sd: NDArray[np.float64]
    dead: NDArray[np.float64]
    hamming: NDArray[np.float64]
    jaccard: NDArray[np.float64]
    exploration: NDArray[np.float64]
    thinned: bool


def structure_section(data: RunData) -> Section | None:
    """The section; None where there are no sparse networks.

    At most `TRIALS_READ` trials are read, a sample in which every configuration has its share.

    Raises:
        InputError: masks that cannot be read, or whose layers do not chain.
    """
    trials = _sparse_trials(data)
    if not trials:
        return None
    labels = [str(data.named.at[trial, "label"]) for trial in trials]
    chosen = [trials[k] for k in stratified_sample(labels, TRIALS_READ)]
    found: dict[tuple[str, tuple[str, ...]], list[_Structure]] = {}
    for structure in _read(data, chosen):
        found.setdefault((structure.label, structure.layers), []).append(structure)
    section = Section("structure", "Structure", intro=_intro(data, len(chosen), len(trials)))
    shown = list(found.values())[:CONFIGURATIONS_SHOWN]
    section.tables.append(_table(shown, data.imported))
    if len(shown) < len(found):
        kinds = "networks" if data.imported else "configurations"
        section.notes.append(f"Shown are the first {len(shown)} of {len(found)} {kinds}.")
    if any(structure.thinned for alike in shown for structure in alike):
        section.notes.append(
            f"At any time: in {SNAPSHOTS_READ} snapshots a "
            f"{'network' if data.imported else 'trial'}, first and last among them; there are more."
        )
    return section


def _sparse_trials(data: RunData) -> list[str]:
    """Trials in the report's order, but for failed ones and those that are full at all times."""
    index = data.index
    if index.empty:
        return []
    full = index["nnz"] == index["n_out"].astype("int64") * index["n_in"]
    everywhere = full.groupby(index["trial_id"]).all()
    failed = data.trials.loc[data.trials["state"] == "failed", "trial_id"]
    sparse = set(everywhere.index[~everywhere]) - set(failed)
    return [str(trial) for trial in data.named.index if trial in sparse]


def _read(data: RunData, trials: list[str]) -> Iterator[_Structure]:
    for trial in trials:
        rows = data.index[data.index["trial_id"] == trial]
        steps = sorted(set(rows["step"].tolist()))
        read = [steps[k] for k in evenly(len(steps), SNAPSHOTS_READ)]
        snapshots = []
        for masks in data.run.masks.load_many([(trial, step) for step in read]):
            try:
                snapshots.append(prepare(list(masks.values())))
            except ValueError as error:
                raise InputError(f"trial {trial}: {error}") from None
        names = rows[rows["step"] == steps[-1]].sort_values("layer_index")["layer"]
        yield _structure(
            str(data.named.at[trial, "label"]),
            tuple(names), snapshots, thinned=len(read) < len(steps),
            residual=bool((rows["role"] == "residual").any()),
        )  # fmt: skip


def _structure(
    label: str,
    layers: tuple[str, ...],
    snapshots: list[Topology],
    thinned: bool,
    residual: bool,
) -> _Structure:
    first, last = snapshots[0], snapshots[-1]
    incoming = [sides[0] for sides in degree_statistics(last)]
    moved = len(snapshots) > 1
    nothing = np.full(len(layers), np.nan)
    return _Structure(
        label=label,
        layers=layers,
        density=np.array([layer.density for layer in last.layers]),
        in_degree=np.array([degrees.mean for degrees in incoming]),
        in_degree_sd=np.array([degrees.sd for degrees in incoming]),
        dead=nothing if residual else np.array([n.mean() for n in dead_neurons(last)]),
        hamming=np.array(hamming(first, last)) if moved else nothing,
        jaccard=np.array(jaccard(first, last)) if moved else nothing,
        exploration=np.array(
            [
                exploration_rate([one.layers[k].mask] for one in snapshots)
                for k in range(len(layers))
            ]
        ),
        thinned=thinned,
    )


def _intro(data: RunData, read: int, trials: int) -> str:
    means = "" if data.imported else ", means over a configuration's trials"
    sample = ""
    if read < trials:
        kinds = "networks" if data.imported else "trials, each configuration with its share"
        sample = f" Read from {read} of {trials} {kinds}."
    return (
        f"The last snapshot of the sparse networks{means}. A neuron is dead when it lies on no "
        "path from an input to an output. Changed: between the first and the last snapshot with "
        "every neuron left in its place, no matching. At any time: the share of all possible "
        "connections that at least one snapshot has (training explores more between them). Layers "
        f"that are full at the end are left out.{sample}"
    )


def _table(configurations: list[list[_Structure]], imported: bool) -> Table:
    """A row a layer; imported networks have no configuration, and no trials to count."""
    rows = []
    for alike in configurations:
        name, count = alike[0].label, str(len(alike))
        for k, layer in enumerate(alike[0].layers):
            if all(one.density[k] == 1 for one in alike):
                continue

            def mean(name: str, k: int = k, alike: list[_Structure] = alike) -> float:
                return float(np.mean([getattr(one, name)[k] for one in alike]))

            rows.append(
                [name, layer, *([] if imported else [count]), percent(mean("density")),
                 f"{mean('in_degree'):.1f} ± {mean('in_degree_sd'):.1f}", _dead(mean("dead")),
                 decimals(mean("hamming"), 3), decimals(mean("jaccard"), 3),
                 percent(mean("exploration"))]
            )  # fmt: skip
            name = count = ""
    heads = ["network", "layer"] if imported else ["configuration", "layer", "trials"]
    columns = [*heads, "density", "connections in, mean ± sd", "dead neurons", "changed (Hamming)",
               "changed (Jaccard)", "at any time"]  # fmt: skip
    kinds = ["text", "text", *["number"] * (len(columns) - 2)]
    return Table("Structure of the sparse networks", columns, kinds, rows)


def _dead(share: float) -> str:
    return "–" if np.isnan(share) else percent(share)
