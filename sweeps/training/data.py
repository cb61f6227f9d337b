"""Data sets: digits from scikit-learn, MNIST and Fashion-MNIST from IDX files.

A data set is four arrays in memory. Inputs are scaled by one mean and one standard deviation, those
of all training pixels, so that they fit He's start whatever the data set. The checksum is
taken over the arrays as decoded, before scaling: the same files give the same one from any
folder, compressed or not, and other files give another.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from storage.errors import CorruptFile, InputError
from sweeps.training.entries import Registry
from sweeps.training.idx import find_idx, read_idx
from sweeps.training.settings import Settings

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

Validation = Annotated[float, Field(ge=0, le=0.5)]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, never written to; trials of one process share it.

    ``x_*`` float32 (n, *input_shape), scaled; ``y_*`` int64 (n,), classes 0 to n_classes - 1.
    ``checksum`` is 16 hex digits.
    """

    name: str
    checksum: str
    x_train: npt.NDArray[np.float32]
    y_train: Int64
    x_test: npt.NDArray[np.float32]
    y_test: Int64
    n_classes: int
    _on: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict, repr=False)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.x_train.shape[1:]

    def tensors(self, device: str) -> tuple[torch.Tensor, ...]:
        """x_train, y_train, x_test, y_test on a device; kept, so that it is copied once."""
        if device not in self._on:
            arrays = (self.x_train, self.y_train, self.x_test, self.y_test)
            self._on[device] = tuple(torch.from_numpy(array).to(device) for array in arrays)
        return self._on[device]


class DigitsSettings(Settings):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels.

    ``validation`` is the fraction of the training samples, in [0, 0.5], that is held out to choose
    by; it is taken by the ``data`` stream.
    """

    name: Literal["digits"] = "digits"
    validation: Validation = 0.1


class IdxSettings(Settings):
    """MNIST or Fashion-MNIST. ``path``: a folder with the four IDX files; without one they are
    downloaded into the user's cache folder."""

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    validation: Validation = 0.1
    path: str | None = None


class MnistSettings(IdxSettings):
    name: Literal["mnist"] = "mnist"


class FashionMnistSettings(IdxSettings):
    name: Literal["fashion_mnist"] = "fashion_mnist"


class Digits:
    """The digits that ship with scikit-learn: 1,433 for training, 364 for testing."""

    Settings = DigitsSettings

    @staticmethod
    def load(settings: DigitsSettings, path: str | None) -> Dataset:
        return _digits()

    @staticmethod
    def files(settings: DigitsSettings, path: str | None) -> list[Path]:
        return []


class Mnist:
    """Handwritten digits, 28 x 28 pixels, 60,000 and 10,000 as published (LeCun et al. 1998)."""

    Settings: ClassVar[type[IdxSettings]] = MnistSettings
    name = "mnist"
    mirrors: ClassVar[list[str]] = [
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ]
    sha256: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    }

    @classmethod
    def load(cls, settings: IdxSettings, path: str | None) -> Dataset:
        """From the folder ``path``, or from the user's cache folder, downloaded if need be."""
        if path is None:
            _download(cls.name, cls.mirrors, cls.sha256)
        # A file that was replaced since is read again.
        stats = [(file, file.stat()) for file in cls.files(settings, path)]
        stamps = tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
        return _idx_dataset(cls.name, stamps)

    @classmethod
    def files(cls, settings: IdxSettings, path: str | None) -> list[Path]:
        """The four files where they are on this machine; nothing is downloaded."""
        if path is None:
            folder = Path(_cache(cls.name, "", cls.sha256).path)
        else:
            folder = Path(os.path.expanduser(path)).absolute()
            if not _is_folder(folder):
                raise InputError(f"data.path: {path[:200]!r} is not allowed: no such folder")
        return [find_idx(folder, name.removesuffix(".gz")) for name in cls.sha256]


class FashionMnist(Mnist):
    """Clothes, in MNIST's format (Xiao et al. 2017)."""

    Settings = FashionMnistSettings
    name = "fashion_mnist"
    mirrors: ClassVar[list[str]] = [
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ]
    sha256: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    }


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name
        return False


DATASETS = Registry(
    "data",
    "toposweep.datasets",
    {"digits": Digits, "mnist": Mnist, "fashion_mnist": FashionMnist},
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
    return _dataset("digits", images[~test], labels[~test], images[test], labels[test])


@lru_cache(maxsize=2)
def _idx_dataset(name: str, stamps: tuple[tuple[Path, int, int], ...]) -> Dataset:
    parts = []
    for images_stamp, labels_stamp in (stamps[:2], stamps[2:]):
        images_path, labels_path = images_stamp[0], labels_stamp[0]
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        if len(images) != len(labels):
            raise CorruptFile(
                labels_path,
                f"holds {len(labels)} labels for the {len(images)} images of {images_path.name}",
            )
        if labels.max() > 9:
            index = int(np.argmax(labels > 9))
            raise CorruptFile(
                labels_path, f"label {labels[index]} at index {index}; labels are 0 to 9"
            )
        parts += [images[:, None], labels]
    if parts[0].shape[1:] != parts[2].shape[1:]:
        size = [" x ".join(map(str, part.shape[2:])) for part in (parts[0], parts[2])]
        raise CorruptFile(
            stamps[2][0], f"its images are {size[1]} pixels; those for training are {size[0]}"
        )
    return _dataset(name, *parts)


def _dataset(name: str, x_train: UInt8, y_train: UInt8, x_test: UInt8, y_test: UInt8) -> Dataset:
    digest = hashlib.sha256()
    for array in (x_train, y_train, x_test, y_test):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    mean, deviation = x_train.mean(dtype=np.float64), x_train.std(dtype=np.float64)
    if deviation == 0:
        raise InputError(f"data.name: {name!r}: all training pixels are equal, nothing to learn")

    def scaled(images: UInt8) -> npt.NDArray[np.float32]:
        table = ((np.arange(256) - mean) / deviation).astype(np.float32)
        # In memory of torch's own, which is aligned the same way in every process: how a matrix
        # product is summed, and so its last bit, may depend on that.
        values: npt.NDArray[np.float32] = torch.empty(images.shape).numpy()
        return np.take(table, images, out=values, mode="clip")

    return Dataset(
        name=name,
        checksum=digest.hexdigest()[:16],
        x_train=scaled(x_train),
        y_train=y_train.astype(np.int64),
        x_test=scaled(x_test),
        y_test=y_test.astype(np.int64),
        n_classes=10,
    )


def _cache(name: str, mirror: str, sha256: dict[str, str]) -> Any:
    """The four files in the user's cache folder, or in TOPOSWEEP_DATA where that is set."""
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    files = pooch.create(
        path=pooch.os_cache("toposweep"), base_url=mirror, registry=sha256, env="TOPOSWEEP_DATA"
    )
    files.path = files.abspath / name
    return files


def _download(name: str, mirrors: list[str], sha256: dict[str, str]) -> None:
    """Have the four files in the cache."""
    reasons = []
    for mirror in mirrors:
        files = _cache(name, mirror, sha256)
        try:
            for file in sha256:
                files.fetch(file)
        except Exception as error:  # whatever the network raises, the user's way out is the same
            reasons.append(f"{mirror}: {type(error).__name__}")
        else:
            return
    raise InputError(
        f"data.name: {name!r} is not in {files.path} and could not be downloaded "
        f"({'; '.join(reasons)}); put {', '.join(sha256)} there, "
        "or name their folder with data.path"
    )
