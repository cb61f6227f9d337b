"""Ray on this machine, or the cluster at an address: connected once, let go once."""

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

# Set before Ray starts: its worker processes inherit them.
_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES alone for 0-GPU work
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a sweep at once; OUT is always resumable
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # Parquet is the record; no CSV and JSON copies
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


ANSWER_SECONDS = 5.0  # how long a cluster's port may take to open

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^\s:/\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Cluster:
    """What the connected cluster offers: the resources (`CPU`, `GPU`, ...) of each live node."""

    address: str | None
    nodes: tuple[dict[str, float], ...]

    def total(self, resource: str) -> float:
        """How much of a resource all nodes have together."""
        return sum(node.get(resource, 0.0) for node in self.nodes)

    def fits(self, wanted: Mapping[str, float]) -> bool:
        """Whether some node has all that is wanted; what does not fit would wait for ever."""
        return any(
            all(node.get(name, 0.0) >= amount for name, amount in wanted.items())
            for node in self.nodes
        )

    def describe(self) -> str:
        """One phrase for people: nodes, CPUs, GPUs."""
        where = self.address or "this machine"
        nodes = f"{len(self.nodes)} nodes, " if len(self.nodes) > 1 else ""
        gpus = f", {self.total('GPU'):g} GPU" if self.total("GPU") else ""
        return f"{where}: {nodes}{self.total('CPU'):g} CPU{gpus}"


def check_address(address: str | None) -> None:
    """Refuse at once an address that is none, or where nothing answers.

    Raises:
        ValueError: naming the address and what is allowed.
    """
    if address is None or address == "auto":
        return
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{address!r} is not allowed: auto, HOST:PORT or ray://HOST:PORT")
    if address.startswith("ray://") and find_spec("grpc") is None:
        raise ValueError(f"{address!r} needs Ray's client: pip install 'ray[client]'")
    host = match["host"].strip("[]")
    try:
        socket.create_connection((host, int(match["port"])), ANSWER_SECONDS).close()
    except OSError as error:
        raise ValueError(f"{address!r}: nothing answers there ({error})") from None


@contextmanager
def connect(address: str | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """Connect to Ray and leave as found: a Ray that this process had initialised stays.

    Args:
        address: None starts Ray on this machine, reachable from this machine only; else what
            `check_address` takes.
        cpus: CPUs that a Ray started here offers; None means all of the machine's.

    Raises:
        ValueError: no cluster can be reached at `address`.
    """
    check_address(address)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    ours = not ray.is_initialized()
    if ours and address is None:
        # "local" and not None: that would join a cluster that RAY_ADDRESS or a file in /tmp names.
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
    elif ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{address!r}: no Ray cluster can be reached: {why[0]}") from None
    try:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        yield Cluster(address, tuple(node["Resources"] for node in nodes if node["Alive"]))
    finally:
        if ours:
            ray.shutdown()
