"""What a sweep costs beside its training.

    python tests/benchmarks/bench_sweep.py

Launch: 100 tiny trials by Ray Tune with reused actors, against the same trials one after the other
in this process without Ray (`run_trial`). Streaming: seconds that a trial waits for its masks and
metrics to be on disk, against the seconds it trains, on the quickstart and, where the folder is
there, on MNIST (`TOPOSWEEP_SHARED_DATA`, or `../shared/data` beside the repository).
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from pathlib import Path
from typing import Any

from cluster import connect
from storage import Run
from storage.lock import RunLock
from sweeps.plan import PlannedTrial, plan_trials
from sweeps.runner import run_sweep
from sweeps.study import Study, check_study
from sweeps.study_file import load_study, study_yaml
from sweeps.task import make_task, pending_record
from sweeps.trial import Trial, run_trial

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": "digits",
    "model": {"name": "mlp", "hidden": [8]},
    "method": {"name": "set", "density": 0.3},
    "optimizer": {"name": "sgd", "batch_size": 256},
    "epochs": 2,
    "snapshot_every": "2ep",
    "checkpoint_every": "2ep",
    "space": {"seed": list(range(100))},
}


def begin(study: Study, folder: Path) -> tuple[Run, list[PlannedTrial]]:
    """A run with a record for every planned trial."""
    run = Run.create(folder, study.name, study_yaml(study), {})
    trials = plan_trials(study)
    for trial in trials:
        run.write_record(pending_record(study, trial))
    return run, trials


def bench_launch(folder: Path) -> None:
    """Seconds per trial: Ray Tune on one CPU, and the same trials in a plain loop."""
    study = check_study(TINY)
    run, trials = begin(study, folder / "loop")
    run_trial(make_task(study, run, trials[0]))  # what is loaded once
    started = time.perf_counter()
    for trial in trials[1:]:
        run_trial(make_task(study, run, trial))
    plain = (time.perf_counter() - started) / (len(trials) - 1)

    run, trials = begin(study, folder / "tune")
    with connect(cpus=1), RunLock(run.out, "benchmark") as lock:
        run_sweep(study, run, lock, trials[:2])  # the actor's process, once
        started = time.perf_counter()
        run_sweep(study, run, lock, trials[2:])
        tuned = (time.perf_counter() - started) / (len(trials) - 2)
    print(f"{'100 tiny trials, one CPU':44s} {'s per trial':>12s}")
    print(f"{'in a plain loop, without Ray':44s} {plain:12.3f}")
    print(f"{'by Ray Tune (one start of an actor included)':44s} {tuned:12.3f}")
    print(f"{'launch overhead per trial':44s} {tuned - plain:12.3f}")


def bench_streaming(study: Study, name: str, folder: Path, kinds: int) -> None:
    """Share of a trial's time that it waits for the disk, one trial of each kind."""
    run, trials = begin(study, folder)
    by_kind = {repr({k: v for k, v in t.config.items() if k != "seeds"}): t for t in trials}
    for trial in list(by_kind.values())[:kinds]:
        alive = Trial(make_task(study, run, trial))
        while not alive.step()["done"]:
            pass
        alive.close()
        timing = alive.timing
        method = trial.config["method"]
        label = f"{name}: {method['name']} {method.get('density', '')}"
        print(
            f"{label:28s} {timing.training:10.2f} s {timing.counts['snapshots']:9d} "
            f"{timing.streaming:10.3f} s {timing.streaming / timing.training:8.1%} "
            f"{timing.checkpoints / timing.training:12.1%}"
        )


def main() -> None:
    """Both tables."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    shared = Path(os.environ.get("TOPOSWEEP_SHARED_DATA", beside))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench_launch(folder)
        print()
        print(f"{'trial':28s} {'training':>12s} {'snapshots':>9s} {'streaming':>12s} "
              f"{'share':>8s} {'checkpoints':>12s}")  # fmt: skip
        bench_streaming(load_study("quickstart"), "quickstart", folder / "quickstart", 5)
        if (shared / "mnist-10k").is_dir():
            mnist = check_study({
                "name": "mnist-10k",
                "data": {"name": "mnist", "path": str(shared / "mnist-10k")},
                "model": {"name": "mlp", "hidden": [784, 784, 784]},
                "method": {"name": "set", "density": 0.02},
                "optimizer": {"name": "sgd", "lr": 0.02, "batch_size": 100},
                "epochs": 5,
                "snapshot_every": "1ep",
            })  # fmt: skip
            bench_streaming(mnist, "mnist-10k", folder / "mnist", 1)


if __name__ == "__main__":
    main()
