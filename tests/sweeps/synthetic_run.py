"""A run written through storage, with plausible numbers and real masks, without any training."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.attempts import claim_attempt
from storage.masks import LayerMask
from storage.runs import Run, TrialRecord
from topology.pairwise import DistanceSpec, run_distances

STEPS_PER_EPOCH = 10
EPOCHS = 12
SIZES = (16, 24, 24, 10)

Mask = NDArray[np.bool_]


def new_run(out: Path, name: str = "synthetic", description: str = "") -> Run:
    study = f"name: {json.dumps(name)}\ndescription: {json.dumps(description)}\n"
    return Run.create(out, name, study, {"python": "3.11", "toposweep": "0.1"})


def configuration(method: str, density: float | None, seed: int, **more: Any) -> dict[str, Any]:
    """A resolved configuration; `more` are further keys of the method."""
    chosen: dict[str, Any] = {"name": method, **more}
    if density is not None:
        chosen |= {"density": density, "distribution": "erdos_renyi"}
    if method == "set":
        chosen |= {"drop_fraction": 0.3}
    return {
        "data": {"name": "digits", "checksum": "0" * 64},
        "model": {"name": "mlp", "hidden": list(SIZES[1:-1])},
        "method": chosen,
        "optimizer": {"name": "sgd", "lr": 0.02},
        "epochs": EPOCHS,
        "seeds": {"topology": seed, "weights": seed, "data": seed},
    }


def add_trial(
    run: Run,
    config: Mapping[str, Any],
    state: Any = "completed",
    reason: str | None = None,
    metrics: bool = True,
    snapshot_every: int = 4,
    sizes: Sequence[int] = SIZES,
    until: int = EPOCHS,
) -> str:
    """One trial: its record, a snapshot every few epochs, metrics of every epoch."""
    text = json.dumps(config, sort_keys=True)
    trial_id = hashlib.sha256(text.encode()).hexdigest()[:12]
    claim_attempt(run.out, trial_id, -1)
    rng = np.random.default_rng(int(trial_id, 16))
    method, density = config["method"]["name"], config["method"].get("density", 1.0)
    # The start depends on the topology's seed and density alone, as in a real study.
    start = np.random.default_rng([config["seeds"]["topology"], round(1e6 * density)])
    masks = [_sparse(start, m, n, density) for n, m in itertools.pairwise(sizes[:-1])]
    rows = _metrics(rng, method, density, until)
    for epoch in range(until + 1):
        if epoch and method not in ("dense", "static"):
            masks = [_evolved(rng, mask) for mask in masks]
        if epoch % snapshot_every == 0:
            output = np.ones((sizes[-1], sizes[-2]), dtype=bool)
            layers = [LayerMask(f"hidden{k}", m, "hidden") for k, m in enumerate(masks, start=1)]
            layers.append(LayerMask("output", output, "output"))
            run.masks.append(trial_id, run.study, epoch * STEPS_PER_EPOCH, epoch, 1, layers)
    if metrics and rows:
        run.metrics.append(trial_id, run.study, 1, rows)
    final = (
        {name: rows[-1][name] for name in rows[-1] if name not in ("step", "epoch")} if rows else {}
    )
    run.write_record(
        TrialRecord(
            trial_id=trial_id, study=run.study, config=dict(config), state=state,
            steps_per_epoch=STEPS_PER_EPOCH, total_steps=EPOCHS * STEPS_PER_EPOCH, reason=reason,
            metrics=final if metrics and state != "pending" else {},
            updated_at="2025-01-02T03:04:05+00:00",
        )
    )  # fmt: skip
    return trial_id


def typical_run(out: Path, seeds: int = 3, description: str = "") -> Run:
    """Dense, static and SET at two densities, as the quickstart has it, with its distances."""
    run = new_run(out, "typical", description)
    for seed in range(seeds):
        add_trial(run, configuration("dense", None, seed))
        for method in ("static", "set"):
            for density in (0.05, 0.2):
                add_trial(run, configuration(method, density, seed))
    return run


def add_distances(run: Run, name: str, **spec: Any) -> None:
    run_distances(run.out, name, DistanceSpec(**spec), in_process=True)


def _sparse(rng: np.random.Generator, n_out: int, n_in: int, density: float) -> Mask:
    mask = np.zeros(n_out * n_in, dtype=bool)
    mask[rng.permutation(mask.size)[: max(1, round(density * mask.size))]] = True
    return mask.reshape(n_out, n_in)


def _evolved(rng: np.random.Generator, mask: Mask) -> Mask:
    """30% of the connections moved elsewhere, as SET does each epoch, settling as time goes on."""
    flat = mask.ravel().copy()
    there, free = np.flatnonzero(flat), np.flatnonzero(~flat)
    moved = min(round(0.12 * len(there)), len(free))
    flat[rng.choice(there, moved, replace=False)] = False
    flat[rng.choice(free, moved, replace=False)] = True
    return flat.reshape(mask.shape)


def _metrics(
    rng: np.random.Generator, method: str, density: float, until: int
) -> list[dict[str, float]]:
    top = 0.965 - 0.05 * np.exp(-12 * density) - (0.012 if method == "static" else 0.0)
    rows = []
    flops = {"inference_flops": 2e4 * density, "dense_inference_flops": 2e4,
             "parameters": 1e4 * density + 58, "dense_parameters": 1e4 + 58}  # fmt: skip
    for epoch in range(1, until + 1):
        accuracy = top - 0.55 * np.exp(-epoch / 1.5) + rng.normal(0, 0.003)
        rows.append(
            {"step": epoch * STEPS_PER_EPOCH, "epoch": epoch, "test_accuracy": float(accuracy),
             "density": density, "exploration": min(1.0, density * (1 + 0.1 * epoch)), **flops,
             "training_flops": 6e6 * epoch * density, "dense_training_flops": 6e6 * epoch}
        )  # fmt: skip
    return rows
