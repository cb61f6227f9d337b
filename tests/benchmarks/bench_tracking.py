"""Writing a sweep into MLflow's SQLite store, beside a call per value, and finding it again.

    python tests/benchmarks/bench_tracking.py [--trials 200] [--epochs 50] [--naive 3]

The alternative is what a training script does by hand: a run, a call per parameter and a call per
metric value. It is timed on a few trials, and its total is that time a trial, times the trials.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.attempts import claim_attempt
from storage.runs import Run, TrialRecord, flatten_config
from storage.tracking import default_uri, sync

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--naive", type=int, default=3, help="trials to log by hand")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        first = make_run(Path(folder) / "warm", 1, 1)
        start = seconds(lambda: sync(first))  # imports MLflow, makes the database
        run = make_run(Path(folder) / "run", given.trials, given.epochs)
        whole = seconds(lambda: sync(run))
        again = seconds(lambda: sync(run))

        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=default_uri(run.out))
        by_hand = client.create_experiment("by hand", artifact_location=Path(folder).as_uri())
        few = list(run.records())[: given.naive]
        naive = seconds(lambda: log_by_hand(client, by_hand, run, few)) / given.naive
        ids = [client.get_experiment_by_name("bench").experiment_id]
        search = seconds(lambda: client.search_runs(ids, f"tags.trial_id = '{few[0]}'"))
        query = "params.method_name = 'set' and metrics.test_accuracy > 0.9"
        filtered = seconds(lambda: client.search_runs(ids, query, max_results=1000))

    values = given.epochs * len(METRICS)
    print(f"{given.trials} trials x {given.epochs} epochs x {len(METRICS)} metrics, SQLite")
    print(f"{'':44}{'total':>10}{'a trial':>12}")
    for name, total in [
        ("import MLflow, make the database", start),
        ("sync", whole),
        ("sync again, nothing new", again),
        (f"a call per value (from {given.naive} trials)", naive * given.trials),
    ]:
        print(f"{name:44}{total:9.2f}s{1000 * total / given.trials:10.1f}ms")
    print(f"{'search_runs by the tag trial_id':44}{search:9.3f}s")
    print(f"{'search_runs by method and accuracy':44}{filtered:9.3f}s")
    print(f"{values} values a trial: {naive * given.trials / whole:.0f} times faster than by hand")


if __name__ == "__main__":
    main()
