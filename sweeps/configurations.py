"""What the configurations of a run are called, and in which order they come."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

SPELLED = {"set": "SET", "rigl": "RigL", "snfs": "SNFS", "itop": "ITOP", "gmp": "GMP",
           "snip": "SNIP", "random_pruned": "random pruned"}  # fmt: skip
NO_METHOD = "imported"  # masks that came without a configuration
FIRST_METHODS = ("dense", "static")

_NOT_CONFIGURATION = ("trial_id", "study", "state", "reason", "data_checksum")


def name_configurations(trials: pd.DataFrame) -> pd.DataFrame:
    """Name every trial's configuration: what differs between trials, the seeds aside.

    Args:
        trials: one row a trial: `trial_id` and the flat configuration (`Run.trials()`).

    Returns:
        Index trial_id, with `label` ("SET 5%", "SET 5% lr 0.1"; one a configuration), `method` as
        it is spelled, `density` (a fraction; NaN where none is set), and `seed` (text). Sorted:
        dense and static first, then by method, density, what else varies, and seed.
    """
    columns = configuration_columns(trials)
    seeds = [column for column in columns if _is_seed(column)]
    settings = [column for column in columns if not _is_seed(column)]
    methods = _column(trials, "method_name")
    named = pd.DataFrame(
        {
            "trial_id": trials["trial_id"].astype(str),
            "method": [spelled(method) for method in methods],
            "density": pd.to_numeric(_column(trials, "method_density"), errors="coerce"),
        },
        index=trials.index,
    )
    telling = _telling_columns(trials, named["method"], settings)
    rows: list[dict[Any, Any]] = trials.to_dict("records")
    keys = [tuple(sortable(row[column]) for column in settings) for row in rows]
    texts = []
    for method, density, row in zip(named["method"], named["density"], rows, strict=True):
        epsilon = row.get("method_epsilon")
        parts = [method, *([] if _missing(density) else [percent(density)]),
                 *([] if _missing(epsilon) else [f"epsilon {value_text(epsilon)}"])]  # fmt: skip
        told = [column for column in telling[method] if not _missing(row[column])]
        texts.append(" ".join([*parts, *(setting_text(column, row[column]) for column in told)]))
    named["label"] = _one_name_each(texts, keys)
    distinct = _distinct(trials, seeds)
    named["seed"] = [_seed_text([row[column] for column in distinct]) for row in rows]
    order = sorted(
        range(len(named)),
        key=lambda k: (
            _method_rank(str(named["method"].iloc[k])),
            sortable(named["density"].iloc[k]),
            keys[k],
            tuple(sortable(rows[k][column]) for column in seeds),
            named["trial_id"].iloc[k],
        ),
    )
    return named.iloc[order].set_index("trial_id")[["label", "method", "density", "seed"]]


def configurations(named: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration, in order: `label`, `method`, `density`."""
    return named.drop_duplicates("label")[["label", "method", "density"]].reset_index(drop=True)


def configuration_columns(trials: pd.DataFrame) -> list[str]:
    """The configuration columns in which trials differ, data and model before method and seeds."""
    columns = [
        column
        for column in trials.columns
        if column not in _NOT_CONFIGURATION
        and not column.startswith("final_")
        and column not in ("updated_at", "attempts", "steps_per_epoch", "total_steps")
        and _varies(trials[column])
    ]
    return sorted(columns, key=lambda column: (_is_seed(column), columns.index(column)))


def telling_columns(trials: pd.DataFrame) -> list[str]:
    """The configuration columns in which trials of one method differ, density and seeds aside."""
    settings = [column for column in configuration_columns(trials) if not _is_seed(column)]
    methods = _column(trials, "method_name").map(spelled)
    told = _telling_columns(trials, methods, settings)
    return [column for column in settings if any(column in columns for columns in told.values())]


def spelled(method: Any) -> str:
    """A method's name as its authors write it."""
    if _missing(method):
        return NO_METHOD
    own = str(method).rpartition(":")[2]  # a user's own is named package.module:Class
    return SPELLED.get(own, own)


def percent(fraction: float) -> str:
    """`0.006` as `0.6%`, three digits at most."""
    return f"{100 * fraction:.3g}%"


def setting_text(column: str, value: Any) -> str:
    """`optimizer_lr`, 0.05 as `lr 0.05`; a name stands for itself."""
    if column.endswith("_name"):
        return str(value)
    short = column.split("_", 1)[-1].replace("_", " ") if "_" in column else column
    return f"{short} {value_text(value)}"


def value_text(value: Any) -> str:
    """A setting's value in short: `64-64` for the list [64, 64], `64 x 3` for [64, 64, 64], four
    digits of a number."""
    if _missing(value):
        return ""
    if isinstance(value, str) and value.startswith("["):
        try:
            items = [value_text(item) for item in json.loads(value)]
            alike = len(items) > 2 and len(set(items)) == 1
            return f"{items[0]} x {len(items)}" if alike else "-".join(items)
        except ValueError:
            return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def stratified_sample(strata: Sequence[Any], size: int) -> list[int]:
    """Positions of at most `size` items, every stratum with its share and at least one.

    Within a stratum the items are evenly spaced, first and last among them; where there are more
    strata than places, evenly spaced strata give one each. Nothing is drawn at random.
    """
    if len(strata) <= size:
        return list(range(len(strata)))
    members: dict[Any, list[int]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(position)
    groups = list(members.values())
    if len(groups) >= size:
        return sorted(groups[k][0] for k in evenly(len(groups), size))
    # One each, and the rest by size; what rounding down leaves over stays unused.
    spare, rest = size - len(groups), len(strata) - len(groups)
    taken = [1 + (len(group) - 1) * spare // rest for group in groups]
    return sorted(
        group[k]
        for group, count in zip(groups, taken, strict=True)
        for k in evenly(len(group), count)
    )


def evenly(n: int, most: int) -> list[int]:
    """At most `most` of the positions 0 to n - 1, evenly spaced, first and last among them."""
    if n <= most:
        return list(range(n))
    return [0] if most == 1 else [k * (n - 1) // (most - 1) for k in range(most)]


def _telling_columns(
    trials: pd.DataFrame, methods: pd.Series, settings: Sequence[str]
) -> dict[str, list[str]]:
    """For each method what varies among its own trials: not what the method alone decides."""
    found = {}
    for method, rows in methods.groupby(methods):
        own = trials.loc[rows.index]
        told = {"method_name", "method_density", "method_epsilon"}
        distribution = _column(own, "method_distribution")
        # An epsilon says that this is the distribution.
        if not _varies(distribution[distribution != "epsilon"]):
            told.add("method_distribution")
        found[str(method)] = [c for c in settings if c not in told and _varies(own[c])]
    return found


def _one_name_each(texts: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """The same text for the same configuration only: later ones of another get a number."""
    numbers: dict[tuple[str, tuple[Any, ...]], int] = {}
    seen: Counter[str] = Counter()
    for text, key in sorted(set(zip(texts, keys, strict=True))):
        seen[text] += 1
        numbers[text, key] = seen[text]
    return [
        text if numbers[text, key] == 1 else f"{text} ({numbers[text, key]})"
        for text, key in zip(texts, keys, strict=True)
    ]


def _distinct(trials: pd.DataFrame, seeds: Sequence[str]) -> list[str]:
    """Seed columns without those that say the same as one before."""
    kept: list[str] = []
    for column in seeds:
        if not any(trials[column].equals(trials[other]) for other in kept):
            kept.append(column)
    return kept


def _seed_text(values: Sequence[Any]) -> str:
    return "/".join(value_text(int(v)) if _whole(v) else value_text(v) for v in values)


def _whole(value: Any) -> bool:
    return not _missing(value) and isinstance(value, float) and value.is_integer()


def _method_rank(method: str) -> tuple[int, str]:
    rank = FIRST_METHODS.index(method) if method in FIRST_METHODS else len(FIRST_METHODS)
    return rank, method.lower()


def sortable(value: Any) -> tuple[int, float, str]:
    """Numbers before texts before what is missing."""
    if _missing(value):
        return 2, 0.0, ""
    return (0, float(value), "") if hasattr(value, "__float__") else (1, 0.0, str(value))


def _varies(values: pd.Series) -> bool:
    return len({sortable(value) for value in values}) > 1


def _is_seed(column: str) -> bool:
    return column == "seed" or column.startswith("seeds_")


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    return frame[name] if name in frame else pd.Series([None] * len(frame), index=frame.index)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)
