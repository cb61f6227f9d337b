"""Which snapshots of a run are meant: by step, by a condition, and comparable with which."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from storage.durations import Duration, parse_duration
from storage.errors import InputError
from storage.schema import MASK_SCHEMA
from storage.where import Where, filter_rows, parse_where

__all__ = ["Steps", "Where", "parse_steps", "parse_where", "select_snapshots"]

_WORDS = ("first", "last", "all")
_SIGNATURE = ["n_out", "n_in", "in_group", "role"]  # what two layers must share to be compared


@dataclass(frozen=True)
class Steps:
    """Steps of a trial: first, last, all, or durations from its start; `str()` is their text."""

    items: tuple[str | Duration, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.items))


def parse_steps(text: str | Sequence[str]) -> Steps:
    """Read `last`, `first`, `all` or a list such as `0ep,10ep,500it,last`.

    Raises:
        InputError: a step is none of these.
    """
    if isinstance(text, str):
        text = text.split(",")
    if not isinstance(text, Sequence) or not text:
        raise InputError(f"steps {text!r:.80}: give first, last, all, or steps like 0ep,10ep,500it")
    items: list[str | Duration] = []
    for item in text:
        word = item.strip() if isinstance(item, str) else item
        try:
            items.append(word if word in _WORDS else parse_duration(word, minimum=0))
        except InputError:
            raise InputError(
                f"steps: {item!r:.80} is not first, last, all, nor a step like 10ep or 500it"
            ) from None
    return Steps(tuple(items))


def select_snapshots(
    index: pd.DataFrame,
    steps: str | Sequence[str] | Steps = "last",
    where: str | Callable[[Mapping[str, Any]], bool] | None = None,
    include_dense: bool = False,
) -> pd.DataFrame:
    """The snapshots that are meant.

    Args:
        index: one row per snapshot and layer, as `MaskStore.index` gives it.
        steps: of each trial, which of the snapshots that `where` leaves. `10ep` is the snapshot
            after 10 epochs' steps; trials without it have none.
        where: a condition on the index's columns; a snapshot is taken when it holds for one of its
            layers. Trials that failed stay out unless it asks about `state`.
        include_dense: also trials whose layers are full in all their snapshots.

    Returns:
        One row per snapshot, by configuration, trial and step: trial_id, step, epoch, group and the
        trial's columns. Snapshots are comparable, and of one group, when their layers have the same
        shapes, roles and in_group in the same order; groups are numbered as they appear.

    Raises:
        InputError: nothing is left; the message says what was there and what left nothing.
    """
    wanted = steps if isinstance(steps, Steps) else parse_steps(steps)
    snapshots = _one_row_each(index)
    if snapshots.empty:
        raise InputError("no snapshot is selected: the run holds none")
    left = f"no snapshot is selected: of {_counted(snapshots)}"

    condition = parse_where(where) if isinstance(where, str) else where
    asks_state = isinstance(condition, Where) and "state" in condition.names
    if "state" in snapshots and not asks_state:
        snapshots = snapshots[snapshots["state"] != "failed"]
        if snapshots.empty:
            raise InputError(f"{left}: their trials failed; ask for them by state")
    if condition is not None:
        kept = filter_rows(index, condition)[["trial_id", "step"]].drop_duplicates()
        snapshots = snapshots.merge(kept, on=["trial_id", "step"])
        text = condition.text if isinstance(condition, Where) else condition
        left += f", where {text!r} leaves {len(snapshots)}"
        if snapshots.empty:
            raise InputError(left)

    if not include_dense:
        is_dense = snapshots["trial_id"].isin(_dense_trials(index))
        if is_dense.all():
            raise InputError(
                f"{left}: their networks are dense everywhere, which stay out unless include_dense"
            )
        snapshots = snapshots[~is_dense]

    chosen = snapshots[_at_steps(snapshots, wanted)]
    if chosen.empty:
        there = ", ".join(map(str, sorted(snapshots["step"].unique())[:20]))
        raise InputError(f"{left}, steps {str(wanted)!r} leave 0: there are the steps {there}")
    return _in_order(chosen, index)


def _one_row_each(index: pd.DataFrame) -> pd.DataFrame:
    of_layers = set(MASK_SCHEMA.names) - {"trial_id", "step", "epoch"}
    columns = [column for column in index.columns if column not in of_layers]
    return index.drop_duplicates(["trial_id", "step"])[columns].reset_index(drop=True)


def _counted(snapshots: pd.DataFrame) -> str:
    trials = snapshots["trial_id"].nunique()
    return f"{len(snapshots)} snapshots of {trials} trials"


def _dense_trials(index: pd.DataFrame) -> set[str]:
    is_full = index["nnz"] == index["n_out"].astype("int64") * index["n_in"]
    everywhere = is_full.groupby(index["trial_id"]).all()
    return set(everywhere.index[everywhere])


def _at_steps(snapshots: pd.DataFrame, wanted: Steps) -> "pd.Series[bool]":
    step, by_trial = snapshots["step"], snapshots.groupby("trial_id")["step"]
    chosen = pd.Series(False, index=snapshots.index)
    for item in wanted.items:
        if item == "all":
            chosen |= True
        elif item == "first":
            chosen |= step == by_trial.transform("min")
        elif item == "last":
            chosen |= step == by_trial.transform("max")
        elif isinstance(item, Duration):
            chosen |= _at(snapshots, item)
    return chosen


def _at(snapshots: pd.DataFrame, duration: Duration) -> "pd.Series[bool]":
    if duration.unit == "it":
        return snapshots["step"] == duration.count
    if "steps_per_epoch" not in snapshots:
        return snapshots["epoch"] == duration.count
    steps_per_epoch = snapshots["steps_per_epoch"]
    by_step = snapshots["step"] == duration.count * steps_per_epoch
    # Masks that came from elsewhere have no record that says how long an epoch is.
    return by_step | (steps_per_epoch.isna() & (snapshots["epoch"] == duration.count))


def _in_order(chosen: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    keys = ["trial_id", "step"]
    # A state changes while the others stay: it must not change the order.
    config = [column for column in chosen.columns if column not in (*keys, "epoch", "state")]
    order = pd.DataFrame({column: _sortable(chosen[column]) for column in config})
    order[keys] = chosen[keys]
    chosen = chosen.loc[order.sort_values([*config, *keys], kind="stable").index]

    layers = index.merge(chosen[keys], on=keys).sort_values([*keys, "layer_index"])
    layers["signature"] = list(zip(*(layers[column] for column in _SIGNATURE), strict=True))
    signatures = layers.groupby(keys)["signature"].agg(tuple)
    group = pd.factorize(signatures.loc[pd.MultiIndex.from_frame(chosen[keys])])[0]
    chosen.insert(3, "group", group)
    return chosen[[*keys, "epoch", "group", *config]].reset_index(drop=True)


def _sortable(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Numbers as they are; a column with anything else in it as text."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    return values.map(lambda value: "" if pd.isna(value) else str(value))
