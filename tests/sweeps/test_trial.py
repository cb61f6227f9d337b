"""A trial in this process: what it commits, and how it goes on after a death."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from storage import Run
from storage.attempts import read_claims
from sweeps.faults import FencedError
from sweeps.study import Study
from sweeps.task import TrialTask
from sweeps.training import TrainingFailed, load_model
from sweeps.training.data import DATASETS, load_dataset
from sweeps.trial import Trial, run_trial
from sweeps.tune_trial import TuneTrial

Small = Callable[..., Study]
Begin = Callable[..., tuple[Run, list[TrialTask]]]


def assert_equal_runs(one: Run, other: Run) -> None:
    """The same snapshots and metrics, each once; columns of time and attempt aside."""
    for table in (lambda run: run.masks.index(), lambda run: run.metrics.load()):
        frames = [
            table(run).drop(columns=["written_at", "attempt", "seconds"], errors="ignore")
            for run in (one, other)
        ]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    for trial_id in one.records():
        a, b = (load_file(run.weights_path(trial_id)) for run in (one, other))
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_every_snapshot_and_metric_is_there_once(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small(snapshot_every="2ep", epochs=5))
    result = run_trial(task)
    steps = task_steps(run, task)
    assert run.masks.index()["step"].drop_duplicates().tolist() == [
        0, 2 * steps, 4 * steps, 5 * steps]  # fmt: skip
    metrics = run.metrics.load()
    assert metrics["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert metrics["test_accuracy"].iloc[-1] == result["test_accuracy"]


def task_steps(run: Run, task: TrialTask) -> int:
    return run.record(task.trial_id).steps_per_epoch


def test_snapshots_in_the_middle_of_an_epoch(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small(snapshot_every="7it", checkpoint_every="5it", epochs=2))
    run_trial(task)
    total = 2 * task_steps(run, task)
    expected = sorted({*range(0, total + 1, 7), total})
    assert run.masks.index()["step"].drop_duplicates().tolist() == expected


def test_each_round_of_a_lottery_ends_with_a_snapshot_of_its_ticket(
    small: Small, begin: Begin
) -> None:
    method = {"name": "lottery", "density": 0.25, "rounds": 2}
    run, (task,) = begin(small(method=method, epochs=6, snapshot_every="6ep"))
    run_trial(task)
    index = run.masks.index(with_config=False)
    hidden = index[index["layer"] == "hidden_1"].set_index("step")["nnz"]
    per_epoch = task_steps(run, task)
    assert hidden.index.tolist() == [0, 2 * per_epoch, 4 * per_epoch, 6 * per_epoch]
    assert hidden.tolist() == [1024, 1024, 512, 256]


@pytest.mark.parametrize("method", [{"name": "dense"}, {"name": "static"}, {"name": "set"}])
@pytest.mark.parametrize("checkpoint_every", ["1ep", "2ep", "5it"])
def test_a_trial_that_died_ends_as_one_that_did_not(
    small: Small, begin: Begin, method: dict[str, Any], checkpoint_every: str
) -> None:
    study = small(method=method, checkpoint_every=checkpoint_every, snapshot_every="4it")
    undisturbed, (task,) = begin(study, "undisturbed")
    run_trial(task)
    run, (task,) = begin(study, "disturbed")
    for epochs in (1, 2):  # three lives: the first two end without a word
        trial = Trial(task)
        for _ in range(epochs):
            trial.step()
    run_trial(task)
    assert len(read_claims(run.out, task.trial_id)) == 3
    assert_equal_runs(run, undisturbed)


def run_to_end(trial: Trial) -> None:
    while not trial.step()["done"]:
        pass


class Killed(BaseException):
    """Ends a trial where a SIGKILL might."""


@pytest.mark.parametrize("victim", range(0, 40, 3))
def test_dying_at_any_step_loses_and_doubles_nothing(
    small: Small, begin: Begin, victim: int
) -> None:
    study = small(snapshot_every="3it", checkpoint_every="5it")
    undisturbed, (task,) = begin(study, "undisturbed")
    run_trial(task)
    run, (task,) = begin(study, "disturbed")
    trial = Trial(task)
    committed = trial._on_step

    def on_step(step: int) -> None:
        committed(step)
        if step == victim:
            raise Killed

    trial._on_step = on_step  # type: ignore[method-assign]
    try:
        while not trial.finished:
            trial.step()
    except Killed:
        pass
    run_trial(task)
    assert_equal_runs(run, undisturbed)


@pytest.mark.parametrize("method", [{"name": "set"}, {"name": "rigl"}, {"name": "gmp"}])
def test_by_connections_alone_a_trial_that_died_ends_as_one_that_did_not(
    small: Small, begin: Begin, method: dict[str, Any]
) -> None:
    if method["name"] != "set":
        method = {**method, "update_every": "6it"}
    resources = {"compute": "sparse"}
    study = small(method=method, checkpoint_every="5it", snapshot_every="4it", resources=resources)
    undisturbed, (task,) = begin(study, "undisturbed")
    run_trial(task)
    run, (task,) = begin(study, "disturbed")
    trial = Trial(task)
    assert trial.training.compute == "sparse"
    trial.step()
    run_trial(task)
    assert_equal_runs(run, undisturbed)


STOPS_EARLY = {"name": "sgd", "lr": 0.5, "batch_size": 128, "patience": 2}


def stopping_early(small: Small) -> Study:
    """A study of a trial that ends between two snapshots and two checkpoints."""
    return small(optimizer=STOPS_EARLY, epochs=60, snapshot_every="50ep", checkpoint_every="50ep")


def test_a_trial_that_stops_early_leaves_its_last_snapshot_and_its_weights(
    small: Small, begin: Begin
) -> None:
    run, (task,) = begin(stopping_early(small))
    result = run_trial(task)
    epochs, last = result["epoch"], result["epoch"] * task_steps(run, task)
    assert epochs < 50
    assert result["step"] == last
    index = run.masks.index()
    assert index["step"].drop_duplicates().tolist() == [0, last]
    assert index["epoch"].max() == epochs
    assert run.metrics.load()["epoch"].tolist() == list(range(1, epochs + 1))
    weights = load_file(run.weights_path(task.trial_id))
    stored = run.masks.load(task.trial_id, last)["hidden_1"].toarray()
    assert not weights["linear.hidden_1.weight"][stored == 0].any()


@pytest.mark.parametrize("lived", [1, 3, "all but the weights"])
def test_a_trial_that_died_stops_early_where_it_would_have(
    small: Small, begin: Begin, lived: int | str
) -> None:
    study = stopping_early(small)
    undisturbed, (task,) = begin(study, "undisturbed")
    run_trial(task)
    study = study.model_copy(update={"checkpoint_every": "1ep"})
    run, (task,) = begin(study, "disturbed")
    trial = Trial(task)
    if isinstance(lived, int):
        for _ in range(lived):
            trial.step()
    else:
        trial._finish = lambda: None  # type: ignore[method-assign]
        run_to_end(trial)
        assert not run.weights_path(task.trial_id).exists()
    run_trial(task)
    assert_equal_runs(run, undisturbed)


def test_a_trial_goes_on_by_connections_alone_where_it_began_with_masks(
    small: Small, begin: Begin
) -> None:
    whole, (task,) = begin(small(), "whole")
    run_trial(task)
    run, (task,) = begin(small(), "changed")
    Trial(task).step()
    run_trial(replace(task, compute="sparse"))
    one, other = (r.metrics.load()["test_loss"].to_numpy() for r in (whole, run))
    np.testing.assert_allclose(one, other, rtol=1e-3)
    a, b = (load_file(r.weights_path(task.trial_id)) for r in (whole, run))
    for name, values in a.items():
        np.testing.assert_allclose(values, b[name], rtol=1e-2, atol=1e-4)


def test_stopping_early_is_the_trials_own_end(small: Small, begin: Begin) -> None:
    _, (task,) = begin(stopping_early(small))
    actor = TuneTrial(tune_config(task))
    results = [actor.step()]
    while not results[-1]["done"]:
        results.append(actor.step())
    assert [result.get("completed") for result in results] == [False] * (len(results) - 1) + [True]
    assert actor.save_checkpoint("") == {}


def test_a_writer_that_should_be_dead_changes_nothing(small: Small, begin: Begin) -> None:
    study = small(checkpoint_every="2ep")
    undisturbed, (task,) = begin(study, "undisturbed")
    run_trial(task)
    run, (task,) = begin(study, "disturbed")
    zombie = Trial(task)
    zombie.step()
    run_trial(task)
    with pytest.raises(FencedError):
        run_to_end(zombie)
    assert_equal_runs(run, undisturbed)


def test_a_damaged_checkpoint_sends_the_trial_to_the_one_before(small: Small, begin: Begin) -> None:
    study = small()
    undisturbed, (task,) = begin(study, "undisturbed")
    run_trial(task)
    run, (task,) = begin(study, "disturbed")
    trial = Trial(task)
    for _ in range(3):
        trial.step()
    newest = max(run.checkpoint_folder(task.trial_id).glob("*.pt"))
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(bytes(damaged))
    again = Trial(task)
    assert again.claim.first_step == 2 * again.training.steps_per_epoch
    assert newest.name in run.log_path(task.trial_id).read_text()
    run_to_end(again)
    assert_equal_runs(run, undisturbed)


def test_a_stopped_trial_leaves_its_last_snapshot_and_checkpoint(
    small: Small, begin: Begin
) -> None:
    run, (task,) = begin(small(snapshot_every="3ep", checkpoint_every="3ep"))
    trial = Trial(task)
    trial.step()
    trial.stop_here()
    step = trial.training.step
    assert run.masks.index()["step"].max() == step
    assert Trial(task).claim.first_step == step
    assert run.metrics.load()["epoch"].tolist() == [1]


def test_final_weights_load_back_in_one_line(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small())
    result = run_trial(task)
    model = load_model(run.weights_path(task.trial_id))
    data = load_dataset(DATASETS["digits"].Settings())
    with torch.no_grad():
        right = model(torch.from_numpy(data.x_test)).argmax(1).numpy() == data.y_test
    assert right.mean() == pytest.approx(result["test_accuracy"])


def tune_config(task: TrialTask) -> dict[str, Any]:
    return {"task": asdict(task)}


def test_a_reset_trial_equals_a_fresh_one(small: Small, begin: Begin) -> None:
    study = small(space={"seed": [0, 1], "method.name": ["set", "dense"]})
    fresh, tasks = begin(study, "fresh")
    for task in tasks:
        run_trial(task)
    reused, tasks = begin(study, "reused")
    actor = TuneTrial(tune_config(tasks[0]))
    for number, task in enumerate(tasks):
        if number:
            assert actor.reset_config(tune_config(task))
        while not actor.step()["done"]:
            pass
    actor.cleanup()
    assert_equal_runs(reused, fresh)


def test_a_loss_that_is_not_finite_is_a_result_with_its_reason(small: Small, begin: Begin) -> None:
    study = small(optimizer={"name": "sgd", "lr": 1e30, "batch_size": 128})
    run, (task,) = begin(study)
    actor = TuneTrial(tune_config(task))
    result = actor.step()
    assert result["done"]
    assert result["failed"]
    assert "epoch 1" in result["failure"]["reason"]
    assert "Traceback" in result["failure"]["traceback"]
    assert result["failure"]["reason"] in run.log_path(task.trial_id).read_text()


def test_a_trial_that_falls_apart_is_a_failed_one_with_its_metrics_kept(
    small: Small, begin: Begin
) -> None:
    run, (task,) = begin(small(epochs=20, method={"name": "set", "density": 0.8}))
    actor = TuneTrial(tune_config(task))
    for _ in range(6):
        actor.step()
    assert actor._trial is not None
    training = actor._trial.training
    training.parameters.values[: training.parameters.n_weights] = 0.0
    training.optimizer.slots["momentum"].zero_()
    for _ in range(5):
        result = actor.step()
    assert result["done"]
    assert result["failed"]
    assert result["failure"]["reason"].startswith("accuracy fell to chance after 0.")
    assert run.metrics.load()["epoch"].tolist() == list(range(1, 11))


def test_a_trial_that_cannot_begin_is_a_result_too(small: Small, begin: Begin) -> None:
    _, (task,) = begin(small())
    actor = TuneTrial(tune_config(replace(task, device="nonsense")))
    result = actor.step()
    assert result["failed"]
    assert "device" in result["failure"]["reason"]


def test_a_process_that_never_runs_its_trial_claims_nothing(small: Small, begin: Begin) -> None:
    # Tune starts a process for a trial, then hands the trial to one that has become free.
    run, (task,) = begin(small())
    TuneTrial(tune_config(task)).cleanup()
    assert read_claims(run.out, task.trial_id) == []


def test_a_trial_that_has_ended_cannot_begin_again(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small())
    run_trial(task)
    run.write_record(replace(run.record(task.trial_id), state="completed"))
    with pytest.raises(FencedError):
        Trial(task)
    assert len(read_claims(run.out, task.trial_id)) == 1


def test_what_was_measured_before_a_failure_is_kept(small: Small, begin: Begin) -> None:
    run, (task,) = begin(small(checkpoint_every="4ep", snapshot_every="4ep"))
    trial = Trial(task)
    trial.step()
    trial.training.parameters.values.fill_(float("nan"))
    with pytest.raises(TrainingFailed):
        trial.step()
    assert run.metrics.load()["epoch"].tolist() == [1]


def test_a_fenced_trial_is_not_a_failed_one(small: Small, begin: Begin) -> None:
    # Tune starts it again; as a result it would be failed for good.
    _, (task,) = begin(small())
    actor = TuneTrial(tune_config(task))
    actor.step()
    Trial(task)
    with pytest.raises(FencedError):
        actor.step()
