"""Dropout: how much it drops, by what it is drawn, and that an evaluation has none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sweeps.training import Training
from sweeps.training.dropout import Draws, Dropout
from sweeps.training.streams import Purpose, Streams

Config = dict[str, Any]


def told(rate: float, step: int = 0, seed: int = 0, layers: int = 1) -> list[Dropout]:
    model = nn.Sequential(*(Dropout(rate) for _ in range(layers)))
    Draws(model, Streams(topology=1, weights=seed, data=2)).at(step)
    return list(model)  # type: ignore[arg-type]


def test_it_drops_by_the_weights_stream_and_keeps_the_mean() -> None:
    x = torch.ones(100, 50)
    (layer,) = told(0.3, step=7, seed=3)
    rng = Streams(0, 3, 0).for_weights(Purpose.DROPOUT, 7, 0)
    kept = rng.random((100, 50), dtype=np.float32) >= 0.3
    torch.testing.assert_close(layer(x), torch.from_numpy(kept) / 0.7)
    assert kept.mean() == pytest.approx(0.7, abs=0.02)


def test_every_step_seed_and_layer_drops_others_and_the_same_again_when_asked_again() -> None:
    x = torch.ones(8, 64)
    first, second = told(0.5, layers=2)
    drawn = [first(x), second(x), told(0.5, step=1)[0](x), told(0.5, seed=1)[0](x)]
    assert torch.equal(first(x), drawn[0])
    for index, one in enumerate(drawn):
        assert not any(torch.equal(one, other) for other in drawn[:index])


def test_an_evaluation_and_a_rate_of_zero_change_nothing() -> None:
    x = torch.ones(3, 4)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.9).eval()(x) is x


def test_without_a_step_it_refuses_rather_than_draw_from_torchs_generator() -> None:
    with pytest.raises(RuntimeError, match="which step"):
        Dropout(0.5)(torch.ones(2, 2))


@pytest.mark.parametrize(
    "model",
    [
        {"name": "mlp", "hidden": [20, 10]},
        {"name": "lenet", "hidden": [20, 10]},
        {"name": "vgg", "channels": [4, "pool"], "classifier": [20, 10]},
        {"name": "vgg", "channels": [4, "pool"], "classifier": []},
        {"name": "resnet", "depth": 8, "width": 4},
    ],
)
def test_every_model_has_it_in_training_alone(
    config_of: Callable[..., Config], model: Config
) -> None:
    config = config_of("dense")
    config["model"] = {**model, "dropout": 0.5}
    training = Training(config)
    layers = [m for m in training.model.modules() if isinstance(m, Dropout)]
    assert len(layers) == max(1, len(model.get("hidden", model.get("classifier", []))))
    x = training.dataset.tensors("cpu")[0][:20]
    before = training.evaluate()
    dropped: list[float] = []

    def hook(module: nn.Module, args: Any, result: torch.Tensor) -> None:
        some = args[0] != 0
        dropped.append(float((result[some] == 0).double().mean()))

    for layer in layers:
        layer.register_forward_hook(hook)
    training._dropout.at(0)
    training.model(x)
    assert len(dropped) == len(layers)
    assert all(0.2 < share < 0.8 for share in dropped)
    training.model.eval()
    assert torch.equal(training.model(x), training.model(x))
    if not list(training.model.buffers()):  # statistics have been moved above
        assert training.evaluate() == before


def test_equal_seeds_drop_alike_whatever_the_method(config_of: Callable[..., Config]) -> None:
    def draws(method: str) -> list[torch.Tensor]:
        training = Training(config_of(method, model={"dropout": 0.5}))
        seen: list[torch.Tensor] = []
        for layer in training.model.modules():
            if isinstance(layer, Dropout):
                layer.register_forward_hook(lambda module, args, result: seen.append(result == 0))
        training._dropout.at(3)
        for layer in training.model.modules():
            if isinstance(layer, Dropout):
                layer(torch.ones(5, 24))
        return seen

    for one, other in zip(draws("dense"), draws("set"), strict=True):
        assert torch.equal(one, other)
