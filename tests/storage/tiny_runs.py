"""Small runs made through storage's own functions, and MLflow's SQLite file read without MLflow."""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.attempts import claim_attempt
from storage.records import State, TrialRecord
from storage.runs import Run
from storage.tracking import default_uri

STEPS = 10  # an epoch


def make_run(
    out: Path | str,
    trials: int = 3,
    epochs: int = 4,
    study: str = "name: tiny\n",
    store: bool = True,
) -> Run:
    """A finished run. `store`: beside an MLflow store that is there already, which saves time."""
    run = Run.create(out, "tiny", study, {"toposweep": "0"})
    for number in range(trials):
        finish_trial(run, number, epochs)
    if store and not database(run).exists():
        database(run).write_bytes(_empty_store())
    return run


@cache
def _empty_store() -> bytes:
    from mlflow import MlflowClient

    with TemporaryDirectory() as folder:
        MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
        return (Path(folder) / "mlflow.db").read_bytes()


def trial_record(number: int, state: State = "running", epochs: int = 4) -> TrialRecord:
    method = {"name": "dense"} if number == 0 else {"name": "set", "density": 0.05 * number}
    return TrialRecord(
        trial_id=f"{number:012x}",
        study="tiny",
        config={
            "data": {"name": "digits", "checksum": "ab12", "validation": 0.1},
            "model": {"name": "mlp", "hidden": [64, 64]},
            "method": method,
            "epochs": epochs,
            "seed": number,
        },
        state=state,
        steps_per_epoch=STEPS,
        total_steps=STEPS * epochs,
        reason=None,
        traceback=None,
        metrics={},
        updated_at=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def metric_rows(number: int, epochs: range, metrics: int = 3) -> list[dict[str, Any]]:
    extra = {f"density_layers.{k}": 0.1 + k for k in range(metrics - 2)}
    return [
        {
            "epoch": epoch,
            "step": STEPS * epoch,
            "test_accuracy": 0.5 + 0.1 * number + 0.01 * epoch,
            "train_loss": 1 / epoch,
            **extra,
        }
        for epoch in epochs
    ]


def start_trial(run: Run, number: int, epochs: range, first_step: int = -1) -> TrialRecord:
    record = trial_record(number)
    claim = claim_attempt(run.out, record.trial_id, first_step)
    run.metrics.append(record.trial_id, "tiny", claim.attempt, metric_rows(number, epochs))
    run.write_record(record)
    return record


def finish_trial(run: Run, number: int, epochs: int = 4) -> TrialRecord:
    record = trial_record(number, "completed", epochs)
    rows = metric_rows(number, range(1, epochs + 1))
    claim = claim_attempt(run.out, record.trial_id, -1)
    run.metrics.append(record.trial_id, "tiny", claim.attempt, rows)
    final = {k: v for k, v in rows[-1].items() if k not in ("epoch", "step")}
    record = replace(record, metrics=final)
    run.write_record(record)
    return record


def database(run: Run) -> Path:
    return run.out.parent / "mlflow.db"


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def sent_epochs(
    run: Run, key: str = "test_accuracy", path: Path | None = None
) -> dict[str, list[int]]:
    """Epochs of one metric by trial_id, a repeated one as often as it is there."""
    rows = query(
        path or database(run),
        "select t.value, m.step from metrics m join runs r on r.run_uuid = m.run_uuid "
        "join tags t on t.run_uuid = m.run_uuid and t.key = 'trial_id' "
        f"join tags o on o.run_uuid = m.run_uuid and o.value = '{run.uuid}' "
        f"where m.key = '{key}' and r.lifecycle_stage = 'active' order by 1, 2",
    )
    found: dict[str, list[int]] = {}
    for trial_id, step in rows:
        found.setdefault(trial_id, []).append(step)
    return found


def runs_by_tag(path: Path, tag: str) -> Counter[str]:
    rows = query(
        path,
        "select t.value from tags t join runs r on r.run_uuid = t.run_uuid "
        f"where t.key = '{tag}' and r.lifecycle_stage = 'active'",
    )
    return Counter(value for (value,) in rows)


def search(run: Run, query_text: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=default_uri(run.out))
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], query_text)
