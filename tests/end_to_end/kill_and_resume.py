"""Kill the driver of a sweep with SIGKILL at random moments, resume, and compare with peace.

    python -m tests.end_to_end.kill_and_resume --rounds 10 --seed 0

Each round kills one run once and resumes it; the masks, metrics, matrices and final weights must
equal those of a run that was never disturbed, columns of time aside. `killed_and_resumed` is what
the test suite calls.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from storage import Run
from tests.chaos.invariants import assert_same_results

STUDY = """
name: disturbed
data: {name: digits}
model: {name: mlp, hidden: [32, 32]}
method: {name: set, density: 0.2}
optimizer: {name: sgd, lr: 0.02, batch_size: 16}
epochs: 20
snapshot_every: 50it
checkpoint_every: 130it
space:
  method.name: [static, set]
  seed: [0, 1]
distances:
  final: {steps: last}
"""


def toposweep(*words: str, wait: bool = True) -> subprocess.Popen[bytes]:
    """The command line in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if wait:
        output = process.communicate()[0].decode()
        if process.returncode != 0:
            raise AssertionError(f"toposweep {' '.join(words)}: {process.returncode}\n{output}")
    return process


def run_undisturbed(folder: Path) -> tuple[Run, float]:
    """The run to compare with, and how many seconds it took."""
    study = folder / "study.yaml"
    study.write_text(STUDY)
    started = time.monotonic()
    toposweep("run", str(study), "--out", str(folder / "peace"))
    return Run.open(folder / "peace"), time.monotonic() - started


def killed_and_resumed(folder: Path, name: str, moments: list[int | float]) -> Run:
    """A run whose driver is killed at `moments[k]` of its k-th start, then resumed.

    A whole moment is a number of committed snapshots, so that the kill hits the sweep however fast
    the machine is; any other is a number of seconds.
    """
    out = folder / name
    words = ["run", str(folder / "study.yaml"), "--out", str(out)]
    for moment in moments:
        process = toposweep(*words, wait=False)
        started = time.monotonic()
        while process.poll() is None and not _reached(moment, started, out):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (out / "study.yaml").exists():
            words = ["resume", str(out)]
    toposweep(*words)
    return Run.open(out)


def _reached(moment: int | float, started: float, out: Path) -> bool:
    if isinstance(moment, int):
        return sum(1 for _ in out.glob("masks/staging/*/*.parquet")) >= moment
    return time.monotonic() - started >= moment


def main() -> None:
    """Rounds from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        peace, seconds = run_undisturbed(folder)
        snapshots = len(peace.masks.index()[["trial_id", "step"]].drop_duplicates())
        print(f"undisturbed: {seconds:.1f} s, {snapshots} snapshots", flush=True)
        for number in range(arguments.rounds):
            in_sweep = number % 4 != 3  # every fourth at any time: start-up, compaction, distances
            moment = rng.randrange(1, snapshots) if in_sweep else rng.uniform(0, seconds)
            run = killed_and_resumed(folder, f"round-{number}", [moment])
            attempts = sum(1 for _ in (run.out / "attempts").glob("*/*.json"))
            assert_same_results(run, peace)
            when = f"after {moment} snapshots" if in_sweep else f"at {moment:.1f} s"
            print(f"round {number}: killed {when}, {attempts} attempts of "
                  f"{len(run.records())} trials, equal", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
