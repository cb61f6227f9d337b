"""MNIST and Fashion-MNIST from IDX files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from storage.errors import CorruptFile
from sweeps.training.dataset import Dataset, UInt8, Validation, dataset_of
from sweeps.training.downloads import Stamps, cached_files, data_path, download, stamps_of
from sweeps.training.idx import find_idx, read_idx
from sweeps.training.settings import Settings


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
            download(cls.name, cls.mirrors, cls.sha256)
        return _idx_dataset(cls.name, stamps_of(cls.files(settings, path)))

    @classmethod
    def files(cls, settings: IdxSettings, path: str | None) -> list[Path]:
        """The four files where they are on this machine; nothing is downloaded."""
        if path is None:
            folder = Path(cached_files(cls.name, "", cls.sha256).path)
        else:
            folder = data_path(path)
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


@lru_cache(maxsize=2)
def _idx_dataset(name: str, stamps: Stamps) -> Dataset:
    parts: list[UInt8] = []
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
    return dataset_of(name, parts[0], parts[1], parts[2], parts[3])
