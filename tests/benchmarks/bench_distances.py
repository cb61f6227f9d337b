"""NNSTD: whole pairs, single layers and all pairs, each beside what one would use otherwise.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_distances.py [--networks 90] [--cpus 2]

Times are processor time on one core unless said otherwise. The masks are those of `networks.py`.
"""

import argparse
import ctypes
import itertools
import tempfile
from pathlib import Path

import numpy as np
from networks import Masks, cpu_seconds, evolved, published, random_mask, wall_seconds
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from storage.masks import LayerMask, MaskStore
from topology import DistanceSpec, pairwise, prepare, run_distances
from topology.assignment import assign
from topology.comparison import Method, Metric
from topology.gains import gains_of_counts, gains_of_edges
from topology.layerwise import places_after
from topology.nnstd import distances_of_pairs
from topology.overlap import is_dense, overlap_counts, overlap_edges
from topology.prepared import Layer
from topology.reference import jaccard_costs

PAIRS_OF_15 = 15  # networks of which all 105 pairs are compared by every method


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


def scipy_alone(pairs: list[tuple[Masks, Masks]]) -> float:
    """What scipy's solver takes for the published method's cost matrices."""
    total = 0.0
    for a, b in pairs:
        matchings: list[NDArray[np.int64]] = []
        for x, y in zip(prepare(a).layers, prepare(b).layers, strict=True):
            costs = jaccard_costs(x, y, places_after(matchings, x, y))
            total += cpu_seconds(lambda: linear_sum_assignment(costs))  # noqa: B023
            matchings.append(linear_sum_assignment(costs)[1])
    return total


def methods_table(source: str, networks: list[Masks]) -> Table:
    """All pairs of some networks by each method."""
    pairs = list(itertools.combinations(networks, 2))
    prepared = list(itertools.combinations([prepare(layers) for layers in networks], 2))

    def ours(method: Method) -> float:
        def every() -> None:
            list(distances_of_pairs(prepared, Metric(method)))

        list(distances_of_pairs(prepared[:1], Metric(method)))  # compiled before the clock starts
        return cpu_seconds(every)

    plain = cpu_seconds(lambda: [plain_distances(a, b) for a, b in pairs])
    rows = {
        "numpy product + scipy assignment": plain,
        "layerwise": ours("layerwise"),
        "scipy's assignments alone": scipy_alone([(b, a) for a, b in pairs]),
        "reference": ours("reference"),
        "joint": ours("joint"),
    }
    table = Table(title=f"{len(pairs)} pairs of {len(networks)} {source} networks, three layers")
    for column in ("what", "ms a pair", "pairs/s", "faster than plain"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, took in rows.items():
        each = 1000 * took / len(pairs)
        table.add_row(name, f"{each:.1f}", f"{1000 / each:.0f}", f"{plain / took:.1f} x")
    ratio = rows["reference"] / rows["scipy's assignments alone"]
    topologies = [prepare(layers) for layers in networks]
    pairwise(topologies)  # in canonical order
    threads = min(wall_seconds(lambda: pairwise(topologies, n_jobs=2)) for _ in range(3))
    table.caption = (
        f"reference / scipy's assignments alone: {ratio:.2f}; "
        f"layerwise on two threads: {len(pairs) / threads:.0f} pairs/s"
    )
    return table


def layers_table(networks: list[Masks]) -> Table:
    """Single layers: costs, assignment, and scipy's assignment of the same costs."""
    rng = np.random.default_rng(0)
    cases = {
        "same start, same epoch": (networks[0][0], networks[4][0]),
        "after training": (networks[-1][0], networks[-4][0]),
        "0.6%, half shared": (half := random_mask(rng, 0.006), evolved(rng, half, 0.5)),
    }
    for density in (0.006, 0.05, 0.1, 0.2, 0.5):
        cases[f"random {density:.1%}"] = random_mask(rng, density), random_mask(rng, density)
    cases["random 1.0%, n = 4,000"] = tuple(random_mask(rng, 0.01, 4000) for _ in range(2))  # type: ignore[assignment]
    table = Table(title="one layer, milliseconds")
    for column in ("masks", "costs", "assignment", "scipy's", "assignment /", "both /"):
        table.add_column(column, justify="left" if column == "masks" else "right")
    for name, (a, b) in cases.items():
        x, y = (prepare([mask]).layers[0] for mask in (a, b))
        costs, solved, scipys = layer_seconds(x, y)
        table.add_row(
            name,
            *(f"{1000 * seconds:.2f}" for seconds in (costs, solved, scipys)),
            f"{solved / scipys:.3f}",
            f"{(costs + solved) / scipys:.3f}",
        )
    table.caption = "assignment: from common connections to the matching; / scipy's: of full costs"
    return table


def layer_seconds(a: Layer, b: Layer) -> tuple[float, float, float]:
    """Common connections; gains and their assignment; scipy's assignment of the full costs."""
    places = np.arange(a.shape[1])
    repeats = 5 if a.shape[0] < 2000 else 1
    degrees = a.degrees, b.degrees
    if is_dense(a, b):
        counts = overlap_counts(a.rows, b.bits, places)
        counting = cpu_seconds(lambda: overlap_counts(a.rows, b.bits, places), repeats)
        solve = lambda: assign(gains_of_counts(counts, *degrees), b.shape[0])  # noqa: E731
    else:
        edges = overlap_edges(a.rows, b.columns, places, b.shape[0])
        counting = cpu_seconds(
            lambda: overlap_edges(a.rows, b.columns, places, b.shape[0]), repeats
        )
        solve = lambda: assign(gains_of_edges(edges, *degrees), b.shape[0])  # noqa: E731
    solve()
    costs = jaccard_costs(a, b, places)
    return (
        counting,
        cpu_seconds(solve, repeats),
        cpu_seconds(lambda: linear_sum_assignment(costs), repeats),
    )


def pair_memory(networks: list[Masks]) -> str:
    """How much more memory a pair takes than its two networks, at its peak (Linux only)."""
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        return "memory of a pair: not measured here"
    pair = [(prepare(networks[-1]), prepare(networks[-4]))]
    list(distances_of_pairs(pair, Metric()))  # compiled, and in canonical order
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work has freed goes back to the system
    clear.write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    list(distances_of_pairs(pair, Metric()))
    return f"memory of a pair beside its networks: {resident('VmHWM') - before} kB at its peak"


def resident(what: str) -> int:
    """This process's memory in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1])


def stage_table(source: str, networks: list[Masks], cpus: int) -> Table:
    """The stage (index, plan, load, tiles, matrix) beside the bare metric."""
    import ray

    n_pairs = len(networks) * (len(networks) - 1) // 2
    table = Table(title=f"all {n_pairs} pairs of {len(networks)} {source} networks, layerwise")
    for column in ("what", "seconds", "pairs/s", "over the bare metric"):
        table.add_column(column, justify="left" if column == "what" else "right")

    def add(what: str, seconds: float, bare: float | None = None) -> None:
        over = f"{100 * (seconds / bare - 1):+.1f}%" if bare else ""
        table.add_row(what, f"{seconds:.2f}", f"{n_pairs / seconds:.0f}", over)

    with tempfile.TemporaryDirectory() as folder:
        out, spec = Path(folder), DistanceSpec()
        store = MaskStore(out)
        for number, layers in enumerate(networks):
            named = [LayerMask(f"layer{k}", mask, "hidden") for k, mask in enumerate(layers)]
            store.append(f"{number:012x}", "bench", 0, 0, 1, named)
        store.compact()  # as at the end of a sweep

        def fresh() -> list[object]:
            return [prepare(layers) for layers in networks]

        bare, here = [], []
        for number in range(2):  # in turn, for a busy machine's speed changes
            bare.append(cpu_seconds(lambda: pairwise(fresh())))  # type: ignore[arg-type]
            here.append(
                cpu_seconds(
                    lambda: run_distances(out, f"here-{number}", spec, in_process=True)  # noqa: B023
                )
            )
        add("bare metric, one core (processor time)", min(bare))
        add("stage in process (processor time)", min(here), min(bare))
        threads = wall_seconds(lambda: pairwise(fresh(), n_jobs=cpus))  # type: ignore[arg-type]
        add(f"pairwise(n_jobs={cpus}) (wall time)", threads)
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        # Workers that have started and imported, as after a sweep.
        run_distances(out, "warm", DistanceSpec(where="step == 0", method="reference"))
        on_ray = wall_seconds(lambda: run_distances(out, "ray", spec))
        add(f"stage on Ray, {cpus} CPUs (wall time)", on_ray)
        add("the same again, nothing to do", wall_seconds(lambda: run_distances(out, "ray", spec)))
        ray.shutdown()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=90)
    parser.add_argument("--cpus", type=int, default=2)
    arguments = parser.parse_args()
    source, networks = published(arguments.networks)
    few = networks[:PAIRS_OF_15]
    console = Console()
    console.print(methods_table(source, few))
    console.print(layers_table(few))
    console.print(pair_memory(few))
    console.print(stage_table(source, networks, arguments.cpus))


if __name__ == "__main__":
    main()
