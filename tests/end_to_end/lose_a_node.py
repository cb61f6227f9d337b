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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

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
    "epochs": 4,
    "snapshot_every": "50it",
    "checkpoint_every": "4ep",
    "space": {"seed": [0, 1]},
    "resources": {"max_failures": 0},
}


def lose(cluster: Cluster, nodes: list[Any], out: Path) -> None:
    """End two nodes while trials run there, and put others in their places."""
    drained, killed = nodes
    _await(lambda: len(list(out.glob("masks/staging/*"))) == 2)
    why = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    deadline_ms = int((time.time() + 600) * 1000)
    gcs = ray._private.worker.global_worker.gcs_client
    gcs.drain_node(drained.node_id, why, "the spot market wants it back", deadline_ms)
    _await(lambda: any(out.glob("checkpoints/*/*.pt")))  # no other is due before the end
    for node in (drained, killed):
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGTERM)
        cluster.add_node(num_cpus=1)


def _await(seen: Callable[[], bool]) -> None:
    while not seen():
        time.sleep(0.05)


def main() -> None:
    """Print each trial's state, and the steps that its attempts began with."""
    out = Path(sys.argv[1])
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    cluster = Cluster()
    cluster.add_node(num_cpus=0)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    # Ray makes nodes in the main thread only.
    sweep = threading.Thread(target=run_study, args=(STUDY, out))
    sweep.start()
    lose(cluster, nodes, out)
    sweep.join()
    for trial_id, record in Run.open(out).records().items():
        steps = [claim.first_step for claim in read_all_claims(out)[trial_id]]
        print(trial_id, record.state, *steps)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
