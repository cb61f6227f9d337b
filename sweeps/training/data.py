"""Data sets by name, and the digits that ship with scikit-learn."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from storage.errors import InputError
from sweeps.training.cifar import Cifar10
from sweeps.training.dataset import Dataset, Validation, dataset_of
from sweeps.training.entries import Registry
from sweeps.training.mnist import FashionMnist, Mnist
from sweeps.training.settings import Settings
from sweeps.training.teacher import Teacher

__all__ = [
    "DATASETS",
    "Dataset",
    "Digits",
    "DigitsSettings",
    "dataset_checksum",
    "dataset_files",
    "load_dataset",
]


class DigitsSettings(Settings):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels.

    ``validation`` is the fraction of the training samples, in [0, 0.5], that is held out to choose
    by; it is taken by the ``data`` stream.
    """

    name: Literal["digits"] = "digits"
    validation: Validation = 0.1


class Digits:
    """The digits that ship with scikit-learn: 1,433 for training, 364 for testing."""

    Settings = DigitsSettings

    @staticmethod
    def load(settings: DigitsSettings, path: str | None) -> Dataset:
        return _digits()

    @staticmethod
    def files(settings: DigitsSettings, path: str | None) -> list[Path]:
        return []


DATASETS = Registry(
    "data",
    "toposweep.datasets",
    {
        "digits": Digits,
        "mnist": Mnist,
        "fashion_mnist": FashionMnist,
        "cifar10": Cifar10,
        "teacher": Teacher,
    },
    needs=("load", "files"),
    fields=("validation",),
)


def load_dataset(settings: Settings, path: str | None = None) -> Dataset:
    """The data set that the settings name; read once a process.

    ``path`` wins over the settings' own. Raises InputError where files are missing and CorruptFile
    where they are damaged.
    """
    values = settings.model_dump()
    dataset = DATASETS[values["name"]].load(settings, path or values.get("path"))
    if not isinstance(dataset, Dataset):
        raise InputError(f"data.name: {values['name']!r}: load() gave no Dataset")
    return dataset


def dataset_files(settings: Settings, path: str | None = None) -> list[Path]:
    """The files of a data set as they are on this machine; none for one that a library brings.

    Downloads nothing. Raises InputError where files are missing.
    """
    values = settings.model_dump()
    files: list[Path] = DATASETS[values["name"]].files(settings, path or values.get("path"))
    return files


def dataset_checksum(settings: Settings, path: str | None = None) -> str:
    """16 hex digits of the SHA-256 over the decoded arrays (types, shapes and bytes)."""
    return load_dataset(settings, path).checksum


@lru_cache(maxsize=1)
def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = pixels.astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.uint8)
    # Every fifth sample of each class is for testing: stratified, and without a random number
    # that another version of a library could draw differently.
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[::5]] = True
    return dataset_of("digits", images[~test], labels[~test], images[test], labels[test])
