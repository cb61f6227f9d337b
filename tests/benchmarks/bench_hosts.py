"""What it costs that a sweep's cores are on two hosts instead of one.

    python tests/benchmarks/bench_hosts.py [--repetitions 3]

The same sweep on one host held to two cores, and on two hosts held to one of the two each, in
turn. Hosts are those of `tests.chaos.hosts`; the driver runs on the first, beside the trials, as on
a real cluster without a node for it. The throughput is epochs by seconds from the first attempt's
begin to the last epoch's end: without starting Ray, with everything that a sweep does meanwhile.
The target is 0.90 of one host's.
"""

import argparse
import os
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from storage import Run
from storage.attempts import read_all_claims
from tests.chaos.hosts import TOPOSWEEP, Hosts, permitted

STUDY = """
name: hosts
data: {name: digits}
model: {name: mlp, hidden: [256, 256]}
method: {name: set, density: 0.1}
optimizer: {name: sgd, lr: 0.02, batch_size: 16}
epochs: 100
snapshot_every: 20ep
checkpoint_every: 20ep
"""
TRIALS = 24  # long enough that the second host's first process, which imports torch, is no matter


def throughput(folder: Path, pins: list[str]) -> float:
    """Epochs per second on hosts held to these cores."""
    with Hosts() as hosts:
        head = hosts.start_head(cpus=len(pins[0].split(",")), pin=pins[0])
        if pins[1:]:
            hosts.start_workers(len(pins) - 1, cpus=1, pins=pins[1:])
        hosts.wait_for_nodes(len(pins))
        study = folder / "study.yaml"
        study.write_text(f"{STUDY}space: {{seed: {list(range(TRIALS))}}}\n")
        words = ["run", str(study), "--out", str(folder / "out"), "--address", hosts.address]
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        hosts.popen(head, [*TOPOSWEEP, *words, "--tracking-uri", uri]).check()
    run = Run.open(folder / "out")
    claims = [claim for found in read_all_claims(run.out).values() for claim in found]
    begin = min(datetime.fromisoformat(claim.claimed_at) for claim in claims)
    epochs = run.metrics.load()
    assert len(epochs) == TRIALS * 100, f"{len(epochs)} epochs"
    return len(epochs) / (epochs["written_at"].max() - begin).total_seconds()


def main() -> None:
    """Both in turn, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("needs two cores")
    first, second = map(str, cores)
    arrangements = {"one": [f"{first},{second}"], "two": [first, second]}
    kind = "with namespaces" if permitted() else "without namespaces"
    print(f"epochs per second on one host of two cores and on two of one, {kind}")
    ratios = []
    for number in range(arguments.repetitions):
        order = ["one", "two"] if number % 2 == 0 else ["two", "one"]
        measured = {}
        for name in order:
            with tempfile.TemporaryDirectory() as folder:
                measured[name] = throughput(Path(folder), arrangements[name])
        ratios.append(measured["two"] / measured["one"])
        print(f"one {measured['one']:.2f}, two {measured['two']:.2f}: {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} of {len(ratios)} (target: 0.90)")


if __name__ == "__main__":
    main()
