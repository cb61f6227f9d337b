"""What Prometheus sees of a run: counters that Ray exports on every node, as `ray_<name>_total`.

They are counted in Ray's own processes and fetched from them every few seconds; a process that is
killed takes with it what it had counted since. OUT is the record, these are for dashboards.
"""

import logging
from functools import cache
from typing import Any

SNAPSHOTS = "toposweep_snapshots_written"
SNAPSHOT_BYTES = "toposweep_snapshot_bytes_written"
STORAGE_SECONDS = "toposweep_storage_seconds"
PAIRS = "toposweep_pairs_compared"
TRIALS_RUNNING = "toposweep_trials_running"  # the only gauge: `ray_toposweep_trials_running`

_COUNTERS = {
    SNAPSHOTS: "Snapshots committed to OUT.",
    SNAPSHOT_BYTES: "Bytes of these snapshots.",
    STORAGE_SECONDS: "Seconds for which training waited for OUT.",
    PAIRS: "Pairs of networks compared; their rate is pairs per second.",
}

_log = logging.getLogger("toposweep.metrics")


def count(name: str, amount: float, **tags: str) -> None:
    """Add to a counter, in a process of Ray's; nothing that goes wrong here is worth a trial.

    Args:
        name: which.
        amount: what to add; 0 changes nothing.
        tags: the same keys each time.
    """
    if amount > 0:
        try:
            _counter(name, tuple(sorted(tags))).inc(float(amount), tags)
        except Exception as error:
            _log.debug("%s: %s", name, error)


def show_running(trials: int, **tags: str) -> None:
    """How many trials this process is running."""
    try:
        _gauge(tuple(sorted(tags))).set(trials, tags)
    except Exception as error:
        _log.debug("%s: %s", TRIALS_RUNNING, error)


@cache
def _counter(name: str, keys: tuple[str, ...]) -> Any:
    from ray.util.metrics import Counter

    return Counter(name, _COUNTERS[name], keys)


@cache
def _gauge(keys: tuple[str, ...]) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(TRIALS_RUNNING, "Trials that are being trained.", keys)
