"""FLOPs: against counts by hand and by torch's own counter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from sweeps.training import Training
from sweeps.training.flops import TrainingFlops, inference_flops
from sweeps.training.layers import Layer
from sweeps.training.models import MODELS

ConfigOf = Callable[..., dict[str, Any]]

# Digits in batches of 100: 1,433 samples, of which 143 validate and 1,290 train in 13 steps.
SAMPLES, STEPS, LAST = 1290, 13, 90
DENSE = 2 * (64 * 24 + 24 * 16 + 16 * 10)  # of one sample
BIASES = 24 + 16 + 10


def counted(training: Training, epochs: int) -> dict[str, float]:
    for _ in range(epochs):
        metrics = training.run_epoch()
    return metrics


def sparse_of(training: Training) -> int:
    return 2 * sum(int(mask.sum()) for _, mask, _, _ in training.masks())


def test_a_dense_network_costs_what_torchs_counter_counts(config_of: ConfigOf) -> None:
    training = Training(config_of("dense"))
    x = torch.zeros(7, 64, requires_grad=True)  # so that the first layer's are counted, too
    with FlopCounterMode(display=False) as counter:
        scores = training.model(x)
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(training.model(x), torch.zeros(7, dtype=torch.int64)).backward()
    metrics = training.run_epoch()
    assert scores.shape == (7, 10)
    assert forward == 7 * metrics["inference_flops"]
    assert counter.get_total_flops() * SAMPLES == 7 * metrics["training_flops"]
    assert metrics["parameters"] == sum(p.numel() for p in training.model.parameters())


def test_every_dense_equivalent_of_a_dense_network_is_itself(config_of: ConfigOf) -> None:
    metrics = counted(Training(config_of("dense")), 2)
    for name in ("inference_flops", "training_flops", "parameters"):
        assert metrics[name] == metrics[f"dense_{name}"] > 0


@pytest.mark.parametrize("method", ["static", "set"])
def test_random_topologies_cost_three_passes_of_their_connections(
    config_of: ConfigOf, method: str
) -> None:
    training = Training(config_of(method, method={"density": 0.1}))
    metrics = counted(training, 3)
    sparse = sparse_of(training)
    assert sparse == 2 * (192 + 160)  # 10% of the hidden layers, and the output
    assert metrics["inference_flops"] == sparse
    assert metrics["training_flops"] == 3 * SAMPLES * 3 * sparse
    assert metrics["dense_inference_flops"] == DENSE
    assert metrics["dense_training_flops"] == 3 * SAMPLES * 3 * DENSE
    assert metrics["parameters"] == 192 + 160 + BIASES
    assert metrics["dense_parameters"] == DENSE // 2 + BIASES


def test_srelu_and_biases_are_parameters_and_no_connections(config_of: ConfigOf) -> None:
    training = Training(config_of("dense", model={"activation": "srelu"}))
    assert training.run_epoch()["parameters"] == DENSE // 2 + BIASES + 4 * (24 + 16)


def test_a_dense_gradient_is_paid_at_updates_alone(config_of: ConfigOf) -> None:
    options = {"density": 0.1, "update_every": "5it", "update_until": 1.0}
    training = Training(config_of("rigl", method=options))
    metrics = counted(training, 1)
    sparse = sparse_of(training)
    # Updates after steps 5 and 10, on the batches of steps 6 and 11.
    expected = 3 * sparse * SAMPLES + 2 * (2 * sparse + DENSE) * 100
    assert metrics["training_flops"] == expected


def test_full_intervals_cost_what_rigls_appendix_says() -> None:
    layer = Layer("a", (20, 30), "hidden")
    flops, dense, sparse = TrainingFlops([layer]), 2 * 600, 2 * 60
    flops.show({"a": 60})
    for _ in range(5):
        for _ in range(100):
            flops.step(8, "gradient")
        flops.update(8, "gradient")
    mean = (3 * sparse * 100 + 2 * sparse + dense) / 101
    assert flops.metrics(0)["training_flops"] == pytest.approx(mean * 101 * 5 * 8, rel=1e-12)


def test_growth_by_momentum_pays_for_dense_weight_gradients_in_each_step(
    config_of: ConfigOf,
) -> None:
    training = Training(config_of("snfs", method={"density": 0.1}))
    metrics = counted(training, 1)
    assert metrics["training_flops"] == (2 * sparse_of(training) + DENSE) * SAMPLES


@pytest.mark.parametrize("method", ["snip", "random_pruned"])
def test_saliency_is_one_dense_gradient(config_of: ConfigOf, method: str) -> None:
    training = Training(config_of(method, method={"density": 0.1}))
    metrics = counted(training, 2)
    assert metrics["training_flops"] == 6 * SAMPLES * sparse_of(training) + 3 * DENSE * 100


def test_pruning_costs_less_with_every_update(config_of: ConfigOf) -> None:
    options = {"density": 0.1, "update_every": "5it"}
    training = Training(config_of("gmp", method=options, epochs=1))
    expected, sparse = 0, []

    def watch(step: int) -> None:
        nonlocal expected
        sparse.append(sparse_of(training))
        expected += 3 * sparse[-1] * (LAST if step == STEPS else 100)

    assert training.run_epoch(watch)["training_flops"] == expected
    assert sparse[0] == DENSE
    assert sparse == sorted(sparse, reverse=True)
    assert len(set(sparse)) > 2


def test_a_weight_of_a_convolution_works_at_every_place() -> None:
    layers = [
        Layer("conv", (8, 27), "hidden", kernel=(3, 3), places=16 * 16),
        Layer("out", (10, 8), "output"),
    ]
    assert inference_flops(layers, {"conv": 50, "out": 80}) == 2 * 50 * 256 + 2 * 80


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"mlp"}))
def test_convolutions_cost_what_torchs_counter_counts(config_of: ConfigOf, model: str) -> None:
    config = config_of("dense")
    config["model"] = {"name": model}
    if model == "vgg":  # as many poolings as its default has leave nothing of 8 x 8 pixels
        config["model"]["channels"] = [8, "pool", 12, 16, "pool"]
    training = Training(config)
    with FlopCounterMode(display=False) as counter:
        training.model(torch.zeros(3, *training.dataset.input_shape))
    counted_flops = inference_flops(
        training.layers, {layer.name: layer.size for layer in training.layers}
    )
    assert counter.get_total_flops() == 3 * counted_flops
