"""Training by connections alone against training under masks: the same trial, up to rounding."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage.errors import InputError
from sweeps.training import Training, estimate, load_model, weights
from sweeps.training.compute import choose_compute
from sweeps.training.config import parse_config
from sweeps.training.data import DATASETS, load_dataset
from sweeps.training.registry import METHODS

Config = dict[str, Any]
ConfigOf = Callable[..., Config]
Outcome = Callable[[Training], dict[str, Any]]

# Options by which a method does something within a few steps, and which sparse compute allows.
OPTIONS: dict[str, dict[str, Any]] = {
    "set": {"update_every": "3it", "new_weights": "he_uniform", "mask_output": True},
    "rigl": {"update_every": "3it"},
    "snfs": {"update_every": "3it", "grow": "gradient", "redistribute": "none"},
    "itop": {"update_every": "3it", "grow": "unexplored"},
    "gmp": {"update_every": "3it", "scope": "global"},
    "lottery": {"rounds": 2, "rewind_to": "3it"},
    "chain": {"update_every": "3it", "link": 5},
}


def configuration(config_of: ConfigOf, method: str) -> Config:
    model = {"activation": "srelu", "dropout": 0.1}
    config = config_of(method, model=model, method=OPTIONS.get(method, {}))
    if method == "rigl":
        config["optimizer"] = {"name": "adam", "batch_size": 100}
    return config


def stored_and_read(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    read: dict[str, Any] = torch.load(buffer, weights_only=True)
    return read


class StopHere(Exception):
    pass


def advance(training: Training, to: int) -> None:
    """To the step ``to``, wherever in an epoch that is."""

    def stop(step: int) -> None:
        if step == to:
            raise StopHere

    while training.step < to:
        try:
            training.run_epoch(stop)
        except StopHere:
            return


def assert_equal_up_to_rounding(one: Training, other: Training) -> None:
    for (name, mask, *_), (_, expected, *_) in zip(one.masks(), other.masks(), strict=True):
        assert (mask == expected).all(), name
    a, b = one.state_dict(), other.state_dict()
    assert a["step"] == b["step"]
    torch.testing.assert_close(a["values"], b["values"], rtol=1e-3, atol=1e-5)
    for name, slot in a["slots"].items():
        torch.testing.assert_close(slot, b["slots"][name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_and_an_update_from_an_equal_state_are_equal_up_to_rounding(
    config_of: ConfigOf, method: str
) -> None:
    config = configuration(config_of, method)
    masked, sparse = Training(config, compute="masked"), Training(config, compute="sparse")
    assert (masked.compute, sparse.compute) == ("masked", "sparse")
    assert_equal_up_to_rounding(sparse, masked)
    step = 0
    while step < masked.total_steps:
        # Each from the other's state: rounding does not add up, and checkpoints move both ways.
        step += 1
        state = stored_and_read(masked.state_dict())
        sparse.load_state_dict(state)
        again = Training(config, compute="masked")
        again.load_state_dict(stored_and_read(sparse.state_dict()))
        assert torch.equal(again.parameters.values, masked.parameters.values)
        advance(masked, step)
        advance(sparse, step)
        assert_equal_up_to_rounding(sparse, masked)


@pytest.mark.parametrize("method", METHODS)
def test_resumed_equals_uninterrupted_to_the_last_bit_by_connections_alone(
    config_of: ConfigOf, outcome: Outcome, method: str
) -> None:
    config = configuration(config_of, method)
    config["optimizer"]["batch_size"] = 300
    whole = Training(config, compute="sparse")
    states = [stored_and_read(whole.state_dict())]
    while not whole.finished:
        whole.run_epoch(lambda step: states.append(stored_and_read(whole.state_dict())))
    expected = outcome(whole)
    for state in states[:: max(1, len(states) // 6)]:
        resumed = Training(config, compute="sparse")
        resumed.load_state_dict(state)
        while not resumed.finished:
            resumed.run_epoch()
        assert outcome(resumed) == expected, f"stopped after step {state['step']}"


def test_where_dense_gradients_are_needed_at_each_step_sparse_is_refused_by_name(
    config_of: ConfigOf,
) -> None:
    with pytest.raises(InputError, match=r"resources\.compute: 'sparse' .* snfs .* 'momentum'"):
        Training(config_of("snfs"), compute="sparse")
    assert Training(config_of("snfs"), compute="auto").compute == "masked"


def chosen(config: Config, device: str = "cpu", asked: Any = "auto") -> str:
    trial = parse_config(config)
    layers = trial.layers(load_dataset(DATASETS["digits"].Settings()))
    return choose_compute(asked, trial, layers, device)


def test_auto_takes_connections_alone_where_layers_are_wide_and_sparse(
    config_of: ConfigOf,
) -> None:
    def of(method: str, width: int, density: float, **more: Any) -> Config:
        model = {"hidden": [width] * 3}
        return config_of(method, model=model, method={"density": density, **more})

    assert chosen(of("set", 784, 0.05)) == "sparse"
    assert chosen(of("static", 20_000, 0.0005)) == "sparse"
    assert chosen(of("set", 784, 0.2)) == "masked"
    assert chosen(of("set", 64, 0.05)) == "masked"
    assert chosen(of("gmp", 784, 0.05)) == "masked"  # it begins dense
    assert chosen(of("snfs", 784, 0.05)) == "masked"
    assert chosen(config_of("dense", model={"hidden": [784] * 3})) == "masked"
    assert chosen(of("set", 784, 0.05), device="cuda") == "masked"
    convolutional = config_of("set")
    convolutional["model"] = {"name": "vgg", "channels": [16, "pool"]}
    assert chosen(convolutional) == "masked"
    with pytest.raises(InputError, match=r"resources\.compute: 'sparse' .* model vgg"):
        chosen(convolutional, asked="sparse")
    with pytest.raises(InputError, match="on a GPU"):
        chosen(of("set", 784, 0.05), device="cuda", asked="sparse")


def test_the_weights_file_is_the_same_whatever_they_were_trained_with(
    config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("set", model={"activation": "srelu"}, method={"mask_output": True})
    masked, sparse = Training(config, compute="masked"), Training(config, compute="sparse")
    assert sparse.weights_bytes() == masked.weights_bytes()
    sparse.run_epoch()
    x = sparse.dataset.tensors("cpu")[2]
    expected = sparse.model(x)
    for most, name in ((2**26, "dense"), (24 * 64 - 1, "partly"), (0, "values")):
        monkeypatch.setattr(weights, "DENSE_WEIGHTS", most)
        sparse.save_weights(tmp_path / name)
        model = load_model(tmp_path / name)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    sizes = [(tmp_path / name).stat().st_size for name in ("dense", "values")]
    assert sizes[1] < sizes[0]


def test_an_estimate_by_connections_covers_what_a_training_holds(config_of: ConfigOf) -> None:
    config = config_of("set", model={"hidden": [2000, 2000]}, method={"density": 0.01})
    training = Training(config, compute="sparse")
    flat = training.parameters
    held = [flat.values, flat.gradients, *training.optimizer.slots.values()]
    data = sum(tensor.nbytes for tensor in training.dataset.tensors("cpu"))
    tensors = sum(tensor.nbytes for tensor in held) + data
    places = 2 * sum(where.nbytes for where in training.connections.connected().values())
    cost = estimate(config, measure_for=0, compute="sparse")
    assert cost.compute == "sparse"
    assert tensors + places < cost.memory_bytes
    assert cost.memory_bytes < estimate(config, measure_for=0, compute="masked").memory_bytes / 3


LARGE = """
import io, json, resource, sys, torch
from sweeps.training import Training

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

config = json.loads(sys.argv[1])
before = peak()
training = Training(config)
assert training.compute == "sparse"
batch = training.batches(0)[0]
training.train_step(batch)
first = [mask for _, mask, _, _ in training.sparse_masks()]
training.step = 8                                        # where an update is due
training._update_topology(batch)
training.train_step(batch)
buffer = io.BytesIO()
torch.save(training.state_dict(), buffer)
values = training.parameters.values.clone()
training.train_step(batch)
training.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
assert torch.equal(values, training.parameters.values)
masks = [mask for _, mask, _, _ in training.sparse_masks()]
assert (first[1] != masks[1]).nnz > 0
assert [mask.nnz for mask in masks] == [mask.nnz for mask in first]
assert len(training.weights_bytes()) < 50e6
print(peak() - before)
"""


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_a_network_of_20000_wide_layers_never_takes_memory_of_a_layers_size(
    config_of: ConfigOf, method: str
) -> None:
    config = config_of(method, model={"hidden": [20_000, 20_000]}, optimizer={"batch_size": 32})
    config["method"] |= {"density": 0.0005, "update_every": "8it"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LARGE, json.dumps(config)],
        capture_output=True, text=True, cwd=root, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout) * 1024
    assert grown < 0.5 * 4 * 20_000**2, f"{grown / 1e6:.0f} MB"


def test_weights_off_the_connections_are_nowhere(config_of: ConfigOf) -> None:
    training = Training(config_of("set"), compute="sparse")
    training.run_epoch()
    nnz = sum(training.connections.counts()[layer.name] for layer in training.connections.masked)
    assert training.parameters.n_masked == nnz
    others = 16 * 10 + 24 + 16 + 10
    assert len(training.parameters.values) == nnz + others
    assert np.isfinite(training.parameters.values.numpy()).all()
