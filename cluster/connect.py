"""Ray on this machine, or the cluster at an address: connected once, let go once."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Set before Ray starts: its worker processes inherit them.
_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES alone for 0-GPU work
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a sweep at once; OUT is always resumable
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # Parquet is the record; no CSV and JSON copies
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True)
class Cluster:
    """What the connected cluster offers."""

    address: str | None
    cpus: float
    gpus: float
    nodes: int

    def describe(self) -> str:
        """One phrase for people: nodes, CPUs, GPUs."""
        where = self.address or "this machine"
        nodes = f"{self.nodes} nodes, " if self.nodes > 1 else ""
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{where}: {nodes}{self.cpus:g} CPU{gpus}"


@contextmanager
def connect(address: str | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """Connect to Ray and leave as found: a Ray that was already running here stays.

    Args:
        address: None starts Ray on this machine, reachable from this machine only; else what
            `ray.init` takes: `auto`, `HOST:PORT` or `ray://HOST:PORT`.
        cpus: CPUs that a Ray started here offers; None means all of the machine's.

    Raises:
        ConnectionError: nothing answers at `address`.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    ours = not ray.is_initialized()
    if ours and address is None:
        ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            _node_ip_address="127.0.0.1",
        )
    elif ours:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        yield Cluster(
            address=address,
            cpus=resources.get("CPU", 0.0),
            gpus=resources.get("GPU", 0.0),
            nodes=len([n for n in nodes if n["Alive"]]),
        )
    finally:
        if ours:
            ray.shutdown()
