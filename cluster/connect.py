"""Ray on this machine, or the cluster at an address: connected once, let go once."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster.address import check_address, resolve_address
from cluster.autoscaler import Autoscaler, find_autoscaler
from cluster.nodes import Node, live_nodes, one_line
from cluster.packages import shipped

# Set before Ray starts: its worker processes inherit them.
_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES alone for 0-GPU work
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a sweep at once; OUT is always resumable
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # Parquet is the record; no CSV and JSON copies
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

_SLOW_START = "Starting Ray client server failed"


@dataclass(frozen=True)
class Cluster:
    """The connected cluster.

    Attributes:
        address: None: Ray on this machine, started here.
        nodes: the live nodes.
        autoscaler: what more may come.
    """

    address: str | None
    nodes: tuple[Node, ...]
    autoscaler: Autoscaler = field(default_factory=Autoscaler)

    @property
    def workers(self) -> tuple[Node, ...]:
        """The nodes on which trials and tiles may run."""
        return tuple(node for node in self.nodes if node.works)

    def total(self, resource: str) -> float:
        """How much of a resource all nodes have together."""
        return sum(node.resources.get(resource, 0.0) for node in self.nodes)

    def at_once(self, wanted: Mapping[str, float]) -> int:
        """How many requests of this kind the live nodes serve at the same time."""
        return sum(_times(node.resources, wanted) for node in self.nodes)

    def check_fits(self, wanted: Mapping[str, float]) -> None:
        """Some node, live or one that the autoscaler can start, has all that is wanted.

        What fits none would wait for ever. Where an autoscaler is at work whose types of nodes are
        not known, nothing is refused.

        Raises:
            ValueError: what is wanted, and the most that there is.
        """
        if self.at_once(wanted):
            return
        if any(_times(kind, wanted) for kind in self.autoscaler.node_types):
            return
        if self.autoscaler.at_work and not self.autoscaler.node_types:
            return
        kinds = [node.resources for node in self.nodes] + [*self.autoscaler.node_types]
        most = {name: max((kind.get(name, 0.0) for kind in kinds), default=0.0) for name in wanted}
        coming = ", live or to be started," if self.autoscaler.node_types else ""
        raise ValueError(
            f"{_amounts(wanted)} is not allowed: no node{coming} of {self.describe()} has that "
            f"much (the most of each: {_amounts(most)})"
        )

    def describe(self) -> str:
        """One phrase for people: nodes, CPUs, GPUs."""
        where = self.address or "this machine"
        nodes = f"{len(self.nodes)} nodes, " if len(self.nodes) > 1 else ""
        gpus = f", {self.total('GPU'):g} GPU" if self.total("GPU") else ""
        return f"{where}: {nodes}{self.total('CPU'):g} CPU{gpus}"

    def describe_demand(self, wanted: Mapping[str, float], count: int) -> str:
        """One phrase for people: what is asked for, and how much of it runs at once."""
        at_once = min(self.at_once(wanted), count)
        running = f"{at_once} at once" if at_once else "none before the autoscaler starts a node"
        return f"{count} trial{'s' * (count > 1)} of {_amounts(wanted)}, {running}"


def _times(offered: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    # Ray counts in ten-thousandths: 0.1 CPU fits ten times into one.
    counts = [
        round(offered.get(name, 0.0) * 10_000) // round(amount * 10_000)
        for name, amount in wanted.items()
        if round(amount * 10_000) > 0
    ]
    return int(min(counts, default=1))


def _amounts(wanted: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in wanted.items())


@contextmanager
def connect(
    address: str | None = None, cpus: int | None = None, packages: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Connect to Ray and leave as found: a Ray that this process had initialised stays.

    A cluster's workers get this process's own packages (`cluster.packages`); Ray on this machine
    imports what this process imports, and gets none.

    Args:
        address: None starts Ray on this machine, reachable from this machine only; else what
            `check_address` takes. `resolve_address` says what each of them means.
        cpus: CPUs that a Ray started here offers; None means all of the machine's.
        packages: what a cluster's workers get besides, by name.

    Raises:
        ValueError: no cluster can be reached at `address`.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        check_address(address)
        with _own_sigterm():
            _start(address, resolve_address(address).address, cpus, packages)
    try:
        nodes = live_nodes()
        target = resolve_address(address).address
        more = find_autoscaler(nodes) if target is not None else Autoscaler()
        yield Cluster(target, nodes, more)
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself; what this program does on it stays."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _start(
    given: str | None, address: str | None, cpus: int | None, packages: Sequence[str]
) -> None:
    import ray

    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # "local" and not None: that would join a cluster that RAY_ADDRESS or a file in /tmp names.
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **options,
        )
        return
    with ExitStack() as stack:
        runtime_env = stack.enter_context(shipped(packages))
        try:
            try:
                ray.init(address=address, runtime_env=runtime_env, **options)
            except ConnectionError as error:
                if _SLOW_START not in str(error):
                    raise
                # A head that has just come up may take longer than Ray's client waits.
                ray.init(address=address, runtime_env=runtime_env, **options)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            why = f"no Ray cluster can be reached: {one_line(error)}"
            raise ValueError(f"{given or address!r}: {why}") from None
