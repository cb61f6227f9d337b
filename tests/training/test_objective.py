"""The loss, clipping and precision of a step, against torch's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from storage.errors import InputError
from sweeps.training import Training
from sweeps.training.objective import Objective, ObjectiveSettings

Config = dict[str, Any]
ConfigOf = Callable[..., Config]


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 50.0])
def test_clipping_scales_as_torchs_clip_grad_norm(scale: float) -> None:
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((5, 3), (4,), (2, 2))]
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    nn.utils.clip_grad_norm_(parameters, 0.7)
    objective = Objective(ObjectiveSettings(clip_norm=0.7), torch.device("cpu"))
    objective.limit(flat)
    expected = torch.cat([parameter.grad.flatten() for parameter in parameters])
    np.testing.assert_allclose(flat, expected, rtol=1e-6)


def test_without_a_norm_no_gradient_is_touched() -> None:
    gradients = torch.full((3,), 1e6)
    Objective(ObjectiveSettings(), torch.device("cpu")).limit(gradients)
    assert torch.equal(gradients, torch.full((3,), 1e6))


def test_smoothed_labels_are_trained_on_and_plain_ones_evaluated(config_of: ConfigOf) -> None:
    # At a vanishing learning rate the network stays, so one look at all samples gives the same.
    options = {"lr": 1e-30, "weight_decay": 0.0, "label_smoothing": 0.2}
    training = Training(config_of("static", optimizer=options))
    x, y, x_test, y_test = training.dataset.tensors("cpu")
    order = torch.cat(training.batches(0))
    metrics = training.run_epoch()
    log_p = F.log_softmax(training.model(x[order]).detach(), dim=1)
    own = -log_p.gather(1, y[order, None]).mean()
    everywhere = -log_p.mean()
    assert metrics["train_loss"] == pytest.approx(float(0.8 * own + 0.2 * everywhere), rel=1e-5)
    scores = training.model(x_test).detach()
    assert metrics["test_loss"] == pytest.approx(F.cross_entropy(scores, y_test).item())


def test_a_training_with_every_option_moves_as_a_loop_of_torchs_own(config_of: ConfigOf) -> None:
    options = {
        "name": "sgd", "lr": 0.2, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01,
        "label_smoothing": 0.1, "clip_norm": 1.5, "lr_schedule": "cosine",
    }  # fmt: skip
    training = Training(config_of("dense", optimizer=options, epochs=2))
    model = nn.Sequential(
        nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 10)
    )
    for parameter, start in zip(model.parameters(), training.model.parameters(), strict=True):
        parameter.data.copy_(start)
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 0.01}, {"params": biases}],
        lr=0.2, momentum=0.8, nesterov=True,
    )  # fmt: skip
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.total_steps)
    x, y, *_ = training.dataset.tensors("cpu")
    clipped = 0
    for epoch in range(2):
        for batch in training.batches(epoch):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[batch].flatten(1)), y[batch], label_smoothing=0.1)
            loss.backward()
            clipped += bool(nn.utils.clip_grad_norm_(model.parameters(), 1.5) > 1.5)
            optimizer.step()
            scheduler.step()
        training.run_epoch()
    assert 0 < clipped < training.total_steps
    for got, expected in zip(training.model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(got.detach(), expected.detach(), rtol=1e-3, atol=1e-5)


def test_clipping_looks_at_connections_only(config_of: ConfigOf) -> None:
    training = Training(config_of("set", optimizer={"clip_norm": 1e-3}))
    training.train_step(training.batches(0)[0])
    flat = training.parameters
    for name, mask, _, _ in training.masks():
        assert not training.model.weight(name).detach().numpy()[~mask].any()
    # The first step of SGD with momentum moves by lr (g + weight_decay w); biases do not decay.
    fresh = Training(config_of("set"))
    moved = (flat.values - fresh.parameters.values) / -0.05
    moved[: flat.n_weights] -= 0.0005 * fresh.parameters.values[: flat.n_weights]
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-2)


def test_mixed_precision_is_refused_without_a_cuda_device(config_of: ConfigOf) -> None:
    with pytest.raises(InputError, match=r"^optimizer\.mixed_precision: True is not allowed: it"):
        Training(config_of("dense", optimizer={"mixed_precision": True}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights(
    config_of: ConfigOf,
) -> None:
    seen = []
    rows = {}
    for mixed in (False, True):
        config = config_of("set", optimizer={"mixed_precision": mixed}, epochs=8)
        training = Training(config, device="cuda")
        training.model.linear["hidden_1"].register_forward_hook(
            lambda module, inputs, output: seen.append((module.training, output.dtype))
        )
        while not training.finished:
            rows[mixed] = training.run_epoch()
        assert training.parameters.values.dtype == torch.float32
    assert set(seen) == {
        (True, torch.float32), (False, torch.float32), (True, torch.bfloat16),
    }  # fmt: skip
    assert rows[True]["test_accuracy"] == pytest.approx(rows[False]["test_accuracy"], abs=0.05)
