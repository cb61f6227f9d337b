"""What MLflow's runs hold, read off OUT: a trial's name, params and points; OUT's summary, files.

Pure functions of OUT's content, so that the same content gives the same values, to the last bit.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import numpy as np
import pandas as pd

from storage.attempts import Claim
from storage.distance_store import CHANCE, CHANCE_CLASSES, list_names
from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, names_in, open_input, walk_files
from storage.mlflow_client import Point, safe_key
from storage.parquet import open_parquet
from storage.records import TrialRecord, flatten_config
from storage.runs import Run

STATUS = {
    "pending": "SCHEDULED",
    "running": "RUNNING",
    "completed": "FINISHED",
    "stopped": "KILLED",  # by a scheduler
    "failed": "FAILED",
}
ENDED = {"completed", "stopped", "failed"}
NEVER_AGAIN = {"completed", "stopped"}  # no later attempt makes these trials' epochs again
_OF_DISTANCES = {"spec.json", "matrix.parquet", "labels.parquet", CHANCE, CHANCE_CLASSES}
_NOT_METRICS = {"study", "trial_id", "attempt", "epoch", "step", "written_at"}


def milliseconds(when: str) -> int:
    """A stored time (ISO 8601) in ms since 1970, MLflow's unit."""
    try:
        return int(datetime.fromisoformat(when).timestamp() * 1000)
    except ValueError:
        raise InputError(f"OUT holds {when!r} where a time should be") from None


def trial_name(record: TrialRecord) -> str:
    """A name to recognise a trial by: `set 0.05 seed 0 · 0123456789ab`."""
    flat = flatten_config(record.config)
    words = [flat.get("method_name"), flat.get("method_density"), flat.get("imported_name")]
    seeds = {key: flat[key] for key in sorted(flat) if key == "seed" or key.startswith("seeds_")}
    if len(set(seeds.values())) == 1:
        words += ["seed", next(iter(seeds.values()))]
    elif seeds:
        words += ["seeds", "/".join(str(seed) for seed in seeds.values())]
    return " ".join([*(str(word) for word in words if word is not None), "·", record.trial_id])


def trial_params(record: TrialRecord) -> dict[str, str]:
    """The flat resolved configuration as text: numbers as Python prints them."""
    return {safe_key(key): str(value) for key, value in flatten_config(record.config).items()}


def trial_start(record: TrialRecord, claims: Sequence[Claim]) -> int:
    """When the first attempt was claimed, in ms."""
    return milliseconds(min((claim.claimed_at for claim in claims), default=record.updated_at))


def record_digest(record: TrialRecord, parent_run_id: str) -> str:
    """Changes whenever a trial's run in MLflow has to be looked at again."""
    content = [record.state, record.reason, record.metrics, record.updated_at, parent_run_id]
    return _short(json.dumps(content, sort_keys=True).encode())


def rows_digest(rows: pd.DataFrame) -> str:
    """Tells apart the same epochs written by different attempts."""
    return _short(
        json.dumps([rows["epoch"].tolist(), rows["attempt"].tolist(), _timestamps(rows)]).encode()
    )


def epoch_points(rows: pd.DataFrame) -> Iterator[Point]:
    """Every finite metric of every row (one a trial and epoch), at step = epoch."""
    epochs, timestamps = rows["epoch"].tolist(), _timestamps(rows)
    for column in rows.columns:
        if column in _NOT_METRICS:
            continue
        key = safe_key(str(column))
        for value, timestamp, epoch in zip(rows[column].tolist(), timestamps, epochs, strict=True):
            if value is not None and math.isfinite(value):
                yield Point(key, value, timestamp, epoch)


def final_points(record: TrialRecord, rows: pd.DataFrame) -> Iterator[Point]:
    """Final metrics that are not the last row's anyway, so that they are MLflow's latest.

    Of two values at one step MLflow takes the later one, hence the millisecond.
    """
    last = list(epoch_points(rows.tail(1)))
    known = {point.key: point.value for point in last}
    if last:
        timestamp, epoch = last[0].timestamp + 1, last[0].step
    else:
        timestamp, epoch = milliseconds(record.updated_at), 0
    for name, value in record.metrics.items():
        key = safe_key(name)
        if name not in _NOT_METRICS and math.isfinite(value) and known.get(key) != value:
            yield Point(key, float(value), timestamp, epoch)


def summary(records: Mapping[str, TrialRecord]) -> dict[str, float]:
    """Metrics of the whole run: trials by state; best and mean final test accuracy by method."""
    trials = list(records.values())
    values: dict[str, float] = {"trials": len(trials)}
    for state in STATUS:
        values[f"trials_{state}"] = sum(record.state == state for record in trials)
    by_method: dict[str, list[float]] = {}
    for record in trials:
        accuracy = record.metrics.get("test_accuracy")
        if record.state in NEVER_AGAIN and accuracy is not None and math.isfinite(accuracy):
            method = flatten_config(record.config).get("method_name", "unknown")
            by_method.setdefault(str(method), []).append(accuracy)
    for method, accuracies in sorted(by_method.items()):
        values[safe_key(f"test_accuracy_best_{method}")] = max(accuracies)
        values[safe_key(f"test_accuracy_mean_{method}")] = float(np.mean(accuracies))
    return values


def run_status(records: Mapping[str, TrialRecord]) -> tuple[str, int | None]:
    """The parent's status and end in ms: over when no trial is left, failed when all failed."""
    states = {record.state for record in records.values()}
    if not states or states - ENDED:
        return "RUNNING", None
    end = max(milliseconds(record.updated_at) for record in records.values())
    return "FAILED" if states == {"failed"} else "FINISHED", end


def run_files(run: Run) -> list[str]:
    """What the parent carries as artifacts, relative to OUT: study, matrices, report."""
    files = ["study.yaml", "run.json"]
    for name in list_names(run.out):
        with suppress(CorruptFile):  # a file among the folders
            inside = names_in(run.out / "distances" / name)
            files += [f"distances/{name}/{file}" for file in inside if file in _OF_DISTANCES]
    begin = len(str(run.out)) + 1
    files += [str(path)[begin:] for path, _ in walk_files(run.report_folder)]
    return [file for file in files if not file.rpartition("/")[2].startswith(".")]


def file_digest(path: AnyPath) -> str:
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def mean_distance(matrix: AnyPath) -> float:
    """Mean of the `network` column of a matrix.parquet, however many pairs it holds; NaN for 0."""
    total, pairs = 0.0, 0
    with open_parquet(matrix) as file:
        for batch in file.iter_batches(columns=["network"]):
            values = batch.column(0).to_numpy(zero_copy_only=False)
            total += float(np.nansum(values))
            pairs += int(np.count_nonzero(~np.isnan(values)))
    return total / pairs if pairs else math.nan


def _timestamps(rows: pd.DataFrame) -> list[int]:
    return [int(ms) for ms in rows["written_at"].dt.as_unit("ms").astype("int64")]


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
