"""Small trials on the digits that ship with scikit-learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.training import Training
from tests.training.python_batches import batch_bytes, cifar_batches

Config = dict[str, Any]


@pytest.fixture
def config_of() -> Callable[..., Config]:
    """A resolved configuration by its method; keywords replace single parts."""

    def build(method: str = "set", /, **changes: Any) -> Config:
        config: Config = {
            "data": {"name": "digits", "validation": 0.1},
            "model": {"name": "mlp", "hidden": [24, 16], "activation": "relu"},
            "method": {"name": method},
            "optimizer": {"name": "sgd", "lr": 0.05, "batch_size": 100},
            "epochs": 3,
            "seeds": {"topology": 0, "weights": 0, "data": 0},
        }
        if method != "dense":
            config["method"]["density"] = 0.2
        for key, value in changes.items():
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
        return config

    return build


@pytest.fixture
def outcome() -> Callable[[Training], dict[str, Any]]:
    """All that two equal trainings must share, to the last bit."""

    def collect(training: Training) -> dict[str, Any]:
        state = training.state_dict()
        return {
            "step": state["step"],
            "values": state["values"].numpy().tobytes(),
            "slots": {name: slot.numpy().tobytes() for name, slot in state["slots"].items()},
            "buffers": {name: b.numpy().tobytes() for name, b in state["buffers"].items()},
            "masks": [(name, mask.tobytes()) for name, mask, _, _ in training.masks()],
            "ever": {
                name: bits.numpy().tobytes() for name, bits in state["connections"]["ever"].items()
            },
            "evaluation": training.evaluate(),
        }

    return collect


@pytest.fixture
def cifar(tmp_path: Path) -> Callable[..., Path]:
    """Write six small batches of CIFAR-10's format; keywords replace the bytes of one of them."""
    counter = iter(range(1000))

    def write(**replaced: bytes | None) -> Path:
        folder = tmp_path / f"cifar-{next(counter)}"
        folder.mkdir()
        for name, (images, labels) in cifar_batches().items():
            content = replaced.get(name, batch_bytes(images, labels))
            if content is not None:
                (folder / name).write_bytes(content)
        return folder

    return write
