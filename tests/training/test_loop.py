"""The loop: what is trained, what is reported, and that nothing else decides the result."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from storage.errors import InputError
from sweeps.training import Training, TrainingFailed

Config = dict[str, Any]
ConfigOf = Callable[..., Config]
Outcome = Callable[[Training], dict[str, Any]]

METHODS = ["dense", "static", "set"]


def run(training: Training) -> list[dict[str, float]]:
    rows = []
    while not training.finished:
        row = training.run_epoch()
        del row["seconds"]
        rows.append(row)
    return rows


def masks_by_step(training: Training) -> list[dict[str, np.ndarray]]:
    """The masks before the first step and after each one."""
    seen = [{name: mask for name, mask, _, _ in training.masks()}]
    while not training.finished:
        training.run_epoch(
            lambda step: seen.append({name: mask for name, mask, _, _ in training.masks()})
        )
    return seen


def differ(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return any((a[name] != b[name]).any() for name in a)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", ["relu", "srelu"])
def test_the_same_trial_twice_is_equal_to_the_last_bit(
    config_of: ConfigOf, outcome: Outcome, method: str, activation: str
) -> None:
    config = config_of(method, model={"activation": activation})
    first, second = Training(config), Training(config)
    assert run(first) == run(second)
    assert outcome(first) == outcome(second)


def test_a_fresh_process_gives_what_a_used_one_gives(config_of: ConfigOf, outcome: Outcome) -> None:
    other = Training(config_of("set", seeds={"topology": 5, "weights": 6, "data": 7}))
    other.run_epoch()
    torch.manual_seed(1234)
    np.random.seed(99)
    config = config_of("set")
    here = Training(config)
    rows = run(here)
    script = (
        "import hashlib, json, sys\n"
        "from sweeps.training import Training\n"
        "training = Training(json.loads(sys.argv[1]))\n"
        "rows = []\n"
        "while not training.finished:\n"
        "    rows.append(training.run_epoch())\n"
        "    del rows[-1]['seconds']\n"
        "values = training.state_dict()['values'].numpy().tobytes()\n"
        "print(json.dumps([rows, hashlib.sha256(values).hexdigest()]))\n"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", script, json.dumps(config)],
        capture_output=True,
        text=True,
        check=True,
    )
    values = hashlib.sha256(here.state_dict()["values"].numpy().tobytes()).hexdigest()
    assert json.loads(fresh.stdout) == [rows, values]


def test_global_random_generators_are_neither_used_nor_touched(config_of: ConfigOf) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    run(Training(config_of("set", model={"activation": "srelu"})))
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == numpy_before


def test_methods_with_the_same_seeds_share_batches_first_masks_and_first_draws(
    config_of: ConfigOf,
) -> None:
    dense, static, evolving = (Training(config_of(method)) for method in METHODS)
    for other in (static, evolving):
        for ours, theirs in zip(dense.batches(1), other.batches(1), strict=True):
            assert torch.equal(ours, theirs)
    for (_, mask, _, _), (_, same, _, _) in zip(static.masks(), evolving.masks(), strict=True):
        assert (mask == same).all()
    assert torch.equal(static.parameters.values, evolving.parameters.values)
    for name, mask, _, _ in static.masks():
        start = dense.model.weight(name).detach().numpy() * np.sqrt(mask.shape[1])
        fan_in = np.maximum(mask.sum(axis=1, keepdims=True), 1)
        sparse_start = static.model.weight(name).detach().numpy() * np.sqrt(fan_in)
        np.testing.assert_allclose(sparse_start, np.where(mask, start, 0), rtol=1e-5)


@pytest.mark.parametrize("stream", ["topology", "weights", "data"])
def test_each_seed_moves_its_own_stream_and_no_other(config_of: ConfigOf, stream: str) -> None:
    base = Training(config_of("set"))
    moved = Training(config_of("set", seeds={stream: 1}))
    equal = {
        "topology": all(
            (a[1] == b[1]).all() for a, b in zip(base.masks(), moved.masks(), strict=True)
        ),
        # The output layer is dense: its start depends on the weights' draws alone.
        "weights": torch.equal(base.model.weight("output"), moved.model.weight("output")),
        "data": torch.equal(base.batches(0)[0], moved.batches(0)[0]),
    }
    assert equal == {name: name != stream for name in equal}


def test_the_topology_changes_before_the_first_step_of_each_epoch_but_the_first(
    config_of: ConfigOf,
) -> None:
    training = Training(config_of("set", epochs=4))
    seen = masks_by_step(training)
    changed = [step for step in range(1, len(seen)) if differ(seen[step - 1], seen[step])]
    assert changed == [epoch * training.steps_per_epoch + 1 for epoch in (1, 2, 3)]


def test_an_interval_in_steps_is_kept_across_epochs(config_of: ConfigOf) -> None:
    training = Training(config_of("set", method={"update_every": "5it"}, epochs=2))
    seen = masks_by_step(training)
    changed = [step for step in range(1, len(seen)) if differ(seen[step - 1], seen[step])]
    assert changed == list(range(6, training.total_steps + 1, 5))


@pytest.mark.parametrize("method", ["dense", "static"])
def test_what_is_not_meant_to_change_never_does(config_of: ConfigOf, method: str) -> None:
    seen = masks_by_step(Training(config_of(method)))
    assert not any(differ(seen[0], masks) for masks in seen)


@pytest.mark.parametrize("mask_output", [False, True])
def test_density_is_what_was_asked_for_to_the_connection_at_every_step(
    config_of: ConfigOf, mask_output: bool
) -> None:
    training = Training(config_of("set", method={"density": 0.13, "mask_output": mask_output}))
    sizes = [64 * 24, 24 * 16] + [16 * 10] * mask_output
    for masks in masks_by_step(training):
        counts = [int(mask.sum()) for mask in masks.values()]
        assert sum(counts[: len(sizes)]) == round(0.13 * sum(sizes))
        if not mask_output:
            assert masks["output"].all()


def test_metrics_of_the_topology_are_those_of_the_masks(config_of: ConfigOf) -> None:
    config = config_of("set", method={"update_every": "4it"})
    training = Training(config)
    ever = {name: mask for name, mask, _, _ in training.masks()}
    before = dict(ever)
    for _ in range(3):
        changed = 0

        def watch(step: int) -> None:
            nonlocal changed, before
            now = {name: mask for name, mask, _, _ in training.masks()}
            changed += sum(int((now[name] & ~before[name]).sum()) for name in now)
            for name, mask in now.items():
                ever[name] = ever[name] | mask
            before = now

        metrics = training.run_epoch(watch)
        hidden = ["hidden_1", "hidden_2"]
        size = sum(before[name].size for name in hidden)
        assert metrics["connections_changed"] == changed > 0
        assert metrics["density"] == sum(before[name].sum() for name in hidden) / size
        assert metrics["exploration"] == sum(ever[name].sum() for name in hidden) / size
        assert metrics["connections"] == sum(mask.sum() for mask in before.values())
        for name, mask in before.items():
            assert metrics[f"density_{name}"] == mask.mean()


def test_a_dense_network_has_density_and_exploration_one(config_of: ConfigOf) -> None:
    metrics = Training(config_of("dense")).run_epoch()
    assert metrics["density"] == metrics["exploration"] == 1.0
    assert metrics["connections"] == 64 * 24 + 24 * 16 + 16 * 10


def test_weights_and_slots_off_the_mask_are_exactly_zero(config_of: ConfigOf) -> None:
    training = Training(config_of("set", method={"update_every": "3it"}))

    def check(step: int) -> None:
        for index, (name, mask, _, _) in enumerate(training.masks()[:2]):
            weights = training.model.weight(name)
            assert not weights.detach().numpy()[~mask].any(), (index, step)
            where = training.parameters.where(name)
            slot = training.optimizer.slots["momentum"][where].numpy()
            assert not slot[~mask.ravel()].any()

    while not training.finished:
        training.run_epoch(check)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("new_weights", ["zero", "normal", "he_uniform"])
def test_new_connections_start_without_memory_and_kept_ones_keep_theirs(
    config_of: ConfigOf, optimizer: str, new_weights: str
) -> None:
    config = config_of("set", method={"new_weights": new_weights})
    config["optimizer"] = {"name": optimizer, "batch_size": 100}
    training = Training(config)
    training.run_epoch()
    old_values = training.parameters.values.clone()
    old_slots = {name: slot.clone() for name, slot in training.optimizer.slots.items()}
    old_masks = {name: mask for name, mask, _, _ in training.masks()}
    training._update_topology(training.batches(1)[0])
    for name, mask, _, _ in training.masks()[:2]:
        where = training.parameters.where(name)
        new = torch.from_numpy((mask & ~old_masks[name]).ravel())
        values = training.parameters.values[where]
        assert new.any()
        assert bool(values[new].any()) == (new_weights != "zero")
        # Of those that were there before, the ones whose weight stayed were kept with their slots;
        # the others were dropped and grown again.
        kept = torch.from_numpy((mask & old_masks[name]).ravel()) & (values == old_values[where])
        kept &= values != 0
        assert kept.sum() > new.sum()
        for slot_name, slot in training.optimizer.slots.items():
            assert not slot[where][new].any()
            assert torch.equal(slot[where][kept], old_slots[slot_name][where][kept])
            assert not slot[where][torch.from_numpy(~mask.ravel())].any()


def test_an_update_keeps_exactly_the_right_number_of_positive_and_of_negative_weights(
    config_of: ConfigOf,
) -> None:
    config = config_of("set", method={"drop_fraction": 0.37, "mask_output": True})
    training = Training(config)
    training.run_epoch()
    before = {n: training.model.weight(n).detach().clone() for n, *_ in training.masks()}
    counts = {n: mask.sum() for n, mask, *_ in training.masks()}
    training._update_topology(training.batches(1)[0])
    for name, mask, _, _ in training.masks():
        after = training.model.weight(name).detach()
        for sign in (1, -1):
            old, new = before[name] * sign, after * sign
            n = int((old > 0).sum())
            kept = (old > 0) & (new == old)
            assert kept.sum() == n - round(0.37 * n)
            # New connections start at 0: whatever has a weight was kept, the largest of its sign.
            assert torch.equal(new > 0, kept)
            assert old[kept].min() >= old[(old > 0) & ~kept].max()
        assert mask.sum() == counts[name]


def test_train_loss_and_accuracy_are_those_of_the_batches_as_they_came(
    config_of: ConfigOf,
) -> None:
    # At a vanishing learning rate the network stays, so one look at all samples gives the same.
    config = config_of("static", optimizer={"lr": 1e-30, "weight_decay": 0.0})
    training = Training(config)
    x, y, *_ = training.dataset.tensors("cpu")
    order = torch.cat(training.batches(0))
    metrics = training.run_epoch()
    scores = training.model(x[order]).detach()
    assert metrics["train_loss"] == pytest.approx(
        F.cross_entropy(scores, y[order]).item(), rel=1e-5
    )
    hits = (scores.argmax(1) == y[order]).double().mean().item()
    assert metrics["train_accuracy"] == pytest.approx(hits)


def test_validation_samples_are_never_trained_on_and_evaluation_is_of_the_whole_split(
    config_of: ConfigOf,
) -> None:
    training = Training(config_of("set"))
    x, y, x_test, y_test = training.dataset.tensors("cpu")
    metrics = training.run_epoch()
    trained = set(torch.cat(training.batches(0)).tolist())
    held_out = sorted(set(range(len(y))) - trained)
    assert len(held_out) == round(0.1 * len(y))
    for name, inputs, labels in (
        ("validation", x[held_out], y[held_out]),
        ("test", x_test, y_test),
    ):
        scores = training.model(inputs).detach()
        assert metrics[f"{name}_loss"] == pytest.approx(F.cross_entropy(scores, labels).item())
        hits = (scores.argmax(1) == labels).double().mean().item()
        assert metrics[f"{name}_accuracy"] == pytest.approx(hits)


def test_without_a_split_there_are_no_validation_metrics(config_of: ConfigOf) -> None:
    metrics = Training(config_of("dense", data={"validation": 0.0})).run_epoch()
    assert not [name for name in metrics if name.startswith("validation")]


def test_dense_reaches_95_percent_on_digits_in_few_epochs(config_of: ConfigOf) -> None:
    config = config_of("dense", model={"hidden": [64, 64]}, optimizer={"batch_size": 32}, epochs=8)
    assert run(Training(config))[-1]["test_accuracy"] > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_an_infinite_loss_ends_the_training_and_names_the_step(
    config_of: ConfigOf, method: str
) -> None:
    training = Training(config_of(method, optimizer={"lr": 1e12}))
    with pytest.raises(TrainingFailed, match=r"^loss is (nan|inf) at epoch 1, step \d+$") as caught:
        run(training)
    assert int(str(caught.value).split()[-1]) == training.step + 1


def test_weights_spoiled_by_the_very_last_step_end_the_training_too(config_of: ConfigOf) -> None:
    config = config_of("dense", optimizer={"lr": 1e38, "batch_size": 1290}, epochs=1)
    with pytest.raises(TrainingFailed, match=r"_loss is (nan|inf) at epoch 1, step 1$"):
        run(Training(config))


def test_other_data_than_the_configuration_was_made_with_is_refused(config_of: ConfigOf) -> None:
    config = config_of("dense", data={"checksum": "0123456789abcdef"})
    with pytest.raises(InputError, match=r"^data\.checksum: '0123456789abcdef' is not allowed"):
        Training(config)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", ""])
def test_an_unknown_device_is_wrong_input(config_of: ConfigOf, device: str) -> None:
    with pytest.raises(InputError, match=r"^device: "):
        Training(config_of("dense"), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_gpu_that_is_not_there_is_wrong_input(config_of: ConfigOf) -> None:
    with pytest.raises(InputError, match="torch finds no CUDA device"):
        Training(config_of("dense"), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_masks_and_first_weights_are_those_of_the_cpu_and_training_works(
    config_of: ConfigOf, method: str
) -> None:
    config = config_of(method, epochs=8)
    on_cpu, on_gpu = Training(config), Training(config, device="cuda")
    assert torch.equal(on_cpu.parameters.values, on_gpu.parameters.values.cpu())
    for ours, theirs in zip(on_cpu.masks(), on_gpu.masks(), strict=True):
        assert (ours[1] == theirs[1]).all()
    resumed = Training(config, device="cuda")
    resumed.load_state_dict(on_gpu.state_dict())
    rows = run(on_gpu)
    assert rows[-1]["test_accuracy"] > 0.85
    assert run(resumed)[-1]["connections"] == rows[-1]["connections"]
    with pytest.raises(TrainingFailed, match=r"loss is (nan|inf) at epoch 1, step \d+$"):
        run(Training(config_of(method, optimizer={"lr": 1e12}), device="cuda"))


def test_a_finished_training_cannot_go_on(config_of: ConfigOf) -> None:
    training = Training(config_of("dense", epochs=1))
    training.run_epoch()
    assert training.finished
    assert training.epoch == 1
    with pytest.raises(ValueError, match="steps are done"):
        training.run_epoch()


def test_one_torch_thread_unless_told_otherwise(config_of: ConfigOf) -> None:
    torch.set_num_threads(2)
    training = Training(config_of("dense"))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    training.run_epoch()
    assert torch.get_num_threads() == 1


def test_masks_are_copies_with_role_and_orientation(config_of: ConfigOf) -> None:
    training = Training(config_of("set"))
    layers = training.masks()
    assert [(name, mask.shape, role, group) for name, mask, role, group in layers] == [
        ("hidden_1", (24, 64), "hidden", 1),
        ("hidden_2", (16, 24), "hidden", 1),
        ("output", (10, 16), "output", 1),
    ]
    layers[0][1][:] = True
    assert not training.masks()[0][1].all()
