"""All pairs: in process for a list of networks, and as a stage over a run's snapshots.

The stage plans tiles, computes those that are not there yet, and puts the matrix together. Blocks
of snapshots are loaded by Ray tasks, so that they live in the cluster and not in the driver. A
tile's task takes its blocks as arguments, so that it holds no CPU before they are there; it writes
its tile itself and returns a number.
"""

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster import ClusterFailed, ask_nodes, live_nodes, metrics
from storage.distance_schema import distance_schema
from storage.distance_sets import BegunDistances
from storage.distance_store import DistanceStore
from storage.errors import InputError
from storage.filesystem import AnyPath, Location, run_folder
from storage.masks import MaskStore
from topology.chance_stage import update_chance
from topology.comparison import Method, Metric
from topology.nnstd import METRIC_VERSIONS, as_topology, checked_metric, distances_of_pairs
from topology.prepared import Topology
from topology.spec import DistanceSpec, compared_snapshots, index_for
from topology.tile_tasks import compile_kernels, compute_tile, load_block
from topology.tiles import Plan, Snapshot, Tile, plan_tiles

__all__ = ["DistanceResult", "DistanceSpec", "pairwise", "run_distances"]

# How often Ray tries a lost task again (its node gone, its worker killed).
_RETRIES = 5

_COMPILE_SECONDS = 300.0  # all kernels take a slow node a minute; one that hangs is left
_CHECK_EVERY_S = 10.0


def pairwise(
    topologies: Sequence[Sequence[Any] | Topology],
    method: Method = "layerwise",
    labelled_outputs: bool = False,
    shared_indices: bool = False,
    n_jobs: int = 1,
) -> NDArray[np.float64]:
    """The distances of all pairs of a list of networks, in this process.

    Args:
        topologies: networks of equal depth, as `nnstd` takes them.
        method, labelled_outputs, shared_indices: as `nnstd` takes them. `reference` compares the
            later network of a pair with the earlier one, as the published code does.
        n_jobs: threads that share the pairs.

    Returns:
        (n_pairs, 1 + n_layers): the network's distance and each layer's; the pairs in the order of
        scipy's pdist, so that `squareform(pairwise(networks)[:, 0])` is the matrix.

    Raises:
        ValueError: no networks, an unknown method, networks that cannot be compared.
    """
    metric = checked_metric(method, labelled_outputs, shared_indices)
    if len(topologies) == 0:
        raise ValueError("pairwise needs at least one network")
    prepared = [as_topology(masks) for masks in topologies]
    pairs = list(itertools.combinations(prepared, 2))
    jobs = max(1, min(n_jobs, len(pairs)))
    with ThreadPoolExecutor(jobs) as threads:
        # Prepared first, so that no two threads prepare the same network.
        list(threads.map(metric.prepare, prepared))
        shares = [pairs[job::jobs] for job in range(jobs)]
        done = list(threads.map(lambda share: list(distances_of_pairs(share, metric)), shares))
    rows = [done[k % jobs][k // jobs][0] for k in range(len(pairs))]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 1 + len(prepared[0].layers))


@dataclass(frozen=True)
class DistanceResult:
    """What a run of the stage did.

    Attributes:
        n_snapshots: snapshots compared, references among them.
        n_pairs: pairs in the matrix.
        n_computed: pairs computed now; the others were there.
        n_chance: pairs of random networks compared now, for the level expected by chance.
        groups: number of snapshots in each group; those of different groups cannot be compared.
        left_out: trials without a snapshot at the step to be compared against.
        seconds: wall time.
        path: the folder of the distances.
    """

    name: str
    n_snapshots: int
    n_pairs: int
    n_computed: int
    n_chance: int
    groups: tuple[int, ...]
    left_out: tuple[str, ...]
    seconds: float
    path: AnyPath


def run_distances(
    out: Location,
    name: str,
    spec: DistanceSpec,
    progress: Callable[[int, int], None] | None = None,
    in_process: bool = False,
    check: Callable[[], None] = lambda: None,
) -> DistanceResult:
    """Compute a named set of distances of a run, or what is missing of it.

    Args:
        out: the run's folder.
        name: what to call the distances. Earlier ones of that name stay until these are complete.
        spec: which snapshots, and how.
        progress: called with the pairs done and all pairs, as tiles come in.
        in_process: compute here; otherwise on Ray, which the caller has connected.
        check: raises when these distances are somebody else's to write now; called now and then,
            and before what others may have written is replaced.

    Raises:
        InputError: a wrong name or selection, nothing to compare.
        CorruptFile: a mask file is damaged.
        OSError: a tile or a mask file cannot be written or read, the storage being full or away.
        ClusterFailed: tasks were lost again and again. As above, tiles that are done stay.
    """
    begin = time.monotonic()
    out = run_folder(out)  # a worker is in another folder
    store = DistanceStore(out, name)
    labels, snapshots, left_out = compared_snapshots(index_for(MaskStore(out), spec), spec)
    plan = plan_tiles(snapshots, spec.metric)
    if plan.n_pairs == 0:
        raise InputError(_nothing(spec, plan))
    distance_schema(plan.layers)  # a layer's name that cannot be a column is refused now
    current = store.current_tiles({tile.name: tile.digest for tile in plan.tiles})
    missing = [tile for tile in plan.tiles if tile.name not in current]
    if missing:
        there = len(plan.tiles) - len(missing)
        options = spec.model_dump(exclude_defaults=True)
        BegunDistances(len(plan.tiles), there, plan.n_pairs, options).write(store.folder)
    done = plan.n_pairs - sum(tile.n_pairs for tile in missing)
    n_computed = plan.n_pairs - done
    if progress:
        progress(done, plan.n_pairs)
    stage = _Stage(str(out), store, spec.metric, plan)
    with closing(stage.run_here(missing) if in_process else stage.run_on_ray(missing)) as counts:
        checked = time.monotonic()
        for n_pairs in counts:
            done += n_pairs
            if time.monotonic() - checked > _CHECK_EVERY_S:
                check()
                checked = time.monotonic()
            if progress:
                progress(done, plan.n_pairs)
    tiles = [(tile.name, tile.digest) for tile in plan.tiles]
    check()
    store.write_labels(labels, plan.digest)
    check()
    store.assemble(tiles, plan.layers, plan.digest)
    check()
    _write_spec(store, spec, plan)
    store.remove_other_tiles(tile.name for tile in plan.tiles)
    BegunDistances.end(store.folder)
    compute = map if in_process else _on_ray
    n_chance = update_chance(
        out, name, plan, spec.metric, spec.chance, compute=compute, check=check
    )
    return DistanceResult(
        name=name,
        n_snapshots=len(snapshots),
        n_pairs=plan.n_pairs,
        n_computed=n_computed,
        n_chance=n_chance,
        groups=plan.group_sizes,
        left_out=left_out,
        seconds=time.monotonic() - begin,
        path=store.folder,
    )


def _nothing(spec: DistanceSpec, plan: Plan) -> str:
    if spec.against is not None:
        return (
            "nothing to compare: each selected snapshot is the one it is to be compared with "
            f"(steps: {spec.steps}, against: {spec.against})"
        )
    n, groups = len(plan.snapshots), len(plan.group_sizes)
    apart = f", in {groups} groups that cannot be compared with each other" if groups > 1 else ""
    return f"nothing to compare: {n} snapshot{'s' * (n > 1)} selected{apart}"


def _write_spec(store: DistanceStore, spec: DistanceSpec, plan: Plan) -> None:
    """What was asked for and what came of it; the same again keeps its date."""
    content = {
        "name": store.name,
        **spec.model_dump(exclude={"chance"}),
        "metric_version": METRIC_VERSIONS[spec.method],
        "snapshots": len(plan.snapshots),
        "pairs": plan.n_pairs,
        "groups": list(plan.group_sizes),
        "layers": list(plan.layers),
        "plan": plan.digest,
    }
    try:
        created = store.read_spec()
    except InputError:
        created = {}
    if {key: created.get(key) for key in content} != content:
        created = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    store.write_spec({**content, "created": created["created"]})


@dataclass(frozen=True)
class _Stage:
    """Computes tiles of a plan; yields the number of pairs of each as it is done."""

    out: str
    store: DistanceStore
    metric: Metric
    plan: Plan

    def run_here(self, tiles: Sequence[Tile]) -> Generator[int, None, None]:
        """One after the other in this process."""

        @lru_cache(maxsize=self.plan.kept_blocks)
        def block(positions: Sequence[int]) -> list[Topology]:
            return load_block(self.out, self._snapshots(positions), self.metric)

        for tile in tiles:
            yield compute_tile(*self._arguments(tile), *map(block, tile.blocks))

    def run_on_ray(self, tiles: Sequence[Tile]) -> Generator[int, None, None]:
        """As Ray tasks of one CPU each, of which so many wait that no CPU does."""
        import ray

        _compile_on_every_node(self.metric)
        # With one CPU, Ray gives a task one thread.
        remote: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)
        load, compute = remote(load_block), remote(_counted(compute_tile))

        @lru_cache(maxsize=self.plan.kept_blocks)
        def block(positions: Sequence[int]) -> Any:
            return load.remote(self.out, self._snapshots(positions), self.metric)

        in_flight: set[Any] = set()
        waiting = iter(tiles)
        try:
            while True:
                room = _tasks_in_flight() - len(in_flight)
                for tile in itertools.islice(waiting, max(0, room)):
                    in_flight.add(compute.remote(*self._arguments(tile), *map(block, tile.blocks)))
                if not in_flight:
                    return
                ready, _ = ray.wait(list(in_flight), num_returns=1)
                for ref in ready:
                    in_flight.remove(ref)
                    with _plain_errors():
                        n_pairs = ray.get(ref)
                    yield n_pairs
        finally:
            for ref in in_flight:
                ray.cancel(ref)

    def _arguments(self, tile: Tile) -> tuple[Any, ...]:
        snapshot = self.plan.snapshots[tile.first[0]]
        layers = self.plan.group_layers[snapshot.group]
        metric = replace(self.metric, labelled_outputs=snapshot.labelled_outputs)
        return self.store, tile, metric, layers

    def _snapshots(self, positions: Sequence[int]) -> list[Snapshot]:
        return [self.plan.snapshots[k] for k in positions]


def _compile_on_every_node(metric: Metric) -> None:
    """One process a node compiles the metric's kernels, before all of its workers want to.

    On a cluster the workers import what was shipped to them, which has a cache of its own.
    """
    import ray

    if not ray.get_runtime_context().runtime_env:
        compile_kernels(metric)
        return
    with suppress(ValueError):  # a node that hangs: Ray gives its tiles to others
        workers = [node for node in live_nodes() if node.works]
        ask_nodes(workers, compile_kernels, metric, seconds=_COMPILE_SECONDS)


def _counted(compute: Callable[..., int]) -> Callable[..., int]:
    """`compute_tile`, with its pairs counted for Prometheus."""

    @wraps(compute)
    def counted(store: DistanceStore, *arguments: Any) -> int:
        n_pairs = compute(store, *arguments)
        metrics.count(metrics.PAIRS, n_pairs, distances=store.name)
        return n_pairs

    return counted


def _on_ray(function: Callable[[Any], Any], jobs: Sequence[Any]) -> list[Any]:
    """What a function gives for each of some jobs, each a task of one CPU."""
    import ray

    remote: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
    refs = [remote.remote(job) for job in jobs]
    try:
        with _plain_errors():
            results: list[Any] = ray.get(refs)
    finally:
        for ref in refs:
            ray.cancel(ref)
    return results


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What a task raised as it was raised, and in one line that tasks were lost."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        # Ray's error quotes the task's traceback; wrong input and a full disk are one line.
        if isinstance(error.cause, InputError | OSError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = f": {lines[0]}" if lines else ""
        raise ClusterFailed(
            f"Ray gave a task up after {_RETRIES} retries ({type(error).__name__}{why})"
        ) from None


def _tasks_in_flight() -> int:
    """Two tiles a CPU of the cluster, whose nodes come and go."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(2, 2 * int(resources.get("CPU", 1)))
