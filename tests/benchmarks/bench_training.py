"""The time of a training step beside a plain torch loop without masks.

    python tests/benchmarks/bench_training.py

The plain loop is what anyone would write: nn.Sequential, torch.optim.SGD, batches by indices into
tensors in memory, loss.item() each step. Ours does the same work and masks, checks and
updates the topology. Each figure is the fastest of several epochs, one torch thread.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import struct
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sweeps.training import Training

METHODS: list[dict[str, Any]] = [
    {"name": "dense"},
    {"name": "static", "density": 0.05},
    {"name": "set", "density": 0.05},
]


def config(data: str, hidden: list[int], batch_size: int, method: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"name": data, "validation": 0.0},
        "model": {"name": "mlp", "hidden": hidden},
        "method": method,
        "optimizer": {"name": "sgd", "lr": 0.02, "batch_size": batch_size},
        "epochs": 1000,
    }


def plain_loop(training: Training, hidden: list[int], batch_size: int, epochs: int) -> float:
    """Microseconds a step of the plain loop on the same data, the fastest epoch."""
    x, y, *_ = training.dataset.tensors("cpu")
    x = x.flatten(1)
    widths = [x.shape[1], *hidden, 10]
    linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
    parts: list[nn.Module] = [linears[0]]
    for linear in linears[1:]:
        parts += [nn.ReLU(), linear]
    model = nn.Sequential(*parts)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=0.0005)
    best = float("inf")
    for _ in range(epochs):
        batches = torch.randperm(len(y)).split(batch_size)
        started = time.perf_counter()
        for batch in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            loss.item()
        best = min(best, (time.perf_counter() - started) / len(batches))
    return best * 1e6


def our_loop(training: Training, epochs: int) -> tuple[float, float]:
    """Microseconds a step, and milliseconds of an epoch's end (update, evaluation, metrics)."""
    best, ends = float("inf"), float("inf")
    for _ in range(epochs):
        times: list[float] = []
        started = time.perf_counter()
        training.run_epoch(lambda step, times=times: times.append(time.perf_counter()))
        finished = time.perf_counter()
        # From after the first step, which carries the topology update, to after the last one.
        steps = (times[-1] - times[0]) / (len(times) - 1)
        best = min(best, steps)
        ends = min(ends, finished - started - steps * len(times))
    return best * 1e6, ends * 1e3


def random_images(folder: Path, n: int = 2000) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", n), ("t10k", 200)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            high = 256 if len(shape) == 3 else 10
            header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
            values = rng.integers(0, high, shape, dtype=np.uint8)
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + values.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--epochs", type=int, default=15)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    print(f"{'network':<28}{'batch':>6}  {'method':<8}{'us/step':>9}{'plain':>9}"
          f"{'ratio':>7}{'epoch end ms':>14}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        random_images(Path(folder))
        for data, hidden, batch_size, some in (
            ("digits", [64, 64], 64, epochs),
            ("digits", [128, 128], 16, epochs),
            ("mnist", [784, 784, 784], 128, max(2, epochs // 5)),
        ):
            name = "-".join(map(str, [64 if data == "digits" else 784, *hidden, 10]))
            for method in METHODS:
                training = Training(config(data, hidden, batch_size, method), data_path=folder)
                # In turn, so that a busy machine is busy for both.
                ours, ends = our_loop(training, some)
                plain = plain_loop(training, hidden, batch_size, some)
                again, _ = our_loop(training, some)
                ours = min(ours, again)
                print(f"{name:<28}{batch_size:>6}  {method['name']:<8}{ours:>9.0f}{plain:>9.0f}"
                      f"{ours / plain:>7.2f}{ends:>14.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
