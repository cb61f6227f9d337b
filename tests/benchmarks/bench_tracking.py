"""Writing a sweep into MLflow, beside a call per value, and finding it again.

    python tests/benchmarks/bench_tracking.py [--trials 1000] [--epochs 5] [--naive 3]

The stores: SQLite, and where PostgreSQL is installed a server on it and the database directly. The
alternative is what a training script does by hand: a run, a call per parameter and a call per
metric value. It is timed on a few trials, and its total is that time a trial, times the trials.
Searching by a tag stands beside listing all runs and looking through them.

At last what a tracker's look costs while trials run that have many files of metrics, when nothing
has happened since the last, beside a whole sync.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.tracking_servers

from storage.attempts import claim_attempt
from storage.checkpoints import write_checkpoint
from storage.runs import Run, TrialRecord, flatten_config
from storage.tracking import Tracker, sync
from storage.tracking_uri import with_driver
from tests.tracking_servers import MlflowServer, PostgreSQL, why_no_postgresql

METRICS = [
    *(
        f"{part}_{what}"
        for part in ("train", "validation", "test")
        for what in ("loss", "accuracy")
    ),
    *("density", "density_layers.0", "density_layers.1", "density_layers.2"),
    *("connections", "connections_changed", "exploration", "seconds"),
]


def make_run(out: Path, trials: int, epochs: int) -> Run:
    run = Run.create(out, "bench", "name: bench\n", {})
    for number in range(trials):
        trial_id = f"{number:012x}"
        claim = claim_attempt(out, trial_id, -1)
        rows = [
            {"epoch": e, "step": 10 * e} | dict.fromkeys(METRICS, number + e / epochs)
            for e in range(1, epochs + 1)
        ]
        run.metrics.append(trial_id, "bench", claim.attempt, rows)
        run.write_record(
            TrialRecord(
                trial_id=trial_id,
                study="bench",
                config={
                    "data": {"name": "digits", "checksum": "0123456789abcdef"},
                    "model": {"name": "mlp", "hidden": [64, 64], "activation": "relu"},
                    "method": {"name": "set", "density": 0.1, "drop_fraction": 0.3},
                    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "batch_size": 64},
                    "epochs": epochs,
                    "seed": number,
                },
                state="completed",
                steps_per_epoch=10,
                total_steps=10 * epochs,
                reason=None,
                traceback=None,
                metrics={name: rows[-1][name] for name in METRICS},
                updated_at=datetime.now(UTC).isoformat(),
            )
        )
    return run


def log_by_hand(client: Any, experiment: str, run: Run, trial_ids: list[str]) -> None:
    for trial_id in trial_ids:
        run_id = client.create_run(experiment).info.run_id
        for key, value in flatten_config(run.record(trial_id).config).items():
            client.log_param(run_id, key, value)
        for row in run.metrics.load([trial_id]).to_dict("records"):
            for name in METRICS:
                client.log_metric(run_id, name, row[name], step=row["epoch"])
        client.set_terminated(run_id)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    """Addresses by name; the servers run inside the block."""
    addresses = {"SQLite": f"sqlite:///{folder}/mlflow.db"}
    reason = why_no_postgresql()
    if reason is not None:
        print(f"SQLite alone: {reason}")
        yield addresses
        return
    database, behind = PostgreSQL(), folder / "server"
    behind.mkdir()
    try:
        database.start()
        database.create_database()
        server = MlflowServer(behind, database.create_database("served"))
        try:
            server.start()
            yield addresses | {
                "a server on PostgreSQL": server.uri,
                "PostgreSQL directly": database.uri,
            }
        finally:
            server.kill()
    finally:
        database.remove()


def bench_store(name: str, uri: str, run: Run, naive: int) -> None:
    from mlflow import MlflowClient

    trials = len(run.records())
    sync(make_run(run.out.parent / name / "warm", 1, 1), uri)  # imports MLflow, makes the tables
    whole = seconds(lambda: sync(run, uri))
    again = seconds(lambda: sync(run, uri))
    client = MlflowClient(tracking_uri=with_driver(uri))
    by_hand = client.create_experiment("by hand")
    few = list(run.records())[:naive]
    apart = seconds(lambda: log_by_hand(client, by_hand, run, few)) / naive
    ids = [client.get_experiment_by_name("bench").experiment_id]
    found: list[Any] = []

    def by_tag() -> None:
        found.extend(client.search_runs(ids, f"tags.trial_id = '{few[0]}'"))

    def by_listing() -> None:
        token = None
        while True:
            page = client.search_runs(ids, max_results=1000, page_token=token)
            found.extend(one for one in page if one.data.tags.get("trial_id") == few[0])
            token = page.token
            if not token:
                return

    tag, listing = seconds(by_tag), seconds(by_listing)
    assert len({one.info.run_id for one in found}) == 2, found  # the warm run has trial 0, too
    print(f"\n{name}\n{'':44}{'total':>10}{'a trial':>12}")
    for what, total in [
        ("sync", whole),
        ("sync again, nothing new", again),
        (f"a call per value (from {naive} trials)", apart * trials),
    ]:
        print(f"{what:44}{total:9.2f}s{1000 * total / trials:10.1f}ms")
    print(f"{'search_runs by the tag trial_id':44}{tag:9.3f}s")
    print(f"{'listing all runs and looking for it':44}{listing:9.3f}s")


def bench_look(folder: Path, running: int, files: int) -> None:
    run = make_run(folder / "looks" / "run", 10, 5)
    for number in range(100, 100 + running):
        record = replace(run.record(f"{0:012x}"), trial_id=f"{number:012x}", state="running")
        claim_attempt(run.out, record.trial_id, -1)
        run.write_record(record)
        for epoch in range(1, files + 1):
            row = {"epoch": epoch, "step": 10 * epoch} | dict.fromkeys(METRICS, number / epoch)
            run.metrics.append(record.trial_id, "bench", 1, [row])
        write_checkpoint(run.checkpoint_folder(record.trial_id), 10 * files, 1, b"state")
    tracker = Tracker(run)
    tracker.look()
    assert tracker.warning is None, tracker.warning
    look = seconds(tracker.look)
    whole = seconds(lambda: sync(run, artifacts=False))
    print(
        f"\n{running} trials that run, {files} staged files each, nothing new since the last look"
    )
    print(f"{'a look of the tracker':44}{look:9.3f}s")
    print(f"{'a whole sync':44}{whole:9.3f}s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--naive", type=int, default=3, help="trials to log by hand")
    parser.add_argument("--running", type=int, default=50, help="trials that run during the looks")
    parser.add_argument("--files", type=int, default=20, help="staged files of each of them")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as text, stores(Path(text)) as addresses:
        folder = Path(text)
        print(f"{given.trials} trials x {given.epochs} epochs x {len(METRICS)} metrics")
        run = make_run(folder / "run", given.trials, given.epochs)
        for name, uri in addresses.items():
            bench_store(name, uri, run, given.naive)
        bench_look(folder, given.running, given.files)


if __name__ == "__main__":
    main()
