"""Which snapshots of a run to compare: what a user writes, and the snapshots that it stands for."""

from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from storage.errors import InputError
from storage.masks import MaskStore
from storage.selection import parse_steps, parse_where, select_snapshots
from storage.staged import Damage
from topology.comparison import Method, Metric
from topology.nnstd import checked_metric
from topology.tiles import Layer, Snapshot

_T = TypeVar("_T")


class DistanceSpec(BaseModel):
    """Which snapshots to compare, and how."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    method: Method = "layerwise"
    """The metric: layerwise, reference, joint or in_place."""
    shared_indices: bool = False
    """For joint: networks that grew from one initialisation, whose neurons are the same ones."""
    steps: str | list[str] = "last"
    """Which snapshots of each trial: first, last, all, or steps such as 0ep,10ep,500it."""
    where: str | None = None
    """Only snapshots for which this holds, such as method_density < 0.1."""
    against: str | None = None
    """first, last or a step such as 10ep: each snapshot against that one of its own trial, instead
    of all pairs."""
    include_dense: bool = False
    """Also trials whose networks are dense everywhere."""
    chance: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Pairs of random networks with the same degrees, for each two classes of networks, whose mean
    distance is stored beside the matrix as the one expected by chance; null computes none."""

    @property
    def metric(self) -> Metric:
        """Method and options, but for what the snapshots say of their outputs."""
        return Metric(self.method, shared_indices=self.shared_indices)

    @model_validator(mode="after")
    def _check_options(self) -> "DistanceSpec":
        checked_metric(self.method, shared_indices=self.shared_indices)
        return self

    @field_validator("steps")
    @classmethod
    def _check_steps(cls, steps: str | list[str]) -> str | list[str]:
        return _checked(parse_steps, steps)

    @field_validator("where")
    @classmethod
    def _check_where(cls, where: str | None) -> str | None:
        return where if where is None else _checked(parse_where, where)

    @field_validator("against")
    @classmethod
    def _check_against(cls, against: str | None) -> str | None:
        if against is None:
            return None
        try:
            (step,) = parse_steps(against).items
        except (InputError, ValueError):
            step = "all"
        if step == "all":
            raise ValueError(f"{against!r:.80} is neither first nor last nor one step like 10ep")
        return against


def _checked(parse: Callable[[_T], object], value: _T) -> _T:
    """The value as it is, once it parses; pydantic takes a ValueError for a wrong value."""
    try:
        parse(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


def compared_snapshots(
    index: pd.DataFrame, spec: DistanceSpec
) -> tuple[pd.DataFrame, list[Snapshot], tuple[str, ...]]:
    """The snapshots that a spec stands for.

    Args:
        index: one row per snapshot and layer, as `MaskStore.index` gives it.

    Returns:
        labels: one row a snapshot, group by group, as `DistanceStore.write_labels` takes them.
        snapshots: the same, in the same order.
        left_out: trials without a snapshot at the step to be compared against.

    Raises:
        InputError: nothing is selected, or networks with residual sums for a method that would
            match their neurons layer by layer.
    """
    chosen = select_snapshots(
        index, steps=spec.steps, where=spec.where, include_dense=spec.include_dense
    )
    left_out: tuple[str, ...] = ()
    if spec.against is None:
        labels = chosen.sort_values("group", kind="stable", ignore_index=True)
    else:
        labels, left_out = _with_references(index, chosen, spec.against)
    snapshots = _snapshots(index, labels)
    for snapshot in snapshots:
        if any(layer.role == "residual" for layer in snapshot.layers):
            check_residual(spec, f"trial {snapshot.trial_id}")
    return labels, snapshots, left_out


def check_residual(spec: DistanceSpec, network: str) -> None:
    """Refuse a method that matches neurons for a network whose layers are joined by residual sums.

    Layers that are summed name their neurons alike: matching one layer's would have to match all
    the others' with them, which no method here does.

    Raises:
        InputError: the method is another one than `in_place`.
    """
    if spec.method != "in_place":
        raise InputError(
            f"method: {spec.method} cannot compare {network}: the neurons of a residual network "
            "cannot be matched layer by layer; give method in_place, which leaves them in their "
            "places, or leave such networks out with where"
        )


def index_for(masks: MaskStore, spec: DistanceSpec) -> pd.DataFrame:
    """The masks' index, in which snapshots may be missing that are damaged and not asked for.

    Whether one is asked for is told by its trial's other snapshots, as its file tells nothing.

    Raises:
        CorruptFile: a damaged file holds, or may hold, a snapshot that the spec stands for.
    """
    damaged: list[Damage] = []
    index = masks.index(damaged=damaged)
    for damage in damaged:
        theirs = index[index["trial_id"] == damage.trial_id]
        one = theirs[theirs["step"] == theirs["step"].max()]
        if one.empty:
            raise damage.problem
        per_epoch = one["steps_per_epoch"].iloc[0]
        epoch = one["epoch"] if pd.isna(per_epoch) else damage.step // int(per_epoch)
        whole = pd.concat([index, one.assign(step=damage.step, epoch=epoch)], ignore_index=True)
        asked = compared_snapshots(whole, spec)[0]
        if ((asked["trial_id"] == damage.trial_id) & (asked["step"] == damage.step)).any():
            raise damage.problem
    return index


def _with_references(
    index: pd.DataFrame, chosen: pd.DataFrame, against: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The chosen snapshots and those that they are compared with, trial by trial in step order."""
    trials = list(dict.fromkeys(chosen["trial_id"]))
    theirs = index[index["trial_id"].isin(trials)]
    references = select_snapshots(theirs, steps=against, include_dense=True)
    reference_step = dict(zip(references["trial_id"], references["step"], strict=True))
    left_out = tuple(trial for trial in trials if trial not in reference_step)
    # A trial's snapshots are all of one shape: its references are in its group.
    group = dict(zip(chosen["trial_id"], chosen["group"], strict=True))
    references = references.assign(group=references["trial_id"].map(group), compared=False)
    both = pd.concat([chosen.assign(compared=True), references], ignore_index=True)
    both = both.drop_duplicates(["trial_id", "step"], keep="first")
    both = both[both["trial_id"].isin(reference_step.keys())]
    both["rank"] = both["trial_id"].map({trial: k for k, trial in enumerate(trials)})
    both = both.sort_values(["group", "rank", "step"], kind="stable", ignore_index=True)
    keys = zip(both["trial_id"], both["step"], strict=True)
    position = {key: k for k, key in enumerate(keys)}
    reference = [position[trial, reference_step[trial]] for trial in both["trial_id"]]
    both["reference"] = pd.array(reference, dtype="Int32")
    both.loc[~both["compared"], "reference"] = pd.NA
    return both.drop(columns=["compared", "rank"]), left_out


def _snapshots(index: pd.DataFrame, labels: pd.DataFrame) -> list[Snapshot]:
    """The labels' snapshots with what the index says of their layers."""
    rows = index.merge(labels[["trial_id", "step"]]).sort_values("layer_index", kind="stable")
    columns = [field.name for field in fields(Layer) if field.name != "name"]
    layers: dict[tuple[str, int], list[Layer]] = {}
    for row in rows[["trial_id", "step", "layer", *columns]].to_dict("records"):
        key = row["trial_id"], row["step"]
        layer = Layer(name=row["layer"], **{column: row[column] for column in columns})
        layers.setdefault(key, []).append(layer)
    return [
        Snapshot(
            trial_id=row["trial_id"],
            step=row["step"],
            group=row["group"],
            layers=tuple(layers[row["trial_id"], row["step"]]),
            reference=None if pd.isna(row["reference"]) else int(row["reference"]),
        )
        for row in labels.reindex(columns=["trial_id", "step", "group", "reference"]).to_dict(
            "records"
        )
    ]
