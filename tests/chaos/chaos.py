"""Disturb runs on a cluster of several hosts at random, and compare with one left in peace.

    python -m tests.chaos.chaos --rounds 10 --seed 0 --log chaos.jsonl

Each round draws from its seed what goes wrong and when (`schedule`), lets it happen (`faults`) to a
small study on two or three hosts (`hosts`), resumes as often as need be, and checks that nothing
was lost or doubled and that everything equals the undisturbed run's (`invariants`). `--only N`
repeats one round, `--kinds` keeps to some faults. Rounds that went wrong leave their OUT and the
drivers' output in `--keep`. Exit code 1 when there was one.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from storage import Run
from tests.chaos.faults import apply
from tests.chaos.hosts import Hosts, NoHost, permitted
from tests.chaos.invariants import (
    Shown,
    assert_same_results,
    assert_sound,
    assert_tracked_once,
    shown,
)
from tests.chaos.scene import Scene, study_text
from tests.chaos.schedule import KINDS, Schedule, draw

STORE_BYTES = 96 * 2**20  # of the file system that OUT lies in, where it is one of our own
PATIENCE_S = 600.0
_INSIDE = "TOPOSWEEP_TEST_INSIDE"


class Theatre:
    """All rounds of a series: the hosts, the store, the undisturbed runs."""

    def __init__(self, folder: Path, hosts: Hosts, patience: float) -> None:
        self.folder, self.hosts, self.patience = folder, hosts, patience
        self.store = folder / "store"
        self.scene: Scene | None = None
        self._peace: dict[bool, tuple[Run, Shown]] = {}

    def undisturbed(self, failing_trial: bool) -> tuple[Run, Shown]:
        """The run to compare with, and its masks."""
        if failing_trial not in self._peace:
            name = "peace-with-failing-trial" if failing_trial else "peace"
            scene = self._set(name, 1, True, failing_trial)
            scene.driver = scene.start_driver()
            scene.finish()
            assert scene.drivers == 1, scene.events
            run = Run.open(scene.out)
            states = sorted(record.state for record in run.records().values())
            assert states == ["completed"] * 4 + ["failed"] * failing_trial
            assert_sound(run)
            self._peace[failing_trial] = run, shown(run)
        return self._peace[failing_trial]

    def play(self, name: str, schedule: Schedule) -> Scene:
        """One round.

        Raises:
            AssertionError: an invariant does not hold.
        """
        peace, masks = self.undisturbed(schedule.failing_trial)
        scene = self._set(name, schedule.workers, schedule.driver_on_head, schedule.failing_trial)
        scene.peace = masks
        scene.driver = scene.start_driver()
        for fault in schedule.faults:
            if not scene.wait_until_committed(fault.counted, fault.after):
                scene.note(f"over before {fault.kind}")
                break
            seen = scene.look()
            scene.note(f"{fault.kind} after {scene.committed(fault.counted)} {fault.counted}, "
                       f"{len(seen)} masks seen")  # fmt: skip
            apply(fault, scene)
            scene.look()
        scene.finish()
        run = Run.open(scene.out)
        assert_same_results(run, peace)
        assert_sound(run)
        assert_tracked_once(run, scene.database)
        return scene

    def clear(self, went_wrong: bool) -> None:
        """Forget the round: its OUT, and hosts that are no longer of use."""
        if self.scene is None:
            return
        used = [] if went_wrong else [self.scene.head, *self.scene.workers]
        for host in self.hosts.hosts:
            if host not in used:
                host.kill()
        shutil.rmtree(self.scene.out, ignore_errors=True)

    def _set(self, name: str, workers: int, driver_on_head: bool, failing_trial: bool) -> Scene:
        study = self.folder / f"{name}.yaml"
        study.write_text(study_text(failing_trial))
        logs = self.folder / "logs" / name
        logs.mkdir(parents=True)
        old = self.scene
        head = old.head if old and old.head.alive else self.hosts.start_head()
        living = old.living_workers() if old and old.head.alive else []
        for host in living[workers:]:
            host.kill()
        living = living[:workers]
        if len(living) < workers:
            living += self.hosts.start_workers(workers - len(living))
        self.hosts.wait_for_nodes(1 + workers)
        self.scene = Scene(
            self.hosts, head, living, self.store / name, study, self.folder / "mlflow.db", logs,
            self.patience, failing_trial, driver_on_head,
        )  # fmt: skip
        return self.scene


def main() -> None:
    """Rounds from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="this round alone")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), help="these faults alone")
    parser.add_argument("--log", type=Path, help="a JSON line for each round is added to it")
    parser.add_argument("--keep", type=Path, help="where rounds that went wrong are kept")
    parser.add_argument("--plain", action="store_true", help="without namespaces")
    parser.add_argument("--patience", type=float, default=PATIENCE_S,
                        help="seconds that anything may take")  # fmt: skip
    arguments = parser.parse_args()
    if not arguments.plain:
        _enter_namespaces()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    possible = _possible(arguments.plain)
    kinds = [kind for kind in possible if kind in (arguments.kinds or possible)]
    numbers = range(arguments.rounds) if arguments.only is None else [arguments.only]
    bad = 0
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as temporary,
        _mounted(Path(temporary) / "store", not arguments.plain),
        Hosts(namespaces=not arguments.plain) as hosts,
    ):
        theatre = Theatre(Path(temporary), hosts, arguments.patience)
        for number in numbers:
            schedule = draw(arguments.seed, number, kinds)
            print(f"seed {arguments.seed} round {number}: {schedule}", flush=True)
            entry = _round(theatre, arguments.seed, number, schedule, arguments.keep)
            bad += entry["outcome"] != "equal"
            print(f"  {entry['seconds']} {entry['outcome']}", flush=True)
            if arguments.log is not None:
                with arguments.log.open("a") as log:
                    log.write(json.dumps(entry) + "\n")
    print(f"{len(numbers) - bad} of {len(numbers)} rounds equal the undisturbed run")
    sys.exit(1 if bad else 0)


def _round(
    theatre: Theatre, seed: int, number: int, schedule: Schedule, keep: Path | None
) -> dict[str, object]:
    began = time.monotonic()
    name = f"seed{seed}-round{number}"
    try:
        theatre.play(name, schedule)
        outcome = "equal"
    except NoHost as error:
        outcome = f"not played, no host: {error}"
    except Exception:
        outcome = traceback.format_exc()
        if keep is not None and theatre.scene is not None:
            for source in (theatre.scene.out, theatre.scene.logs):
                shutil.copytree(source, keep / name / source.parent.name, dirs_exist_ok=True)
    scene = theatre.scene
    events, drivers = (scene.events, scene.drivers) if scene else ([], 0)
    attempts = len(list((scene.out / "attempts").glob("*/*.json"))) if scene else 0
    theatre.clear(outcome != "equal")
    return {
        "seed": seed, "round": number, "schedule": asdict(schedule), "events": events,
        "drivers": drivers, "attempts": attempts, "seconds": round(time.monotonic() - began, 1),
        "outcome": outcome,
    }  # fmt: skip


def _possible(plain: bool) -> list[str]:
    """The faults that can be had here."""
    have = {""} if plain or not permitted() else {"", "namespaces", "mounts"}
    return [name for name, kind in KINDS.items() if kind.needs in have]


def _enter_namespaces() -> None:
    """Begin anew where mounts are ours alone, and as root, if the kernel permits."""
    if os.environ.get(_INSIDE) or not permitted():
        return
    user = ["--user", "--map-root-user"] if permitted() == "user" else []
    os.environ[_INSIDE] = "1"
    command = ["unshare", *user, "--mount", sys.executable, "-m", "tests.chaos.chaos"]
    os.execvp(command[0], [*command, *sys.argv[1:]])


@contextmanager
def _mounted(store: Path, own: bool) -> Iterator[None]:
    """A folder for OUT, a file system of its own where that may be had."""
    store.mkdir()
    if not own or not permitted():
        yield
        return
    mount: Sequence[str] = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={STORE_BYTES}",
        "tmpfs",
        str(store),
    ]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(store)], check=False)


if __name__ == "__main__":
    main()
