"""Trained weights as a file that reads back into a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from storage.errors import CorruptFile, InputError
from sweeps.training import Training, load_model

Config = dict[str, Any]


@pytest.mark.parametrize("activation", ["relu", "srelu"])
def test_weights_read_back_into_a_model_of_the_same_accuracy(
    config_of: Callable[..., Config], tmp_path: Path, activation: str
) -> None:
    training = Training(config_of("set", model={"activation": activation}))
    while not training.finished:
        metrics = training.run_epoch()
    path = tmp_path / "weights.safetensors"
    training.save_weights(path)
    model = load_model(path)
    assert not model.training
    _, _, x_test, y_test = training.dataset.tensors("cpu")
    accuracy = (model(x_test).argmax(1) == y_test).double().mean().item()
    assert accuracy == pytest.approx(metrics["test_accuracy"])
    assert torch.equal(model(x_test), training.model(x_test))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_file_names_its_configuration_and_is_the_same_each_time(
    config_of: Callable[..., Config], tmp_path: Path
) -> None:
    training = Training(config_of("set"))
    assert training.weights_bytes() == Training(config_of("set")).weights_bytes()
    training.save_weights(tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as opened:
        assert '"method": {"density": 0.2, "name": "set"}' in opened.metadata()["toposweep"]


def test_a_file_that_holds_no_such_weights_is_named(
    config_of: Callable[..., Config], tmp_path: Path
) -> None:
    content = Training(config_of("set")).weights_bytes()
    path = tmp_path / "w.safetensors"
    for damaged in (b"", b"no weights at all", content[:100], content[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFile) as caught:
            load_model(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        load_model(tmp_path / "nothing.safetensors")
