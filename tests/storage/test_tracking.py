"""MLflow holds what OUT holds, each thing once, however often and in however many parts."""

import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_runs import (
    STEPS,
    database,
    dump,
    make_run,
    metric_rows,
    query,
    runs_by_tag,
    search,
    sent_epochs,
    start_trial,
    trial_record,
)

from storage.attempts import claim_attempt
from storage.checkpoints import write_checkpoint
from storage.mlflow_experiment import Experiment, StoredRun
from storage.tracking import Tracker, default_uri, sync


def test_every_configuration_key_and_final_metric_finds_its_trials(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", store=False)
    result = sync(run)
    assert result.complete
    assert result.warning is None
    assert (result.trials, result.metrics_sent) == (3, 3 * 4 * 3)
    for key, value in [
        ("data_name", "digits"),
        ("data_validation", "0.1"),
        ("model_hidden", "[64, 64]"),
        ("epochs", "4"),
    ]:
        assert len(search(run, f"params.{key} = '{value}'")) == 3, key
    (one,) = search(run, "params.method_density = '0.1' and params.seed = '2'")
    assert one.data.tags["trial_id"] == f"{2:012x}"
    assert one.info.run_name == f"set 0.1 seed 2 · {2:012x}"
    # 0.54 (dense), 0.64, 0.74 at the last epoch
    assert len(search(run, "params.method_name = 'set' and metrics.test_accuracy > 0.6")) == 2
    assert len(search(run, "metrics.test_accuracy > 0.7")) == 1
    columns = set(run.metrics.load().columns) - {
        "study", "trial_id", "attempt", "epoch", "step", "written_at",
    }  # fmt: skip
    assert set(one.data.metrics) == columns


def test_children_hang_below_one_parent_named_like_the_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first")
    result = sync(run)
    (parent,) = search(run, "tags.mlflow.runName = 'first'")
    assert parent.info.run_id == result.parent_run_id
    assert parent.info.experiment_id == result.experiment_id
    assert parent.data.tags["run_uuid"] == run.uuid
    children = search(run, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {c.data.tags["trial_id"] for c in children} == set(run.records())
    assert {(c.data.tags["study"], c.data.tags["state"]) for c in children} == {
        ("tiny", "completed")
    }
    assert parent.data.metrics["trials_completed"] == 3
    assert parent.data.metrics["test_accuracy_best_set"] == pytest.approx(0.74)
    assert parent.data.metrics["test_accuracy_mean_set"] == pytest.approx(0.69)


def test_times_and_values_are_the_stored_ones(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=1)
    sync(run)
    stored = run.metrics.load()
    expected = sorted(
        (int(epoch), value, int(when.timestamp() * 1000))
        for epoch, value, when in zip(
            stored["epoch"], stored["train_loss"], stored["written_at"], strict=True
        )
    )
    in_mlflow = query(
        database(run),
        "select step, value, timestamp from metrics where key = 'train_loss' order by step",
    )
    assert in_mlflow == expected
    (child,) = search(run, "tags.trial_id = '000000000000'")
    updated = datetime.fromisoformat(run.record("000000000000").updated_at)
    assert child.info.end_time == int(updated.timestamp() * 1000)
    assert child.info.start_time <= expected[0][2]


def test_states_become_statuses_and_a_long_reason_is_cut(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=0)
    states = {"pending": None, "running": "RUNNING", "completed": "FINISHED",
              "stopped": "KILLED", "failed": "FAILED"}  # fmt: skip
    for number, state in enumerate(states):
        record = trial_record(number, state)
        if state == "failed":
            record = replace(record, reason="loss is nan " + "x" * 9000)
        run.write_record(record)
    assert sync(run).complete
    found = {c.data.tags.get("state"): c for c in search(run, f"tags.run_uuid = '{run.uuid}'")}
    parent = found.pop(None)
    assert parent.info.status == "RUNNING"
    assert {state: child.info.status for state, child in found.items()} == {
        state: status for state, status in states.items() if status
    }
    assert len(found["failed"].data.tags["reason"]) == 8000
    assert found["running"].info.end_time is None


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=0)
    rows = metric_rows(0, range(1, 4))
    rows[1] |= {"train_loss": math.nan, "test_accuracy": math.inf}
    claim = claim_attempt(run.out, f"{0:012x}", -1)
    run.metrics.append(f"{0:012x}", "tiny", claim.attempt, rows)
    run.write_record(replace(trial_record(0, "stopped"), metrics={"test_accuracy": math.nan}))
    assert sync(run).complete
    assert sent_epochs(run, "train_loss") == {f"{0:012x}": [1, 3]}
    assert sent_epochs(run, "test_accuracy") == {f"{0:012x}": [1, 3]}


def test_more_metrics_and_params_than_a_call_takes_arrive_once_each(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=0)
    record = trial_record(0, "completed")
    wide = {"method": {f"option_{k}": k for k in range(230)}}
    rows = metric_rows(0, range(1, 301), metrics=9)
    claim = claim_attempt(run.out, record.trial_id, -1)
    run.metrics.append(record.trial_id, "tiny", claim.attempt, rows)
    run.write_record(replace(record, config=wide))
    assert sync(run).metrics_sent == 300 * 9
    assert sent_epochs(run) == {record.trial_id: list(range(1, 301))}
    assert query(database(run), "select count(*) from params") == [(230,)]


# --- again, and in parts ---


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        *[("runs", 0), ("runs", 4)],
        *[("params", 1), ("params", 14)],
        *[("metrics", 5), ("metrics", 40)],
        *[("latest_metrics", 0), ("latest_metrics", 14)],
        *[("tags", 5), ("tags", 30)],
    ],
)
def test_a_store_that_fails_at_any_point_is_completed_and_nothing_doubles(
    tmp_path: Path, table: str, rows: int
) -> None:
    run = make_run(tmp_path / "out", trials=4)
    with closing(sqlite3.connect(database(run))) as connection:
        connection.execute(
            f"create trigger broken before insert on {table} "
            f"when (select count(*) from {table}) >= {rows} begin select raise(fail, 'full'); end"
        )
    broken = sync(run)
    assert broken.warning  # what MLflow makes of it depends on the table
    assert "\n" not in str(broken.warning)
    with closing(sqlite3.connect(database(run))) as connection:
        connection.execute("drop trigger broken")
    assert not broken.complete
    assert sync(run).complete
    assert sent_epochs(run) == {f"{n:012x}": [1, 2, 3, 4] for n in range(4)}
    assert query(database(run), "select count(*) from metrics where step > 0") == [(4 * 4 * 3,)]
    assert runs_by_tag(database(run), "run_uuid") == {run.uuid: 5}
    assert [child.info.status for child in search(run, "tags.trial_id != ''")] == ["FINISHED"] * 4


def test_a_second_sync_leaves_the_database_as_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out")
    start_trial(run, 5, range(1, 3))
    sync(run)
    before = dump(database(run))
    again = sync(run)
    assert again.complete
    assert (again.trials, again.metrics_sent, again.artifacts) == (4, 0, 0)
    assert dump(database(run)) == before


def test_only_epochs_that_a_checkpoint_covers_are_sent_and_each_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=0)
    record = start_trial(run, 1, range(1, 4))
    folder = run.checkpoint_folder(record.trial_id)
    assert sync(run).complete
    assert sent_epochs(run) == {}
    write_checkpoint(folder, 2 * STEPS, 1, b"state")
    sync(run)
    assert sent_epochs(run) == {record.trial_id: [1, 2]}
    # Died; attempt 2 goes on from the checkpoint and makes epoch 3 again.
    claim = claim_attempt(run.out, record.trial_id, 2 * STEPS)
    write_checkpoint(folder, 3 * STEPS, 1, b"a fenced writer's")
    run.metrics.append(record.trial_id, "tiny", claim.attempt, metric_rows(1, range(3, 5)))
    sync(run)
    assert sent_epochs(run) == {record.trial_id: [1, 2]}
    run.write_record(replace(record, state="completed"))
    sync(run)
    assert sent_epochs(run) == {record.trial_id: [1, 2, 3, 4]}
    assert len(search(run, f"tags.trial_id = '{record.trial_id}'")) == 1


def test_a_trial_made_again_from_scratch_is_sent_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=0)
    record = start_trial(run, 1, range(1, 4))
    write_checkpoint(run.checkpoint_folder(record.trial_id), 3 * STEPS, 1, b"state")
    run.write_record(replace(record, state="failed", reason="out of memory"))
    sync(run)
    assert sent_epochs(run) == {record.trial_id: [1, 2, 3]}
    claim = claim_attempt(run.out, record.trial_id, -1)
    run.metrics.append(record.trial_id, "tiny", claim.attempt, metric_rows(1, range(1, 5)))
    run.write_record(replace(record, state="completed", reason=None))
    assert sync(run).complete
    assert sent_epochs(run) == {record.trial_id: [1, 2, 3, 4]}
    (child,) = search(run, f"tags.trial_id = '{record.trial_id}'")
    assert child.info.status == "FINISHED"
    assert child.data.tags.get("reason", "") == ""


def test_a_crash_between_metrics_and_their_tag_doubles_nothing(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = make_run(tmp_path / "out")
    sync(run)
    rows = query(database(run), "select * from metrics order by 1, 2, 3, 4, 5, 6")
    client = MlflowClient(tracking_uri=default_uri(run.out))
    for child in search(run, "tags.state = 'completed'"):
        client.delete_tag(child.info.run_id, "toposweep.sent")
        client.delete_tag(child.info.run_id, "toposweep.done")
    assert sync(run).complete
    assert query(database(run), "select * from metrics order by 1, 2, 3, 4, 5, 6") == rows


def test_runs_that_share_their_tags_become_one(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = make_run(tmp_path / "out")
    first = sync(run)
    client = MlflowClient(tracking_uri=default_uri(run.out))
    tags = {"run_uuid": run.uuid}
    client.create_run(first.experiment_id, tags=tags)
    client.create_run(first.experiment_id, tags=tags | {"trial_id": f"{1:012x}"})
    again = sync(run)
    assert again.parent_run_id == first.parent_run_id
    assert again.metrics_sent == 0
    assert runs_by_tag(database(run), "trial_id") == {f"{n:012x}": 1 for n in range(3)}
    assert runs_by_tag(database(run), "run_uuid") == {run.uuid: 4}


def test_what_was_deleted_in_mlflow_is_made_again(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = make_run(tmp_path / "out")
    first = sync(run)
    client = MlflowClient(tracking_uri=default_uri(run.out))
    client.delete_run(first.parent_run_id)
    (child,) = search(run, f"tags.trial_id = '{1:012x}'")
    client.delete_run(child.info.run_id)
    again = sync(run)
    assert again.complete
    assert again.parent_run_id != first.parent_run_id
    assert again.metrics_sent == 4 * 3
    assert len(search(run, f"tags.mlflow.parentRunId = '{again.parent_run_id}'")) == 3
    client.delete_experiment(first.experiment_id)
    refused = sync(run)
    assert not refused.complete
    assert "deleted" in str(refused.warning)


def test_two_runs_of_a_study_share_an_experiment_and_nothing_else(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", trials=2)
    results = [sync(first), sync(second), sync(first), sync(second)]
    assert len({result.experiment_id for result in results}) == 1
    assert len({result.parent_run_id for result in results}) == 2
    assert runs_by_tag(database(first), "run_uuid") == {first.uuid: 4, second.uuid: 3}
    assert [result.metrics_sent for result in results] == [36, 24, 0, 0]


# --- artifacts ---


def test_artifacts_are_uploaded_and_again_only_when_they_change(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = make_run(tmp_path / "out", trials=1)
    folder = run.out / "distances" / "final"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"i": [0, 0], "j": [1, 2], "network": [0.25, 0.75]}),
                   folder / "matrix.parquet")  # fmt: skip
    pq.write_table(pa.table({"trial_id": ["a", "b", "c"]}), folder / "labels.parquet")
    run.report_folder.mkdir(exist_ok=True)
    (run.report_folder / "index.html").write_text("<p>report</p>")
    (run.report_folder / "heat.png").write_bytes(b"png")

    assert sync(run, artifacts=False).artifacts == 0
    result = sync(run)
    client = MlflowClient(tracking_uri=default_uri(run.out))
    names = {
        item.path
        for part in (None, "distances/final", "report")
        for item in client.list_artifacts(result.parent_run_id, part)
        if not item.is_dir
    }
    assert names == {
        "study.yaml", "run.json", "report/index.html", "report/heat.png",
        "distances/final/matrix.parquet", "distances/final/labels.parquet",
    }  # fmt: skip
    assert result.artifacts == 6
    assert client.get_run(result.parent_run_id).data.metrics["mean_distance_final"] == 0.5

    (run.report_folder / "index.html").write_text("<p>another</p>")
    assert sync(run).artifacts == 1
    (copy,) = (tmp_path / "mlartifacts").rglob("index.html")
    assert copy.read_text() == "<p>another</p>"


# --- a tracker's looks ---


def test_a_look_asks_mlflow_for_its_runs_once_and_again_after_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    searches = []
    search_runs = Experiment.runs

    def counted(store: Experiment, tag: str, value: str) -> list[StoredRun]:
        searches.append(tag)
        return search_runs(store, tag, value)

    monkeypatch.setattr(Experiment, "runs", counted)
    run = make_run(tmp_path / "out", trials=1)
    tracker = Tracker(run)
    record = start_trial(run, 5, range(1, 2))
    folder = run.checkpoint_folder(record.trial_id)
    for epoch in range(2, 6):
        write_checkpoint(folder, STEPS * epoch, 1, b"state")
        run.metrics.append(record.trial_id, "tiny", 1, metric_rows(5, range(epoch, epoch + 1)))
        tracker.look()
        assert tracker.warning is None
        assert sent_epochs(run)[record.trial_id] == list(range(1, epoch + 1))
        before = dump(database(run))
        tracker.look()
        assert dump(database(run)) == before
    assert len(searches) == 1

    (child,) = search(run, f"tags.trial_id = '{record.trial_id}'")
    MlflowClient(tracking_uri=default_uri(run.out)).delete_run(child.info.run_id)
    run.write_record(replace(record, state="completed"))
    tracker.look()
    assert tracker.warning is not None
    tracker.look()
    assert tracker.warning is None
    assert len(searches) == 2
    assert sent_epochs(run)[record.trial_id] == [1, 2, 3, 4, 5]
    assert tracker.result is not None
    assert tracker.result.complete
    before = dump(database(run))
    assert sync(run, artifacts=False).metrics_sent == 0
    assert dump(database(run)) == before


def test_a_look_sees_a_restart_a_compaction_and_the_end(tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", trials=0)
    tracker = Tracker(run)
    record = start_trial(run, 1, range(1, 4))
    folder = run.checkpoint_folder(record.trial_id)
    write_checkpoint(folder, 3 * STEPS, 1, b"state")
    tracker.look()
    assert sent_epochs(run) == {record.trial_id: [1, 2, 3]}
    # The checkpoint turned out to be damaged: attempt 2 makes epochs 2 and 3 again.
    claim = claim_attempt(run.out, record.trial_id, STEPS)
    run.metrics.append(record.trial_id, "tiny", claim.attempt, metric_rows(2, range(2, 5)))
    write_checkpoint(folder, 4 * STEPS, claim.attempt, b"state")
    tracker.look()
    assert sent_epochs(run) == {record.trial_id: [1, 2, 3, 4]}
    run.metrics.append(record.trial_id, "tiny", claim.attempt, metric_rows(2, range(5, 6)))
    run.metrics.compact()
    run.metrics.append(record.trial_id, "tiny", claim.attempt, metric_rows(2, range(6, 7)))
    run.write_record(replace(record, state="completed"))
    tracker.look()
    assert sent_epochs(run) == {record.trial_id: [1, 2, 3, 4, 5, 6]}
    stored = run.metrics.load()["test_accuracy"].tolist()
    in_mlflow = query(
        database(run),
        "select value from metrics join runs using (run_uuid) where key = 'test_accuracy' "
        "and lifecycle_stage = 'active' order by step",
    )
    assert [value for (value,) in in_mlflow] == stored
