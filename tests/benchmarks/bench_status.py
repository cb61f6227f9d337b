"""`toposweep status` on a large run in full swing, beside the index that would count the same.

    python tests/benchmarks/bench_status.py [--trials 1000] [--steps 20]

A run of so many trials (a tenth of them completed, four running, some failed), with as many
snapshots a trial, staged; a driver's lock; metrics and checkpoints as a sweep has them. Seconds of
the whole command in a process of its own, best and median of some, with the CPU seconds among them.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from storage import LayerMask, Run
from storage.attempts import claim_attempt
from storage.checkpoints import write_checkpoint
from storage.lock import RunLock
from storage.runs import TrialRecord

LAYERS = [LayerMask("fc1", np.eye(64, dtype=np.bool_), "hidden")]
COMMAND = (
    "from sweeps.cli import main; import sys; sys.argv = ['toposweep', 'status', {!r}]; main()"
)
INDEX = "from storage import MaskStore; print(len(MaskStore({!r}).index(with_config=False)))"


def make_run(out: Path, trials: int, steps: int) -> Run:
    """Records, claims, staged snapshots, checkpoints."""
    run = Run.create(out, "bench", "name: bench\n", {})
    fsync = os.fsync
    os.fsync = lambda _: None  # making the run is not what is measured here
    for number in range(trials):
        trial_id = f"{number:012x}"
        state = "running" if number % 250 == 0 else "failed" if number % 100 == 1 else "completed"
        record = TrialRecord(
            trial_id=trial_id, study="bench", state="pending", steps_per_epoch=1,
            total_steps=steps, config={"method": {"name": "set"}, "seed": number},
            metrics={f"metric_{k}": 0.5 for k in range(12)}, updated_at="2025-01-02T03:04:05+00:00",
        )  # fmt: skip
        reason = f"the loss is nan at step {number}" if state == "failed" else None
        run.write_record(replace(record, state=state, reason=reason))  # type: ignore[arg-type]
        claim_attempt(out, trial_id, -1)
        for step in range(steps):
            run.masks.append(trial_id, "bench", step, step, 1, LAYERS)
        if state == "running":
            for step in (steps - 2, steps - 1):
                write_checkpoint(run.checkpoint_folder(trial_id), step, 1, b"state")
    os.fsync = fsync
    return run


def seconds(code: str, repeats: int) -> tuple[float, float, float]:
    """Best and median wall seconds of a process, and the least CPU seconds."""
    walls, cpus = [], []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), statistics.median(walls), min(cpus)


def main() -> None:
    """Make the run, look at it both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        out = folder / "out"
        make_run(out, args.trials, args.steps)
        load = os.getloadavg()[0]
        print(f"{args.trials} trials, {args.trials * args.steps} staged snapshots, load {load:.1f}")
        with RunLock(out, "run"):
            for name, code, repeats in (("status", COMMAND, 9), ("index", INDEX, 1)):
                best, median, cpu = seconds(code.format(str(out)), repeats)
                print(f"{name:8} best {best:.2f} s, median {median:.2f} s, CPU {cpu:.2f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
