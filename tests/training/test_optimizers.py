"""Optimisers over the flat tensor against torch's own."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sweeps.training.mlp import MLP, MLPSettings
from sweeps.training.optimizers import (
    SGD,
    Adam,
    AdamSettings,
    AdamW,
    AdamWSettings,
    SGDSettings,
)
from sweeps.training.parameters import MaskedParameters


def small_model() -> MLP:
    model = MLP(MLPSettings(hidden=[12, 8], activation="srelu"), (6,), 4)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        draw = rng.normal(scale=0.5, size=tuple(parameter.shape))
        parameter.data.copy_(torch.from_numpy(draw))
    return model


def flat(model: MLP, share: int = 1) -> MaskedParameters:
    """Every ``share``-th weight of each hidden layer is connected."""
    masked = {name: model.weight(name) for name in ("hidden_1", "hidden_2")}
    connected = {name: np.arange(0, weight.numel(), share) for name, weight in masked.items()}
    return MaskedParameters(model, masked, [model.weight("output")], connected)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.default_rng(1)
    return [
        (
            torch.from_numpy(rng.normal(size=(16, 6)).astype(np.float32)),
            torch.from_numpy(rng.integers(0, 4, 16)),
        )
        for _ in range(30)
    ]


def grouped(model: MLP, weight_decay: float) -> list[dict[str, Any]]:
    weights = [model.weight(layer) for layer in ("hidden_1", "hidden_2", "output")]
    others = [p for p in model.parameters() if all(p is not weight for weight in weights)]
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def by_torch(optimizer: type[torch.optim.Optimizer], decay: float, **settings: Any) -> nn.Module:
    model = small_model()
    torch_optimizer = optimizer(grouped(model, decay), **settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(torch_optimizer, rate)
    for x, y in batches():
        torch_optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        torch_optimizer.step()
        scheduler.step()
    return model


def rate(step: int) -> float:
    """A share of the learning rate that differs from step to step."""
    return 1.0 - 0.02 * step


@pytest.mark.parametrize(
    ("ours", "settings", "theirs"),
    [
        (SGD, SGDSettings(lr=0.1, momentum=0.9, weight_decay=0.01),
         lambda: by_torch(torch.optim.SGD, 0.01, lr=0.1, momentum=0.9)),
        (SGD, SGDSettings(lr=0.1, momentum=0.0, weight_decay=0.0),
         lambda: by_torch(torch.optim.SGD, 0.0, lr=0.1)),
        (SGD, SGDSettings(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
         lambda: by_torch(torch.optim.SGD, 0.01, lr=0.1, momentum=0.9, nesterov=True)),
        (Adam, AdamSettings(lr=0.01, weight_decay=0.01),
         lambda: by_torch(torch.optim.Adam, 0.01, lr=0.01)),
        (Adam, AdamSettings(lr=0.01, beta1=0.7, beta2=0.9),
         lambda: by_torch(torch.optim.Adam, 0.0, lr=0.01, betas=(0.7, 0.9))),
        (AdamW, AdamWSettings(lr=0.01, weight_decay=0.3),
         lambda: by_torch(torch.optim.AdamW, 0.3, lr=0.01)),
        (AdamW, AdamWSettings(lr=0.01, weight_decay=0.0),
         lambda: by_torch(torch.optim.AdamW, 0.0, lr=0.01)),
    ],
)  # fmt: skip
def test_without_masks_every_parameter_moves_as_with_torchs_optimiser(
    ours: Any, settings: Any, theirs: Any
) -> None:
    model = small_model()
    parameters = flat(model)
    optimizer = ours(settings, parameters)
    for step, (x, y) in enumerate(batches(), start=1):
        parameters.gradients.zero_()
        F.cross_entropy(model(x), y).backward()
        parameters.mask_gradients()
        optimizer.step(step, settings.lr * rate(step - 1))
    for (name, got), expected in zip(model.named_parameters(), theirs().parameters(), strict=True):
        np.testing.assert_allclose(
            got.detach(), expected.detach(), rtol=2e-4, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ("ours", "settings"),
    [
        (SGD, SGDSettings(lr=0.1)),
        (SGD, SGDSettings(lr=0.1, nesterov=True)),
        (Adam, AdamSettings(weight_decay=0.1)),
        (AdamW, AdamWSettings(weight_decay=0.1)),
    ],
)
def test_what_is_not_connected_stays_exactly_zero_in_weights_and_slots(
    ours: Any, settings: Any
) -> None:
    model = small_model()
    parameters = flat(model, share=3)
    connected = torch.arange(parameters.n_masked) % 3 == 0  # 3 divides both layers' sizes
    parameters.values[: parameters.n_masked][~connected] = 0.0
    optimizer = ours(settings, parameters)
    for step, (x, y) in enumerate(batches(), start=1):
        parameters.gradients.zero_()
        F.cross_entropy(model(x), y).backward()
        parameters.mask_gradients()
        optimizer.step(step, settings.lr)
    for tensor in (parameters.values, *optimizer.slots.values()):
        assert not tensor[: parameters.n_masked][~connected].any()
        moved = tensor[: parameters.n_masked][connected] != 0
        # Dead neurons have no gradient: only a decay that is part of it reaches their slots.
        assert moved.float().mean() > 0.5 if ours is AdamW else moved.all()


def test_the_flat_tensor_is_the_models_memory_masked_weights_first() -> None:
    model = small_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    parameters = flat(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    for name in ("hidden_1", "hidden_2"):
        values = parameters.values[parameters.where(name)]
        assert torch.equal(values.view_as(model.weight(name)), model.weight(name))
    parameters.values.zero_()
    assert not any(parameter.any() for parameter in model.parameters())
    assert parameters.n_masked == 12 * 6 + 8 * 12
    assert parameters.n_weights == parameters.n_masked + 4 * 8
