"""What the report says and calls things of a set of distances, whatever it draws of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.distances import StoredDistances
from sweeps.report_data import GROUPS_SHOWN, EvolutionGroup, RunData, SquareGroup
from sweeps.report_page import Section

METHODS = {
    "reference": "what the paper's published code computes; where several matchings are equally "
    "good, the order of the neurons decides",
    "layerwise": "each layer's neurons matched at the least total distance given the layer before; "
    "where several matchings are equally good, structure alone decides",
    "joint": "the neurons of all layers matched together",
    "joint, shared indices": "the same, and never above the distance with every neuron left in its "
    "place",
    "in_place": "nothing is matched: every neuron stands for the one of its own index",
}


def method_name(spec: Mapping[str, Any]) -> str:
    """The method with its option, a key of `METHODS` where it is one that we know."""
    return f"{spec['method']}{', shared indices' if spec.get('shared_indices') else ''}"


def set_title(stored: StoredDistances) -> str:
    """The heading of a set's section."""
    if stored.against is None:
        return f"Distances between networks: {stored.name}"
    return f"Evolution of topology: {stored.name}"


def set_intro(stored: StoredDistances, spec: Mapping[str, Any]) -> str:
    """What was compared, and how."""
    steps = spec.get("steps")
    words = {"last": "the last snapshot of each trial", "first": "the first snapshot of each trial",
             "all": "all snapshots"}  # fmt: skip
    which = words.get(str(steps)) or f"the snapshots at {_steps_text(steps)}"
    where = f" where {spec['where']}" if spec.get("where") else ""
    dense = "" if spec.get("include_dense") else "; networks that are dense everywhere are left out"
    if stored.against is None:
        compared = (
            f"{stored.snapshots:,} topologies, {stored.pairs:,} pairs: {which}{where}{dense}."
        )
    else:
        against = _against_text(stored.against)
        which = f"{which[:1].upper()}{which[1:]}"
        compared = f"{which}{where}, each compared with {against} of its own trial{dense}."
    apart = ""
    if len(stored.groups) > 1:
        apart = (
            f" The networks form {len(stored.groups)} groups that cannot be compared with each "
            "other (another depth, width or input): each has its own pictures."
        )
    if len(stored.groups) > GROUPS_SHOWN:
        apart += f" Shown are the {GROUPS_SHOWN} largest."
    return f"{compared} Method: {method_name(spec)}.{apart}"


def _steps_text(steps: object) -> str:
    return ", ".join(str(s) for s in steps) if isinstance(steps, list) else str(steps)


def _against_text(against: str) -> str:
    return f"the {against} one" if against in ("first", "last") else f"the one at {against}"


def group_name(data: RunData, stored: StoredDistances, group: SquareGroup | EvolutionGroup) -> str:
    """The number that `load_distances` takes, and the shape of the group's networks."""
    if len(stored.groups) == 1:
        return ""
    return f"group {group.number}: {data.shape(group.rows['trial_id'].iloc[0])}"


def picture_file(name: str, what: str, group: str) -> str:
    """The file of a picture of the set of this name, and of one of its groups."""
    number = group.partition(":")[0].replace(" ", "-")
    parts = ["distances", name, *([number] if group else []), what]
    return "-".join(parts) + ".png"


def panel_titles(columns: Sequence[str]) -> dict[str, str]:
    """What the columns of distances are called."""
    return {c: "whole network" if c == "network" else f"layer {c}" for c in columns}


def telling(
    distances: Mapping[str, NDArray[np.float64]], section: Section
) -> dict[str, NDArray[np.float64]]:
    """Without layers that are the same in all networks, such as a dense output; a note says so."""
    same = [column for column in distances if column != "network" and not distances[column].any()]
    if same:
        names = ", ".join(same)
        note = f"Left out: {names}; the networks have the same connections there."
        if note not in section.notes:
            section.notes.append(note)
    return {column: values for column, values in distances.items() if column not in same}
