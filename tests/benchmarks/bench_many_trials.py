"""A study of many tiny trials on this machine: seconds, and how the driver's memory grows.

Beside it: the same trials one after the other in a plain loop, without Ray.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml

from storage import Run
from sweeps.checks import stored_study
from sweeps.plan import plan_trials
from sweeps.task import make_task, pending_record
from sweeps.trial import run_trial

STUDY = {
    "name": "many",
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [8]},
    "method": {"name": "set", "density": 0.3},
    "optimizer": {"name": "sgd", "lr": 0.02, "batch_size": 512},
    "epochs": 1,
}
LOOP_TRIALS = 50


def main() -> None:
    """One sweep, watched."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = folder / "many.yaml"
        study.write_text(yaml.safe_dump({**STUDY, "space": {"seed": list(range(trials))}}))
        out = folder / "out"
        seconds, memory = _watched(["run", str(study), "--out", str(out)], out)
        run = Run.open(out)
        states = {record.state for record in run.records().values()}
        snapshots = len(run.masks.index(with_config=False)[["trial_id", "step"]].drop_duplicates())
        print(f"{len(run.records())} trials {states}, {snapshots} snapshots in {seconds:.0f} s")
        for done, mebibytes in memory:
            print(f"  {done:5d} trials done: driver's memory {mebibytes:.0f} MiB")
        each = _loop(run, folder / "loop")
        print(
            f"a trial: {seconds / trials:.3f} s by the command line, with Ray's start, "
            f"compaction, MLflow and report; {each:.3f} s in a plain loop"
        )


def _watched(words: list[str], out: Path) -> tuple[float, list[tuple[int, float]]]:
    """Seconds of a command, and its memory at every tenth of its trials and at its end."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "sweeps.cli", *words])
    peaks: list[tuple[int, float]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(2.0):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            resident = [line for line in status.splitlines() if line.startswith("VmRSS")]
            if resident:
                done = sum(1 for _ in out.glob("checkpoints/*/weights.safetensors"))
                peaks.append((done, int(resident[0].split()[1]) / 1024))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    if code:
        raise SystemExit(f"toposweep ended with {code}")
    tenth = max(1, len(peaks) // 10)
    return time.monotonic() - started, [*peaks[::tenth], peaks[-1]]


def _loop(run: Run, folder: Path) -> float:
    study = stored_study(run)
    again = Run.create(folder, study.name, run.study_path.read_text(), {})
    tasks = []
    for trial in plan_trials(study)[:LOOP_TRIALS]:
        again.write_record(pending_record(study, trial))
        tasks.append(make_task(study, again, trial))
    started = time.monotonic()
    for task in tasks:
        run_trial(task)
    return (time.monotonic() - started) / len(tasks)


if __name__ == "__main__":
    main()
