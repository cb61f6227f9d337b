"""Common connections of wide masks: torch on a GPU beside the CPU's own kernel, and what follows.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_overlap_torch.py [--device cuda] [--widths 784]

Seconds a pair, all pairs of a few random masks, copies to the device and back among them. On a GPU
wall time; without one the torch path runs on the CPU, and only at small widths unless they are
asked for: that says nothing of a GPU. `matching` is the rest of a layer on one core, of related
masks (nine connections of ten in common): what a GPU cannot shorten, but counts meanwhile.
"""

import argparse
import itertools
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from topology.gains import gains_of_counts
from topology.matching import Neurons, match_neurons
from topology.overlap import overlap_counts
from topology.overlap_torch import Counter, Pair
from topology.prepared import Layer, prepare

DENSITIES = (0.05, 0.2, 0.5)
WIDTHS = {"cuda": (784, 2000, 4000, 8000), "cpu": (784, 2000)}


def related(n: int, density: float, count: int) -> list[Layer]:
    """Masks that have about nine connections of ten in common."""
    rng = np.random.default_rng(0)
    shared = rng.random((n, n)) < density
    layers = []
    for _ in range(count):
        own = np.where(rng.random((n, n)) < 0.1, rng.random((n, n)) < density, shared)
        layers += prepare([own[rng.permutation(n)]]).layers
    return layers


def seconds(work: Callable[[], object], clock: Callable[[], float], tries: int) -> float:
    """The shortest of a few tries."""
    taken = []
    for _ in range(tries):
        begin = clock()
        work()
        taken.append(clock() - begin)
    return min(taken)


def on_cpu(pairs: list[Pair]) -> list[NDArray[np.int32]]:
    return [overlap_counts(pair.a.rows, pair.b.bits, pair.places) for pair in pairs]


def match(pair: Pair, counts: NDArray[np.int32]) -> None:
    gains = gains_of_counts(counts, pair.a.degrees, pair.b.degrees)
    colours = [np.arange(len(layer.degrees), dtype=np.uint64) for layer in (pair.a, pair.b)]
    match_neurons(gains, Neurons(pair.a.degrees, colours[0]), Neurons(pair.b.degrees, colours[1]))


def measured(n: int, density: float, device: str, masks: int, tries: int) -> list[str]:
    """A row of the table."""
    rng = np.random.default_rng(1)
    layers = related(n, density, masks)
    pairs = [Pair(a, b, rng.permutation(n)) for a, b in itertools.combinations(layers, 2)]
    in_place = Pair(layers[0], layers[1], np.arange(n))
    counter = Counter(device)
    (first,) = counter.counts(pairs[:1])  # also starts the device and its libraries
    expected = on_cpu(pairs[:1])[0]  # also packs and compiles
    if not np.array_equal(first, expected):
        raise SystemExit(f"n = {n}, density {density}: the device counts otherwise")
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    torch_path = seconds(lambda: deque(counter.counts(pairs), maxlen=0), clock, tries) / len(pairs)
    alone = seconds(lambda: on_cpu(pairs[:1]), time.process_time, tries)
    counts = on_cpu([in_place])[0]
    matching = seconds(lambda: match(in_place, counts), time.process_time, tries)
    cells = [f"{1000 * t:,.1f} ms" for t in (torch_path, alone)]
    return [f"{n:,}", f"{density:.0%}", *cells, f"{alone / torch_path:.2f}", f"{matching:,.2f} s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--widths", type=int, nargs="*")
    parser.add_argument("--masks", type=int, default=4, help="masks of which all pairs are counted")
    parser.add_argument("--tries", type=int, default=3)
    options = parser.parse_args()
    kind = options.device.partition(":")[0]
    name = torch.cuda.get_device_name(options.device) if kind == "cuda" else "the CPU"
    console = Console(width=100)
    if kind == "cpu":
        console.print("No GPU asked for or none here: torch runs on the CPU. A GPU is unmeasured.")
    threads = torch.get_num_threads()
    table = Table(title=f"torch on {name} ({threads} threads on the CPU), kernel on one core")
    for column in ("n", "density", "torch", "bit count", "bit count / torch", "matching"):
        table.add_column(column, justify="right")
    for n, density in itertools.product(options.widths or WIDTHS[kind], DENSITIES):
        table.add_row(*measured(n, density, options.device, options.masks, options.tries))
    console.print(table)


if __name__ == "__main__":
    main()
