"""Run a study on a cluster of three nodes, two of which go, and say how its trials ended.

    python tests/end_to_end/lose_a_node.py OUT

One node is drained before it goes, as a preempted one is; the other goes without notice. No trial
may die by itself (`max_failures: 0`): a node's death must not count as a trial's.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from cluster.connect import _SETTINGS
from storage import Run
from storage.attempts import read_all_claims
from sweeps import run_study

STUDY = {
    "name": "nodes",
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [300, 300]},
    "method": {"name": "set", "density": 0.1},
    "optimizer": {"name": "sgd", "lr": 0.001, "batch_size": 2},
    "epochs": 2,
    "snapshot_every": "50it",
    "checkpoint_every": "2ep",
    "space": {"seed": [0, 1]},
    "resources": {"max_failures": 0},
}


def lose(cluster: Cluster, nodes: list[object], out: Path) -> None:
    """End two nodes, each as soon as a trial is seen to run there."""
    seen: set[str] = set()
    for node, how in zip(nodes, ("drained", "killed"), strict=True):
        while not (fresh := {str(p) for p in out.glob("masks/staging/*/*.parquet")} - seen):
            time.sleep(0.05)
        seen |= fresh
        raylet = node.all_processes["raylet"][0].process  # type: ignore[attr-defined]
        if how == "drained":
            ray._private.worker.global_worker.gcs_client.drain_node(
                node.node_id,
                2,
                "preempted",
                int((time.time() + 30) * 1000),  # type: ignore[attr-defined]
            )
            time.sleep(6)
        os.kill(raylet.pid, signal.SIGTERM)
        cluster.add_node(num_cpus=1)


def main() -> None:
    """Print each trial's state, and the steps that its attempts began with."""
    out = Path(sys.argv[1])
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    cluster = Cluster()
    cluster.add_node(num_cpus=0)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    threading.Thread(target=lose, args=(cluster, nodes, out), daemon=True).start()
    run_study(STUDY, out)
    for trial_id, record in Run.open(out).records().items():
        steps = [claim.first_step for claim in read_all_claims(out)[trial_id]]
        print(trial_id, record.state, *steps)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
