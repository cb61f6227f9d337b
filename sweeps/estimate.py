"""What a study will cost, before it costs it: `toposweep run STUDY --dry-run`."""

import math
import os
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from storage.durations import parse_duration
from storage.records import ENDED
from storage.runs import Run, flatten_config
from sweeps.checks import CheckedJob
from sweeps.own_code import own_code_lines
from sweeps.plan import PlannedTrial
from sweeps.readable import readable_bytes, readable_seconds
from sweeps.study import Study
from sweeps.training import Estimate, estimate
from sweeps.training.config import parse_config
from sweeps.training.data import load_dataset

SHOWN_TRIALS = 60
# Timing a trial's steps takes under a second. What cannot be told so is left unknown: kinds of
# trials beyond this many, and trials of more parameters or multiplications than these.
TIMED_KINDS = 12
TIMED_PARAMETERS = 30_000_000
TIMED_MULTIPLICATIONS = 2e11
PROCESS_BYTES = 400_000_000  # a Ray worker that has loaded torch, before any model
COLUMN_BYTES = 400  # of one mask's row beside the mask


@dataclass(frozen=True)
class TrialCost:
    """What one trial takes: seconds on one core (nan: too large to be tried here), bytes of memory,
    bytes of masks on disk."""

    seconds: float
    memory: float
    disk: float
    connections: int
    snapshots: int


def trial_costs(study: Study, trials: list[PlannedTrial]) -> dict[str, TrialCost]:
    """The cost of each trial by trial_id; real steps are timed, once for all trials whose steps
    cost the same."""
    measured: dict[str, TrialCost] = {}
    seconds: dict[str, float] = {}  # an epoch's
    costs: dict[str, TrialCost] = {}
    for trial in trials:
        kind = repr({k: v for k, v in trial.config.items() if k != "seeds"})
        if kind not in measured:
            timed = _timed_kind(study, trial)
            if timed not in seconds:
                tried = len(seconds) < TIMED_KINDS
                seconds[timed] = _seconds_per_epoch(study, trial) if tried else math.nan
            measured[kind] = _cost(study, trial, seconds[timed])
        costs[trial.trial_id] = measured[kind]
    return costs


def _timed_kind(study: Study, trial: PlannedTrial) -> str:
    """What a step's time depends on: masks are multiplied with whatever their density, but not
    where only the connections are there."""
    config = trial.config
    if _estimate(study, trial).compute == "sparse":
        return repr({key: value for key, value in config.items() if key != "seeds"})
    optimizer, method = config["optimizer"], config["method"]
    momentum = bool(optimizer.get("momentum"))
    step = optimizer["name"], momentum, optimizer["batch_size"], optimizer["mixed_precision"]
    return repr((config["data"], config["model"], step, method["name"], method.get("mask_output")))


def _seconds_per_epoch(study: Study, trial: PlannedTrial) -> float:
    cost = _estimate(study, trial)
    learned, multiplications = cost.parameters, cost.multiplications
    if cost.compute == "sparse":
        learned = multiplications = sum(cost.connections.values())
    dataset = load_dataset(parse_config(trial.config).data, trial.data_path)
    # Two steps, forwards and backwards, and an evaluation.
    samples = 6 * trial.config["optimizer"]["batch_size"] + len(dataset.y_test)
    samples += int(trial.config["data"]["validation"] * len(dataset.y_train))
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    if (
        learned > TIMED_PARAMETERS
        or multiplications * samples > TIMED_MULTIPLICATIONS
        or 2 * cost.memory_bytes > free  # building doubles it for a moment
    ):
        return math.nan
    return _estimate(study, trial, measure_for=0.3).seconds_per_epoch or math.nan


def _estimate(study: Study, trial: PlannedTrial, measure_for: float = 0) -> Estimate:
    resources = study.resources
    # Steps are timed on the CPU, but a GPU's trials are computed with masks there, too.
    compute = "masked" if resources.device == "cuda" else resources.compute
    return estimate(
        trial.config,
        trial.data_path,
        threads=resources.threads,
        measure_for=measure_for,
        compute=compute,
    )


def _cost(study: Study, trial: PlannedTrial, seconds_per_epoch: float) -> TrialCost:
    cost = _estimate(study, trial)
    every = parse_duration(study.snapshot_every).steps(trial.steps_per_epoch)
    snapshots = 1 + math.ceil(trial.total_steps / every)
    parsed = parse_config(trial.config)
    layers = parsed.layers(load_dataset(parsed.data, trial.data_path))
    per_snapshot = sum(
        COLUMN_BYTES + mask_bytes(cost.connections[layer.name], math.prod(layer.shape))
        for layer in layers
    )
    return TrialCost(
        seconds=seconds_per_epoch * trial.config["epochs"],
        memory=PROCESS_BYTES + cost.memory_bytes,
        disk=per_snapshot * snapshots,
        connections=sum(cost.connections.values()),
        snapshots=snapshots,
    )


def mask_bytes(count: int, size: int) -> float:
    """About what a mask takes in Parquet: the entropy of a uniform mask; a full one takes none."""
    p = count / size
    if p in (0.0, 1.0):
        return 0.0
    return -size * (p * math.log2(p) + (1 - p) * math.log2(1 - p)) / 8


def print_plan(study: Study, job: CheckedJob, console: Console) -> None:
    """The trials of a study and what they will take; nothing is started."""
    for line in own_code_lines(study):
        console.print(line)
    trials = job.trials
    if not trials:
        console.print(
            f"{study.name}: {study.search.num_samples} trials, suggested by "
            f"{study.search.algorithm} as results come in"
        )
        return
    records = Run.open(job.folder).records() if (job.folder / "run.json").exists() else {}
    ended = {trial_id for trial_id, record in records.items() if record.state in ENDED}
    left = [trial for trial in trials if trial.trial_id not in ended]
    costs = trial_costs(study, trials)
    console.print(_table(study, trials, costs))
    if len(trials) > SHOWN_TRIALS:
        console.print(f"... and {len(trials) - SHOWN_TRIALS} more")
    at_once = max(1, int((os.cpu_count() or 1) // study.resources.cpu))
    new = [costs[trial.trial_id] for trial in left]
    seconds = sum(cost.seconds for cost in new)
    longest = max((cost.seconds for cost in new), default=0.0)
    snapshots = sum(cost.snapshots for cost in new)
    there = f", {len(ended)} of them done in {job.folder}" if ended else ""
    lines = [
        ("trials", f"{len(trials)}{there}; {at_once} at a time on this machine"),
        ("training", f"about {readable_seconds(max(seconds / at_once, longest))} here "
                     f"({readable_seconds(seconds)} on one core), and 15 to 30 s around it"),
        ("memory", f"about {readable_bytes(max(c.memory for c in costs.values()))} a trial"),
        ("masks", f"{snapshots} snapshots, about "
                  f"{readable_bytes(sum(c.disk for c in new))}"),
        ("distances", ", ".join(study.distances) or "none"),
    ]  # fmt: skip
    for name, text in lines:
        console.print(f"{name:10s} {text}")


def _table(study: Study, trials: list[PlannedTrial], costs: dict[str, TrialCost]) -> Table:
    """One row a trial: its id, what tells it from the others, its cost."""
    flat = [flatten_config(trial.described()) for trial in trials]
    keys = list(dict.fromkeys(key for config in flat for key in config))
    varied = [key for key in keys if len({str(c[key]) for c in flat if key in c}) > 1]
    table = Table(
        title=f"{study.name}: {len(trials)} trials", title_justify="left", box=SIMPLE_HEAD
    )
    for column in ("trial_id", *varied, "connections", "snapshots", "time"):
        table.add_column(column, no_wrap=True)
    for trial, config in zip(trials[:SHOWN_TRIALS], flat, strict=False):
        cost = costs[trial.trial_id]
        table.add_row(
            trial.trial_id,
            *(_short(config.get(key, "")) for key in varied),
            f"{cost.connections:,}",
            str(cost.snapshots),
            readable_seconds(cost.seconds),
        )
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
