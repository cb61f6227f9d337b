"""The time of a training step by connections alone beside that of dense matrices under masks.

    python tests/benchmarks/bench_sparse_linear.py [--batches 128] [--large]

Whole steps (batch, forwards, backwards, momentum SGD) of a 784-w-w-w-10 network, one torch thread.
The two take turns, some steps each, and of each the turn of the least processor time counts, so
that a busy machine is busy for both. `auto` is what compute.py chooses. --large: a
784-20000-20000-10 SET network at 0.05%, its seconds a step and the process's peak memory.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_training import random_images

from sweeps.training import Training

DENSITIES = [0.006, 0.02, 0.05, 0.1, 0.2]
WIDTHS = [256, 784, 2000]


def config(hidden: list[int], batch_size: int, method: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"name": "mnist", "validation": 0.0},
        "model": {"name": "mlp", "hidden": hidden},
        "method": method,
        "optimizer": {"name": "sgd", "lr": 0.001, "batch_size": batch_size},
        "epochs": 10,
    }


def in_turns(runs: list[Callable[[], int]], seconds: float) -> list[float]:
    """Microseconds of processor time a step; a run makes some steps and returns how many."""
    best = [float("inf")] * len(runs)
    for run in runs:
        run()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for k, run in enumerate(runs):
            started = time.process_time()
            steps = run()
            best[k] = min(best[k], (time.process_time() - started) / steps)
    return [1e6 * value for value in best]


def steps_of(training: Training) -> Callable[[], int]:
    batches = training.batches(0)[:2]

    def run() -> int:
        for batch in batches:
            training.train_step(batch)
        training.step = 0
        return len(batches)

    return run


def evaluation_of(training: Training) -> Callable[[], int]:
    def run() -> int:
        training.evaluate()
        return 1

    return run


def compare(folder: str, batch_size: int, widths: list[int], seconds: float) -> None:
    print(f"{'width':>5}{'batch':>7}{'density':>9}{'masked us':>11}{'sparse us':>11}{'times':>7}"
          f"{'evaluation':>12}  auto")  # fmt: skip
    for width in widths:
        for density in DENSITIES:
            settings = config([width] * 3, batch_size, {"name": "set", "density": density})
            both = [Training(settings, folder, compute="masked"),
                    Training(settings, folder, compute="sparse")]  # fmt: skip
            masked, sparse = in_turns([steps_of(training) for training in both], seconds)
            evaluations = in_turns([evaluation_of(training) for training in both], seconds / 3)
            print(f"{width:>5}{batch_size:>7}{density:>9.1%}{masked:>11.0f}{sparse:>11.0f}"
                  f"{masked / sparse:>7.2f}{evaluations[0] / evaluations[1]:>12.2f}"
                  f"  {Training(settings, folder).compute}", flush=True)  # fmt: skip


def large(folder: str) -> None:
    started = time.perf_counter()
    settings = config([20_000, 20_000], 128, {"name": "set", "density": 0.0005})
    training = Training(settings, folder)
    built = time.perf_counter() - started
    (step,) = in_turns([steps_of(training)], 10)
    started = time.perf_counter()
    training.run_epoch()
    training.run_epoch()
    epochs = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"784-20000-20000-10, SET 0.05%, {training.compute}: built in {built:.1f} s, "
          f"{step / 1e6:.3f} s a step, two epochs of {training.steps_per_epoch} steps with an "
          f"update {epochs:.1f} s, peak {peak:.2f} GB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--batches", type=int, nargs="*", default=[128])
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--large", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        random_images(Path(folder))
        if asked.large:
            large(folder)
            return
        for batch_size in asked.batches:
            compare(folder, batch_size, asked.widths, asked.seconds)


if __name__ == "__main__":
    main()
