import json
import math

import pandas as pd
import pytest
from snapshots import append, trial

from storage import CorruptFile, InputError, Run
from storage.attempts import claim_attempt
from storage.records import flatten_config, merged_order
from storage.runs import TrialRecord


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "out", "tiny", "name: tiny\n", {"toposweep": "0.1"})


def record(number, **changes):
    fields = {
        "trial_id": trial(number), "study": "tiny", "config": {"seed": number},
        "state": "completed",
        "steps_per_epoch": 10, "total_steps": 30, "updated_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return TrialRecord(**{**fields, **changes})


def test_a_run_is_found_again_as_it_was_made(run):
    again = Run.open(run.out)
    assert again.info == run.info
    assert (again.study, again.uuid) == ("tiny", run.uuid)
    assert again.study_path.read_text() == "name: tiny\n"
    assert again.info["versions"] == {"toposweep": "0.1"}
    assert again.info["schema_version"] == 1


def test_two_runs_of_a_study_have_different_uuids(tmp_path):
    one, other = (Run.create(tmp_path / name, "s", "", {}) for name in "ab")
    assert one.uuid != other.uuid


def test_a_folder_without_a_run_costs_one_line(tmp_path, run):
    with pytest.raises(InputError, match=r"^no run in .*elsewhere: run\.json is missing$"):
        Run.open(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="holds a run already"):
        Run.create(run.out, "tiny", "", {})


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"uuid": 1}'])
def test_a_damaged_run_json_is_named(run, content):
    (run.out / "run.json").write_text(content)
    with pytest.raises(CorruptFile, match=r"run\.json"):
        Run.open(run.out)


def test_a_run_of_a_later_version_is_refused(run):
    info = {**run.info, "schema_version": 2}
    (run.out / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="schema version 2 cannot be read"):
        Run.open(run.out)


def test_records_come_back(run):
    failed = record(2, state="failed", reason="loss is nan", traceback="line 1\nline 2")
    done = record(1, metrics={"loss": 0.5, "odd": math.inf})
    for each in (failed, done):
        run.write_record(each)
    assert list(run.records()) == [trial(1), trial(2)]
    assert run.record(trial(2)) == failed
    read = run.record(trial(1))
    assert read.metrics["loss"] == 0.5
    assert math.isnan(read.metrics["odd"])


def test_a_trial_that_is_not_there_costs_one_line(run):
    run.write_record(record(1))
    with pytest.raises(InputError, match=r"has no such trial, it has 1$"):
        run.record(trial(2))
    with pytest.raises(InputError, match="is not 12 hex digits"):
        run.record("../../run")


@pytest.mark.parametrize(
    "change",
    [
        {"state": "odd"}, {"trial_id": trial(3)}, {"config": []}, {"metrics": {"a": "b"}},
        {"metrics": []}, {"more": 1},
    ],
)  # fmt: skip
def test_a_damaged_record_is_named(run, change):
    run.write_record(record(1))
    path = run.out / "trials" / f"{trial(1)}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CorruptFile) as error:
        run.records()
    assert error.value.path == str(path)


def test_the_table_of_trials_has_configuration_and_final_metrics(run):
    run.write_record(record(1, config={"method": {"name": "dense"}, "seed": 0}))
    run.write_record(
        record(
            2,
            config={"method": {"name": "set", "density": 0.1}, "seed": 0},
            metrics={"test_accuracy": 0.9},
        )
    )
    table = run.trials()
    assert list(table.columns) == [
        "trial_id", "state", "reason", "method_name", "method_density", "seed",
        "final_test_accuracy",
    ]  # fmt: skip
    assert table.final_test_accuracy.tolist()[1] == 0.9
    assert pd.isna(table.method_density[0])


def test_a_run_without_trials_has_an_empty_table(run):
    assert list(run.trials().columns) == ["trial_id", "state", "reason"]
    assert run.trials().empty


def test_paths_stay_inside_the_run(run):
    assert run.log_path(trial(1)) == run.out / "logs" / f"{trial(1)}.log"
    assert run.weights_path(trial(1)).parent == run.checkpoint_folder(trial(1))
    for path in (run.log_path, run.checkpoint_folder, run.weights_path):
        with pytest.raises(InputError, match="is not 12 hex digits"):
            path("../escape")


def test_verify_names_every_bad_file_of_the_run(run):
    run.write_record(record(1))
    claim_attempt(run.out, trial(1), -1)
    claim_attempt(run.out, trial(2), -1)
    mask = append(run.masks, trial(1), 0)
    assert run.verify() == []
    bad = [
        run.out / "trials" / f"{trial(1)}.json",
        run.out / "attempts" / trial(1) / "1.json",
        run.out / "attempts" / trial(2) / "1.json",
        mask,
    ]
    for path in bad:
        path.write_bytes(b"")
    assert [problem.path for problem in run.verify()] == [str(path) for path in bad]


def test_configurations_are_flattened():
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, {"f": 2}], "g": True}
    assert flatten_config(nested) == {"a_b_c": 1, "a_d": None, "e": '[1, {"f": 2}]', "g": True}
    with pytest.raises(InputError, match="two keys have the flat name a_b"):
        flatten_config({"a_b": 1, "a": {"b": 2}})


def test_columns_of_different_trials_are_merged_in_their_order():
    rows = [
        ["name", "seed"],
        ["name", "density", "growth", "seed"],
        ["first", "name", "drop", "seed"],
    ]
    assert merged_order(rows) == ["first", "name", "drop", "density", "growth", "seed"]
