"""Distances of all pairs: our metric beside a plain one, the stage beside the metric alone.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_distances.py [--networks 15]

Uses the masks published with the paper where they are at hand (TOPOSWEEP_SHARED_DATA, or
../shared/data beside the repository), else random masks of the same sizes and density.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array, load_npz

from storage.masks import LayerMask, MaskStore
from topology import DistanceSpec, pairwise, prepare, run_distances
from topology.comparison import Method, Metric
from topology.nnstd import pair_distances
from topology.overlap import input_places, jaccard_costs

Masks = list[NDArray[np.bool_]]


def networks(count: int) -> tuple[str, list[Masks]]:
    """Where the networks come from, and their three hidden layers' masks."""
    data = os.environ.get("TOPOSWEEP_SHARED_DATA")
    root = Path(data) if data else Path(__file__).parents[3] / "shared" / "data"
    folders = sorted((root / "published-topologies").glob("*/epoch_*"))
    if not folders:
        rng = np.random.default_rng(0)
        return "random", [[rng.random((784, 784)) < 0.006 for _ in range(3)] for _ in range(count)]
    files = [[folder / f"weight_l{k}.npz" for k in range(3)] for folder in folders[:count]]
    read = [[csr_array(load_npz(file)).toarray()[:-1].T != 0 for file in layer] for layer in files]
    return "published", read


def plain_distances(a: Masks, b: Masks) -> list[float]:
    """The definition in a few lines of numpy and scipy: what one would write first."""
    distances, order = [], np.arange(a[0].shape[1])
    for x, y in zip(a, b, strict=True):
        x_float, y_float = x.astype(np.float32), y[:, order].astype(np.float32)
        common = (x_float @ y_float.T).astype(np.float64)
        union = x.sum(axis=1)[:, np.newaxis] + y.sum(axis=1) - common
        costs = np.divide(union - common, union, out=np.zeros_like(union), where=union > 0)
        rows, order = linear_sum_assignment(costs)
        distances.append(float(costs[rows, order].mean()))
    return distances


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time of this process: other work on the machine hardly changes it."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def wall_seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def assignment_alone(pairs: list[tuple[Masks, Masks]]) -> float:
    """What scipy's solver takes for the same cost matrices."""
    total = 0.0
    for a, b in pairs:
        matching = None
        for x, y in zip(prepare(a).layers, prepare(b).layers, strict=True):
            places = input_places(matching, x.in_group, x.shape[1], y.shape[1])
            costs = jaccard_costs(x, y, places)
            begin = time.process_time()
            _, matching = linear_sum_assignment(costs)
            total += time.process_time() - begin
    return total


def stored(out: Path, masks: list[Masks]) -> None:
    store = MaskStore(out)
    for number, layers in enumerate(masks):
        named = [LayerMask(f"layer{k}", mask, "hidden") for k, mask in enumerate(layers)]
        store.append(f"{number:012x}", "bench", 0, 0, 1, named)


def metric_table(source: str, masks: list[Masks]) -> Table:
    pairs = list(itertools.combinations(masks, 2))
    prepared = list(itertools.combinations([prepare(layers) for layers in masks], 2))

    def ours(method: Method) -> None:
        for a, b in prepared:
            pair_distances(a, b, Metric(method))

    plain = cpu_seconds(lambda: [plain_distances(a, b) for a, b in pairs])
    rows = {
        "numpy product + scipy assignment": plain,
        "layerwise": cpu_seconds(lambda: ours("layerwise")),
        "reference": cpu_seconds(lambda: ours("reference")),
        "scipy's assignments alone": assignment_alone(pairs),
    }
    table = Table(title=f"{len(pairs)} pairs of {len(masks)} {source} networks, one process")
    for column in ("what", "CPU ms a pair", "against plain"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, took in rows.items():
        table.add_row(name, f"{1000 * took / len(pairs):.1f}", f"{plain / took:.2f} x")
    return table


def stage_table(masks: list[Masks], cpus: int) -> Table:
    import ray

    prepared = [prepare(layers) for layers in masks]
    table = Table(title="the stage: index, plan, load, tiles, matrix")
    for column in ("what", "CPU s here", "wall s", "over the metric alone"):
        table.add_column(column, justify="left" if column == "what" else "right")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        stored(out, masks)
        spec = DistanceSpec()
        kernel = min(cpu_seconds(lambda: pairwise(prepared)) for _ in range(2))
        here = cpu_seconds(lambda: run_distances(out, "here", spec, in_process=True))
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        # Workers that have started and imported, as after a sweep.
        run_distances(out, "warm", DistanceSpec(method="reference"))
        alone = wall_seconds(lambda: pairwise(prepared)) / cpus
        on_ray = wall_seconds(lambda: run_distances(out, "ray", spec))
        again = wall_seconds(lambda: run_distances(out, "ray", spec))
        ray.shutdown()
    table.add_row("metric alone (pairwise)", f"{kernel:.2f}", "", "")
    table.add_row("stage in process", f"{here:.2f}", "", f"{100 * (here / kernel - 1):+.0f}%")
    table.add_row(f"metric alone / {cpus} CPUs", "", f"{alone:.2f}", "")
    over = f"{100 * (on_ray / alone - 1):+.0f}%"
    table.add_row(f"stage on Ray, {cpus} CPUs", "", f"{on_ray:.2f}", over)
    table.add_row("the same again, nothing to do", "", f"{again:.2f}", "")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=15)
    parser.add_argument("--cpus", type=int, default=2)
    arguments = parser.parse_args()
    source, masks = networks(arguments.networks)
    console = Console()
    console.print(metric_table(source, masks))
    console.print(stage_table(masks, arguments.cpus))


if __name__ == "__main__":
    main()
