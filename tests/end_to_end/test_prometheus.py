"""What Prometheus gets from a cluster's hosts while a run goes on there."""

import re
import socket
import time
import urllib.request
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from storage import Run
from tests.chaos.hosts import TOPOSWEEP, Hosts

STUDY = """
name: counted
data: digits
model: {name: mlp, hidden: [12]}
method: {name: set, density: 0.3}
optimizer: {name: sgd, lr: 0.02, batch_size: 256}
epochs: 3
snapshot_every: 1ep
space: {seed: [0, 1, 2]}
distances: {all: {steps: all}}
"""
MISSING = [
    name for name in ("opentelemetry", "prometheus_client", "aiohttp") if not find_spec(name)
]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(url: str) -> dict[str, float]:
    """Our metrics, summed over their labels; nothing while the exporter is not up yet."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            lines = page.read().decode().splitlines()
    except OSError:
        return {}
    found: dict[str, float] = {}
    for line in lines:
        match = re.fullmatch(r"ray_(toposweep_\w+)\{(.*)\} (\S+)", line)
        if match:
            found[match[1]] = found.get(match[1], 0.0) + float(match[3])
    return found


@pytest.mark.skipif(bool(MISSING), reason=f"ray[default] is not installed: no {MISSING}")
@pytest.mark.cluster
def test_prometheus_gets_the_snapshots_bytes_seconds_and_pairs_of_a_run(tmp_path: Path) -> None:
    study, out, port = tmp_path / "study.yaml", tmp_path / "out", free_port()
    study.write_text(STUDY)
    environment = {"RAY_metrics_report_interval_ms": "1000"}
    with Hosts(environment, namespaces=False) as hosts:
        head = hosts.start_head(cpus=1, more=[f"--metrics-export-port={port}"])
        command = ["run", study, "--out", out, "--address", hosts.address]
        hosts.popen(head, [*TOPOSWEEP, *map(str, command)]).check(timeout=400)
        run = Run.open(out)
        index = run.masks.index(with_config=False)
        snapshots = len(index[["trial_id", "step"]].drop_duplicates())
        pairs = len(run.distances("all")) * (len(run.distances("all")) - 1) // 2
        deadline = time.monotonic() + 120
        while True:
            found = scraped(f"http://{head.ip}:{port}/metrics")
            complete = found.get("toposweep_pairs_compared_total") == pairs
            if complete or time.monotonic() > deadline:
                break
            time.sleep(0.5)
    assert snapshots == 3 * 4
    assert found["toposweep_snapshots_written_total"] == snapshots
    assert found["toposweep_pairs_compared_total"] == pairs == 66
    # The compacted table holds the same masks with fewer footers.
    assert found["toposweep_snapshot_bytes_written_total"] > run.masks.usage()[1] > 0
    assert found["toposweep_storage_seconds_total"] > 0
    assert found.get("toposweep_trials_running", 0) == 0
