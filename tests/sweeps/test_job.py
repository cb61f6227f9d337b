"""Whole jobs with real Ray, Parquet and MLflow: what a run leaves, and how it goes on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from storage import InputError, Run, load_distances
from storage.attempts import read_all_claims
from storage.run_progress import read_progress
from sweeps import run_study
from sweeps.job import run_job
from sweeps.study import Study
from topology import nnstd

Small = Callable[..., Study]
pytestmark = pytest.mark.usefixtures("ray_here")


def attempts(run: Run) -> dict[str, int]:
    return {trial_id: len(claims) for trial_id, claims in read_all_claims(run.out).items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Run:
    """A finished run of four trials with two matrices."""
    study = {
        "name": "whole",
        "data": "digits",
        "model": {"name": "mlp", "hidden": [16, 12]},
        "method": {"name": "set", "density": 0.3},
        "optimizer": {"name": "sgd", "lr": 0.02, "batch_size": 128},
        "epochs": 3,
        "snapshot_every": "1ep",
        "space": {"method.name": ["dense", "set"], "seed": [0, 1]},
        "distances": {
            "final": {"steps": "last"},
            "moved": {"steps": "all", "against": "first", "method": "reference"},
        },
    }
    return run_study(study, tmp_path_factory.mktemp("runs") / "whole")


def test_every_trial_completes_with_its_final_metrics(finished: Run) -> None:
    trials = finished.trials()
    assert trials["state"].tolist() == ["completed"] * 4
    last = finished.metrics.load().groupby("trial_id").last()
    for trial in trials.to_dict("records"):
        assert trial["final_test_accuracy"] == last.loc[trial["trial_id"], "test_accuracy"]
    assert sorted(trials["seed"]) == [0, 0, 1, 1]


def test_everything_is_compacted(finished: Run) -> None:
    for table in ("masks", "metrics"):
        assert not list((finished.out / table).glob("staging/*/*.parquet"))
        assert len(list((finished.out / table).glob("compact/*.parquet"))) == 1


def test_the_matrix_holds_the_distances_of_the_stored_masks(finished: Run) -> None:
    matrix = load_distances(finished.out, "final")
    assert len(matrix) == 2  # the dense networks stay out
    (a, b) = (list(finished.masks.load(*key).values()) for key in matrix.index)
    expected = nnstd(a, b, labelled_outputs=True).network
    assert matrix.iloc[0, 1] == pytest.approx(expected, abs=1e-12)
    assert matrix.iloc[0, 0] == 0


def test_the_distance_from_the_start_is_zero_at_the_start_and_then_grows(finished: Run) -> None:
    moved = finished.distances("moved").reset_index()
    for _, one in moved.groupby("trial_id"):
        values = one.sort_values("step")["network"].to_numpy()
        assert values[0] == 0
        assert (values[2:] > 0).all()


def test_mlflow_finds_trials_by_configuration_and_by_final_metrics(finished: Run) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{finished.out.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("whole").experiment_id
    found = client.search_runs(
        [experiment], "params.method_name = 'set' and metrics.test_accuracy > 0.1"
    )
    assert sorted(child.data.tags["trial_id"] for child in found) == sorted(
        finished.trials().query("method_name == 'set'")["trial_id"]
    )
    family = client.search_runs([experiment], f"tags.run_uuid = '{finished.uuid}'")
    assert len(family) == 5  # four children and their parent


def test_the_report_names_every_trial(finished: Run) -> None:
    page = (finished.report_folder / "index.html").read_text()
    assert all(trial_id in page for trial_id in finished.records())


def test_a_finished_run_does_nothing_again_and_a_grown_study_only_what_is_new(
    small: Small, tmp_path: Path
) -> None:
    two = small(space={"seed": [0, 1]}, distances={"final": {}})
    run = run_study(two, tmp_path / "out")
    before = run.metrics.load()
    run_study(two, tmp_path / "out")
    assert set(attempts(run).values()) == {1}
    pd.testing.assert_frame_equal(run.metrics.load(), before)

    run_study(small(space={"seed": [0, 1, 2]}, distances={"final": {}}), tmp_path / "out")
    assert sorted(attempts(run).values()) == [1, 1, 1]
    assert len(load_distances(run.out, "final")) == 3
    after = run.metrics.load()
    pd.testing.assert_frame_equal(
        after[after["trial_id"].isin(before["trial_id"])].reset_index(drop=True), before
    )


def test_another_study_in_out_is_refused_and_nothing_is_touched(
    small: Small, tmp_path: Path
) -> None:
    run_study(small(), tmp_path / "out")
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    others = [
        small(name="other"),
        small(snapshot_every="2ep"),
        small(method={"name": "static", "density": 0.3}),
        small(seed=1),
    ]
    for other in others:
        with pytest.raises(InputError):
            run_study(other, tmp_path / "out")
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


def test_a_folder_of_something_else_is_refused(small: Small, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        run_study(small(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_trial_that_fails_leaves_its_reason_and_the_others_go_on(
    small: Small, tmp_path: Path
) -> None:
    study = small(space={"optimizer.lr": [0.02, 1e30]})
    outcome = run_job(study, tmp_path / "out")
    states = {r.config["optimizer"]["lr"]: r for r in outcome.run.records().values()}
    assert states[0.02].state == "completed"
    assert states[1e30].state == "failed"
    assert "loss" in (states[1e30].reason or "")
    assert "Traceback" in (states[1e30].traceback or "")
    assert outcome.failed == [states[1e30].trial_id]

    run_job(study, tmp_path / "out")
    assert attempts(outcome.run)[states[1e30].trial_id] == 1
    run_job(study, tmp_path / "out", retry_failed=True)
    assert attempts(outcome.run)[states[1e30].trial_id] == 2


def test_trials_that_an_earlier_driver_left_running_are_finished(
    small: Small, tmp_path: Path
) -> None:
    study = small(space={"seed": [0, 1]})
    run = run_study(study, tmp_path / "out")
    one, other = run.records().values()
    run.write_record(replace(one, state="running", metrics={}))
    run_study(study, tmp_path / "out")
    assert run.record(one.trial_id).state == "completed"
    assert attempts(run) == {one.trial_id: 2, other.trial_id: 1}
    assert run.metrics.load().groupby("trial_id").size().tolist() == [4, 4]


def test_asha_stops_trials_that_leave_a_snapshot_and_a_checkpoint(
    small: Small, tmp_path: Path
) -> None:
    study = small(
        epochs=8,
        snapshot_every="8ep",
        checkpoint_every="8ep",
        space={"optimizer.lr": [0.05, 0.02, 1e-5, 1e-6], "seed": [0, 1]},
        scheduler={"name": "asha", "grace_period": 1, "reduction_factor": 2},
    )
    run = run_study(study, tmp_path / "out")
    stopped = [r for r in run.records().values() if r.state == "stopped"]
    completed = [r for r in run.records().values() if r.state == "completed"]
    assert stopped
    assert completed
    index = run.masks.index()
    for record in stopped:
        steps = index.loc[index["trial_id"] == record.trial_id, "step"]
        rows = run.metrics.load([record.trial_id])
        assert steps.max() == rows["step"].max() > 0
        assert rows["epoch"].max() < 8
        assert list(run.checkpoint_folder(record.trial_id).glob("*.pt"))
    again = attempts(run)
    run_study(study, tmp_path / "out")
    assert attempts(run) == again


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
def test_trials_that_stop_early_are_completed_whoever_schedules(
    small: Small, tmp_path: Path, scheduler: str
) -> None:
    study = small(
        epochs=60,
        snapshot_every="50ep",
        checkpoint_every="50ep",
        optimizer={"name": "sgd", "lr": 0.5, "batch_size": 128, "patience": 2},
        space={"seed": [0, 1, 2]},
        scheduler={"name": scheduler, "grace_period": 50} if scheduler == "asha" else {},
        distances={"final": {"steps": "last"}},
    )
    outcome = run_job(study, tmp_path / "out")
    run = outcome.run
    index = run.masks.index()
    last = run.metrics.load().groupby("trial_id")["step"].max()
    for record in run.records().values():
        assert record.state == "completed"
        assert record.metrics["epoch"] < 50
        steps = index.loc[index["trial_id"] == record.trial_id, "step"]
        assert steps.max() == last[record.trial_id] == record.metrics["step"]
        assert run.weights_path(record.trial_id).exists()
    progress = read_progress(run.out)
    assert progress.epochs_done == progress.epochs_total < 150
    chosen = load_distances(run.out, "final").index
    assert sorted(chosen) == sorted(last.items())
    again = attempts(run)
    run_study(study, tmp_path / "out")
    assert attempts(run) == again == dict.fromkeys(run.records(), 1)


def test_optuna_judges_by_validation_and_trains_no_configuration_twice(
    small: Small, tmp_path: Path
) -> None:
    study = small(
        epochs=1,
        space={"method.density": [0.2, 0.4], "model.hidden": {"choice": [[8], [8, 8]]}},
        search={"algorithm": "optuna", "num_samples": 12},
    )
    run = run_study(study, tmp_path / "out")
    assert 1 < len(run.records()) <= 4
    assert set(attempts(run).values()) == {1}
    assert {r.state for r in run.records().values()} == {"completed"}
    run_study(study, tmp_path / "out")
    assert set(attempts(run).values()) == {1}


def test_a_point_that_an_earlier_driver_left_unfinished_may_be_suggested_again(
    small: Small, tmp_path: Path
) -> None:
    space = {"method.density": [0.2, 0.4]}
    search = {"algorithm": "optuna", "num_samples": 1}
    run = run_study(small(epochs=1, space=space, search=search), tmp_path / "out")
    (first,) = run.records().values()
    run.write_record(replace(first, state="pending", metrics={}))
    run_study(small(epochs=1, space=space, search={**search, "num_samples": 8}), tmp_path / "out")
    assert {r.state for r in run.records().values()} == {"completed"}
    assert attempts(run)[first.trial_id] == 2


def test_an_optuna_search_goes_on_with_what_an_earlier_driver_left(
    small: Small, tmp_path: Path
) -> None:
    space = {"optimizer.lr": {"loguniform": [1e-3, 1e-1]}}
    search = {"algorithm": "optuna", "num_samples": 3}
    run = run_study(small(epochs=1, space=space, search=search), tmp_path / "out")
    first = next(iter(run.records().values()))
    run.write_record(replace(first, state="running", metrics={}))
    run_study(small(epochs=1, space=space, search={**search, "num_samples": 5}), tmp_path / "out")
    assert len(run.records()) == 5
    assert sorted(attempts(run).values()) == [1, 1, 1, 1, 2]
    assert {r.state for r in run.records().values()} == {"completed"}


def test_the_same_study_gives_the_same_masks_in_two_runs(small: Small, tmp_path: Path) -> None:
    study = small(space={"seed": [0, 1, 2]})
    one, other = (run_study(study, tmp_path / name) for name in ("one", "other"))
    assert one.uuid != other.uuid
    columns = ["trial_id", "step", "layer", "crc32", "nnz"]
    pd.testing.assert_frame_equal(one.masks.index()[columns], other.masks.index()[columns])


def test_a_gpu_that_is_not_here_is_refused_before_anything_is_made(
    small: Small, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"resources\.gpu"):
        run_study(small(resources={"gpu": 64}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tracking_server_that_is_down_costs_a_warning_and_loses_nothing(
    small: Small, tmp_path: Path
) -> None:
    outcome = run_job(small(), tmp_path / "out", tracking_uri="http://127.0.0.1:9")
    assert not outcome.failed
    assert not outcome.problems
    (warning,) = outcome.warnings
    assert "toposweep sync" in warning
    later = run_job(small(), tmp_path / "out")
    assert not later.warnings


def test_credentials_reach_nothing_in_out(small: Small, tmp_path: Path) -> None:
    uri = "http://someone:hunter2@127.0.0.1:9"
    run_job(small(tracking={"uri": uri}), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path


def test_a_run_describes_itself(finished: Run) -> None:
    info = json.loads((finished.out / "run.json").read_text())
    assert info["study"] == "whole"
    assert {"python", "ray", "torch", "pyarrow"} <= info["versions"].keys()


def test_masks_have_the_exact_number_of_connections(finished: Run) -> None:
    index = finished.masks.index()
    sparse = index[(index["method_name"] == "set") & (index["role"] == "hidden")]
    total = sparse.groupby(["trial_id", "step"])[["nnz"]].sum()["nnz"]
    size = (sparse["n_out"] * sparse["n_in"]).groupby([sparse["trial_id"], sparse["step"]]).sum()
    np.testing.assert_array_equal(total, (0.3 * size).round())


def test_a_job_of_any_kind_needs_a_known_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quickstart"):
        run_study("quickstrat", tmp_path / "out")


def test_failed_trials_stay_out_of_distances_unless_asked_for_by_state(
    small: Small, tmp_path: Path
) -> None:
    study = small(
        space={"optimizer.lr": [0.02, 0.01, 1e30]},
        distances={"final": {}, "all": {"where": "state in ['completed', 'failed']"}},
    )
    outcome = run_job(study, tmp_path / "out")
    assert len(outcome.failed) == 1
    assert len(load_distances(outcome.run.out, "final")) == 2
    assert len(load_distances(outcome.run.out, "all")) == 3
