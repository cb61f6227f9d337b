"""Each method's topology against a reading of its definition, weight by weight."""

from collections.abc import Callable
from math import cos, pi
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from storage.errors import InputError
from sweeps.training import Training, check_training, load_dataset
from sweeps.training.data import DigitsSettings

Config = dict[str, Any]
ConfigOf = Callable[..., Config]
HIDDEN = ["hidden_1", "hidden_2"]


def masks(training: Training) -> dict[str, np.ndarray]:
    return {name: mask for name, mask, _, _ in training.masks()}


def weights(training: Training) -> dict[str, np.ndarray]:
    return {name: training.model.weight(name).detach().numpy().copy() for name in masks(training)}


def dense_gradients(training: Training, batch: torch.Tensor) -> dict[str, np.ndarray]:
    """Of all weights, by a network written out here."""
    dataset = load_dataset(DigitsSettings())
    own = {name: torch.from_numpy(w).requires_grad_() for name, w in weights(training).items()}
    biases = {name: linear.bias.detach() for name, linear in training.model.linear.items()}
    x = torch.from_numpy(dataset.x_train)[batch].flatten(1)
    for name in HIDDEN:
        x = F.relu(x @ own[name].T + biases[name])
    scores = x @ own["output"].T + biases["output"]
    F.cross_entropy(scores, torch.from_numpy(dataset.y_train)[batch]).backward()
    return {name: weight.grad.numpy() for name, weight in own.items()}  # type: ignore[union-attr]


def smallest(values: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """Where the ``count`` smallest of |values| are, one after the other."""
    left, chosen = np.flatnonzero(among).tolist(), np.zeros(values.size, dtype=bool)
    flat = np.abs(values.ravel())
    for _ in range(count):
        best = min(left, key=lambda position: (flat[position], position))
        chosen[best] = True
        left.remove(best)
    return chosen.reshape(values.shape)


def test_rigl_drops_the_smallest_and_grows_where_the_next_batchs_gradient_is_largest(
    config_of: ConfigOf,
) -> None:
    config = config_of("rigl", method={"update_every": "1ep", "drop_fraction": 0.4})
    training = Training(config)
    training.run_epoch()
    before, old = masks(training), weights(training)
    batch = training.batches(1)[0]
    gradients = dense_gradients(training, batch)
    values = training.parameters.values.clone()
    training._update_topology(batch)
    fraction = 0.2 * (1 + cos(pi * training.step / round(0.75 * training.total_steps)))
    for name in HIDDEN:
        count = round(fraction * before[name].sum())
        dropped = smallest(old[name], before[name], count)
        kept = before[name] & ~dropped
        grown = smallest(1 / (np.abs(gradients[name]) + 1e-30), ~kept, count)
        assert count > 3
        assert (masks(training)[name] == (kept | grown)).all()
        assert (weights(training)[name][kept] == old[name][kept]).all()
        assert not weights(training)[name][~kept].any()
    rest = slice(training.parameters.n_masked, None)
    assert torch.equal(training.parameters.values[rest], values[rest])


def test_rigl_stops_at_three_quarters_of_training(config_of: ConfigOf) -> None:
    training = Training(config_of("rigl", method={"update_every": "2it"}, epochs=4))
    changes: dict[int, bool] = {}
    last = masks(training)

    def watch(step: int) -> None:
        nonlocal last
        now = masks(training)
        changes[step] = any((now[name] != last[name]).any() for name in now)
        last = now

    while not training.finished:
        training.run_epoch(watch)
    end = round(0.75 * training.total_steps)
    # An update that is due after step s is seen after step s + 1. The cosine ends near zero.
    assert all(changes[step] == (step % 2 == 1) for step in range(3, end - 4))
    assert not any(changes[step] for step in range(end + 1, training.total_steps + 1))


def test_snfs_grows_by_the_mean_of_all_gradients_and_more_where_it_is_larger(
    config_of: ConfigOf,
) -> None:
    training = Training(config_of("snfs", method={"momentum": 0.8}))
    momentum: dict[str, Any] = dict.fromkeys(HIDDEN, 0.0)
    for batch in training.batches(0):
        gradients = dense_gradients(training, batch)
        momentum = {n: 0.8 * momentum[n] + 0.2 * gradients[n] for n in HIDDEN}
        training.train_step(batch)
    before, old = masks(training), weights(training)
    training._update_topology(training.batches(1)[0])
    fraction = 0.25 * (1 + cos(pi / 3))
    means = {n: np.abs(momentum[n][before[n]]).mean() for n in HIDDEN}
    counts = {n: round(fraction * before[n].sum()) for n in HIDDEN}
    now = masks(training)
    for name in HIDDEN:
        kept = before[name] & ~smallest(old[name], before[name], counts[name])
        share = sum(counts.values()) * means[name] / sum(means.values())
        grown = int(now[name].sum() - kept.sum())
        assert abs(grown - share) <= 1
        free = np.sort(np.abs(momentum[name][~kept]))
        assert (kept <= now[name]).all()
        new = now[name] & ~kept
        assert np.abs(momentum[name][new]).min() >= free[-grown] - 1e-7
    assert sum(m.sum() for m in now.values()) == sum(m.sum() for m in before.values())


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_gmp_thins_out_by_the_cubic_law_and_only_ever_takes_the_smallest(
    config_of: ConfigOf, scope: str
) -> None:
    config = config_of("gmp", epochs=4, method={
        "density": 0.1, "scope": scope, "update_every": "5it", "prune_from": 0.25,
    })  # fmt: skip
    training = Training(config)
    sizes = {name: masks(training)[name].size for name in HIDDEN}
    final = {name: round(0.1 * size) for name, size in sizes.items()}
    begin, end = round(0.25 * training.total_steps), round(0.75 * training.total_steps)
    last, old = masks(training), weights(training)
    assert all(mask.all() for mask in last.values())

    def watch(step: int) -> None:
        nonlocal last, old
        now = masks(training)
        done = step - 1
        if not begin < done <= end:
            done = max(begin, min(done, end))
        elif done != end:
            done -= (done - begin) % 5
        gone = 1 - (1 - (done - begin) / (end - begin)) ** 3
        if scope == "layer":
            for name in HIDDEN:
                expected = sizes[name] - round(gone * (sizes[name] - final[name]))
                assert now[name].sum() == expected, (step, name)
        else:
            total = sum(sizes.values()) - round(gone * (sum(sizes.values()) - sum(final.values())))
            assert sum(now[name].sum() for name in HIDDEN) == total
        taken = [np.abs(old[n][last[n] & ~now[n]]) for n in HIDDEN]
        stayed = [np.abs(old[n][now[n]]) for n in HIDDEN]
        if scope == "global":
            taken, stayed = [np.concatenate(taken)], [np.concatenate(stayed)]
        for a, b in zip(taken, stayed, strict=True):
            assert not len(a) or a.max() <= b.min() + 1e-12
        assert all((now[n] <= last[n]).all() for n in now)
        last, old = now, weights(training)

    while not training.finished:
        training.run_epoch(watch)
    assert sum(last[name].sum() for name in HIDDEN) == sum(final.values())


@pytest.mark.parametrize(("rewind_to", "step"), [("0it", 0), ("5it", 5), ("1ep", 13)])
def test_lottery_tickets_begin_each_round_with_an_early_steps_weights(
    config_of: ConfigOf, rewind_to: str, step: int
) -> None:
    config = config_of("lottery", epochs=6, method={
        "density": 0.2, "rounds": 2, "rewind_to": rewind_to,
    })  # fmt: skip
    training = Training(config)
    early = weights(training)
    round_steps = training.total_steps // 3

    def watch(now: int) -> None:
        nonlocal early
        if now == step:
            early = weights(training)

    for number in (1, 2):
        for _ in range(2):
            training.run_epoch(watch)
        assert training.step == number * round_steps
        state = training.state_dict()
        end, before = weights(training), masks(training)
        training._update_topology(training.batches(training.epoch)[0])
        for name in HIDDEN:
            size = before[name].size
            left = round(size * (round(0.2 * size) / size) ** (number / 2))
            dropped = smallest(end[name], before[name], int(before[name].sum()) - left)
            ticket = before[name] & ~dropped
            assert (masks(training)[name] == ticket).all()
            assert (weights(training)[name] == np.where(ticket, early[name], 0)).all()
        assert (weights(training)["output"] == early["output"]).all()
        assert not any(slot.any() for slot in training.optimizer.slots.values())
        training.load_state_dict(state)  # the epoch to come makes the update itself


def test_lottery_rounds_must_divide_the_epochs(config_of: ConfigOf) -> None:
    dataset = load_dataset(DigitsSettings())
    with pytest.raises(InputError, match=r"method.rounds: 4 is not allowed with 3 epochs"):
        check_training(config_of("lottery"), dataset)
    late = config_of("lottery", epochs=5, method={"rewind_to": "1ep"})
    with pytest.raises(InputError, match=r"method.rewind_to: '1ep' is not allowed"):
        check_training(late, dataset)


def test_snip_keeps_the_most_salient_weights_of_the_dense_start(config_of: ConfigOf) -> None:
    dense = Training(config_of("dense"))
    start = {}
    for name, mask, _, _ in dense.masks():  # He's start by the layer: a dense network's own
        start[name] = dense.model.weight(name).detach().numpy().copy()
        assert mask.all()
    gradients = dense_gradients(dense, dense.batches(0)[0])
    training = Training(config_of("snip", method={"density": 0.07}))
    saliency = {n: np.abs(start[n] * gradients[n]) for n in HIDDEN}
    size = sum(s.size for s in saliency.values())
    kept = np.sort(np.concatenate([s.ravel() for s in saliency.values()]))[-round(0.07 * size)]
    for name in HIDDEN:
        clear = np.abs(saliency[name] - kept) > 1e-6 * kept
        assert (masks(training)[name] == (saliency[name] >= kept))[clear].all()
        own = masks(training)[name]
        np.testing.assert_allclose(weights(training)[name], np.where(own, start[name], 0))
    assert sum(masks(training)[n].sum() for n in HIDDEN) == round(0.07 * size)


def test_random_pruned_has_snips_layer_ratios_at_other_places(config_of: ConfigOf) -> None:
    snip = masks(Training(config_of("snip", method={"density": 0.07})))
    drawn = masks(Training(config_of("random_pruned", method={"density": 0.07})))
    for name in HIDDEN:
        assert snip[name].sum() == drawn[name].sum()
        assert (snip[name] != drawn[name]).any()


def test_each_link_of_a_chain_moves_one_percent_more(config_of: ConfigOf) -> None:
    def start(link: int) -> dict[str, np.ndarray]:
        return masks(Training(config_of("chain", method={"link": link, "density": 0.3})))

    base = masks(Training(config_of("set", method={"density": 0.3})))
    before = start(0)
    assert all((before[n] == base[n]).all() for n in base)
    for link in (1, 4, 9):
        now = start(link)
        for name in HIDDEN:
            nnz = int(base[name].sum())
            moved = round(link * 0.01 * nnz)
            assert now[name].sum() == nnz
            assert (base[name] & ~now[name]).sum() == moved
            # What an earlier link has moved stays moved, to the same places.
            assert not ((base[name] & ~before[name]) & now[name]).any()
            assert (now[name] >= (before[name] & ~base[name])).all()
        before = now


def test_a_chain_that_runs_out_of_places_is_refused(config_of: ConfigOf) -> None:
    config = config_of("chain", method={"link": 90, "density": 0.6, "distribution": "uniform"})
    with pytest.raises(InputError, match=r"method.link: 90 is not allowed with moved 0.01"):
        check_training(config, load_dataset(DigitsSettings()))


def test_redistribution_needs_growth_by_momentum(config_of: ConfigOf) -> None:
    config = config_of("set", method={"redistribute": "momentum"})
    with pytest.raises(InputError, match=r"redistribute: 'momentum' is not allowed with grow"):
        Training(config)


@pytest.mark.parametrize(
    "grow", ["random", "random_elsewhere", "unexplored", "gradient", "momentum"]
)
@pytest.mark.parametrize("drop", ["by_sign", "magnitude"])
def test_rules_combine_freely_and_keep_the_number_of_connections(
    config_of: ConfigOf, drop: str, grow: str
) -> None:
    config = config_of(
        "set", method={"drop": drop, "grow": grow, "update_every": "5it", "decay": "linear"}
    )
    training = Training(config)
    before = masks(training)
    while not training.finished:
        training.run_epoch()
    after = masks(training)
    assert any((before[name] != after[name]).any() for name in HIDDEN)
    assert all(before[name].sum() == after[name].sum() for name in before)


def test_unexplored_growth_explores_more(config_of: ConfigOf) -> None:
    rates = {}
    for grow in ("random", "unexplored"):
        training = Training(config_of("itop", method={"grow": grow, "update_every": "3it"}))
        while not training.finished:
            metrics = training.run_epoch()
        rates[grow] = metrics["exploration"]
    assert rates["unexplored"] > rates["random"]


@pytest.mark.parametrize("method", ["rigl", "snip", "snfs", "lottery", "gmp", "chain"])
@pytest.mark.parametrize("model", ["lenet", "vgg", "resnet"])
def test_every_method_trains_convolutions_and_looks_at_a_batch_without_learning_from_it(
    config_of: ConfigOf, method: str, model: str
) -> None:
    config = config_of(method, epochs=2)
    if method == "lottery":
        config["method"]["rounds"] = 1
    config["model"] = {
        "lenet": {"name": "lenet", "channels": [3, 4], "hidden": [12, 10]},
        "vgg": {"name": "vgg", "channels": [4, "pool", 6], "classifier": [8]},
        "resnet": {"name": "resnet", "depth": 8, "width": 4},
    }[model]
    config["method"]["distribution"] = "erk"
    config["optimizer"]["batch_size"] = 400
    training = Training(config)
    training.run_epoch()
    before = [buffer.clone() for buffer in training.model.buffers()]
    counts = {name: int(mask.sum()) for name, mask in masks(training).items()}
    if method != "snip":  # whose look was the first of all
        training._update_topology(training.batches(1)[0])
    if method != "lottery":  # which goes back
        assert all(torch.equal(a, b) for a, b in zip(before, training.model.buffers(), strict=True))
    after = {name: int(mask.sum()) for name, mask in masks(training).items()}
    if method in ("rigl", "chain"):
        assert counts == after
    training.run_epoch()
