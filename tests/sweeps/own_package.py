"""A user's package: a method, a model, a data set and an optimiser that are none of ours."""

from pathlib import Path

SOURCE = '''
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from sklearn.datasets import load_iris
from torch import Tensor, nn

from sweeps.training.data import Dataset
from sweeps.training.evolving import Set, SetSettings
from sweeps.training.masking import evolve
from sweeps.training.mlp import MLP, MLPSettings
from sweeps.training.optimizers import SGD, SGDSettings
from sweeps.training.rules import Growth, drop_magnitude
from sweeps.training.settings import Settings


class LowestSettings(SetSettings):
    """Growth at the lowest free positions."""

    share: Annotated[float, Field(gt=0, le=1)] = 1.0


def grow_lowest(layer, kept, count, rng):
    return np.setdiff1d(np.arange(layer.size), kept)[:count]


class Lowest(Set):
    Settings = LowestSettings

    def update(self, layers, fraction, rng_of):
        changes = {}
        for name, layer in layers.items():
            dropped = drop_magnitude(layer, fraction * self.settings.share)
            changes[name] = evolve(layer, dropped, Growth(grow_lowest), len(dropped), rng_of(name))
        return changes


class Tanh(MLP):
    Settings = MLPSettings

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for name, linear in self.linear.items():
            x = linear(x) if name == "output" else linear(x).tanh()
        return x


class IrisSettings(Settings):
    validation: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    held_out: int


class Iris:
    Settings = IrisSettings

    @staticmethod
    def load(settings, path):
        x, y = load_iris(return_X_y=True)
        x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
        test = np.arange(len(y)) % settings.held_out == 0
        return Dataset("iris", f"iris-{settings.held_out}", x[~test], y[~test].astype(np.int64),
                       x[test], y[test].astype(np.int64), 3)

    @staticmethod
    def files(settings, path):
        return []


class Signed(SGD):
    """Steps by the gradient's sign."""

    def step(self, step, *rate):
        self.parameters.gradients.sign_()
        super().step(step, *rate)


class Bare:
    pass


class Nameless:
    class Settings(Settings):
        other: int = 1


number = 3
'''


def write_package(folder: Path, name: str) -> None:
    """Put it into a folder under a name of its own."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    (folder / name / "kit.py").write_text(SOURCE)
