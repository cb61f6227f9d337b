"""A synthetic task of any size: a sparse random network, the teacher, labels random inputs.

The same on every machine: inputs and the teacher come from raw words of PCG64, whose stream numpy
keeps, and all that decides a label is computed in whole numbers. Those are held as float64, in
which sums and products of whole numbers below 2**53 are exact in whatever order a library takes
them.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from sweeps.training.dataset import Dataset, UInt8, Validation, dataset_of
from sweeps.training.settings import Settings

UInt16 = npt.NDArray[np.uint16]
UInt64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]

MOST_VALUES = 2**30  # inputs of all samples together, 4 bytes each
MOST_WEIGHTS = 2**24  # of one of the teacher's layers
_MOST_WIDTH = 100_000
_AT_ONCE = 2**22  # numbers of a layer that are held as float64
# Activations are scaled to about these many bits, and cut off well before sums could be inexact.
_HIDDEN_BITS, _SCORE_BITS = 12, 24
_MOST_HIDDEN, _MOST_SCORE = 2.0**20, 2.0**30


class TeacherSettings(Settings):
    """A random network, the teacher, labels random inputs; what is trained is to learn from it.

    ``samples`` inputs of ``inputs`` numbers each, uniform; the last fifth are for testing.
    The teacher has ReLU layers of the widths ``teacher_hidden``; ``teacher_density`` in (0, 1] of
    its connections, at random positions, at least one a layer. Its ``classes`` come up about
    equally often. ``label_noise`` in [0, 1) of the training labels are replaced by another class.
    ``teacher_seed`` draws all of it, whatever the trial's seeds; ``validation`` as for digits.
    """

    name: Literal["teacher"] = "teacher"
    samples: Annotated[int, Field(ge=20, le=100_000_000)] = 10_000
    inputs: Annotated[int, Field(ge=1, le=_MOST_WIDTH)] = 64
    classes: Annotated[int, Field(ge=2, le=10_000)] = 10
    teacher_hidden: list[Annotated[int, Field(ge=1, le=_MOST_WIDTH)]] = Field(
        default=[32], max_length=100
    )
    teacher_density: Annotated[float, Field(gt=0, le=1)] = 0.2
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    teacher_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    validation: Validation = 0.1

    @model_validator(mode="after")
    def _fits_in_memory(self) -> TeacherSettings:
        widths = [self.inputs, *self.teacher_hidden, self.classes]
        largest = max(before * after for before, after in pairwise(widths))
        for what, values, most in (
            ("samples x inputs", self.samples * self.inputs, MOST_VALUES),
            ("samples x classes", self.samples * self.classes, MOST_VALUES),
            ("the teacher's largest layer", largest, MOST_WEIGHTS),
        ):
            if values > most:
                raise ValueError(f"{what} is {values} numbers, more than {most}")
        return self


class Teacher:
    """Made anew in each process; there are no files."""

    Settings = TeacherSettings

    @staticmethod
    def load(settings: TeacherSettings, path: str | None) -> Dataset:
        values = settings.model_dump(exclude={"name", "validation"})
        values["teacher_hidden"] = tuple(values["teacher_hidden"])
        return _dataset(**values)

    @staticmethod
    def files(settings: TeacherSettings, path: str | None) -> list[Path]:
        return []


@lru_cache(maxsize=4)
def _dataset(
    samples: int,
    inputs: int,
    classes: int,
    teacher_hidden: tuple[int, ...],
    teacher_density: float,
    label_noise: float,
    teacher_seed: int,
) -> Dataset:
    def words(part: int) -> np.random.PCG64:
        return np.random.PCG64(np.random.SeedSequence(teacher_seed, spawn_key=(part,)))

    x = _bytes(words(0), samples * inputs).reshape(samples, inputs)
    widths = [inputs, *teacher_hidden, classes]
    source = words(1)
    weights = [_weights(source, n_out, n_in, teacher_density) for n_in, n_out in pairwise(widths)]
    labels = _labels(x, weights)
    n_train = samples - samples // 5
    labels[:n_train] = _with_noise(words(2), labels[:n_train], classes, label_noise)
    return dataset_of("teacher", x[:n_train], labels[:n_train], x[n_train:], labels[n_train:],
                      n_classes=classes)  # fmt: skip


def _bytes(source: np.random.PCG64, n: int) -> UInt8:
    """n bytes of the source's words, the lowest of each word first."""
    words: UInt64 = source.random_raw(-(-n // 8))
    return np.frombuffer(words.astype("<u8").tobytes(), dtype=np.uint8, count=n)


def _weights(source: np.random.PCG64, n_out: int, n_in: int, density: float) -> Float64:
    """(n_out, n_in): round(density * size) odd numbers from -255 to 255, the others 0."""
    size = n_out * n_in
    values: Float64 = 2.0 * _bytes(source, size).astype(np.float64) - 255
    order = np.argsort(source.random_raw(size), kind="stable")
    values[order[max(1, round(density * size)) :]] = 0
    return values.reshape(n_out, n_in)


def _labels(x: UInt8, weights: list[Float64]) -> UInt16:
    """Each input's class: the output that lies highest above its mean, in units of its spread."""
    at_once = max(1, _AT_ONCE // max(max(layer.shape) for layer in weights))
    shifts: list[int] = []  # follow from the first samples, and hold for all
    scores = np.concatenate(
        [_scores(x[k : k + at_once], weights, shifts) for k in range(0, len(x), at_once)]
    )
    # Means and spreads are whole numbers too; the quotient is rounded alike on every machine.
    scores -= scores.sum(axis=0) // len(x)
    spread = np.maximum(np.abs(scores).sum(axis=0) // len(x), 1)
    labels: UInt16 = (scores / spread).argmax(axis=1).astype(np.uint16)
    return labels


def _scores(x: UInt8, weights: list[Float64], shifts: list[int]) -> npt.NDArray[np.int64]:
    """(n, classes) of some inputs; appends to ``shifts`` what it lacks.

    After layer l activations are divided by 2**shifts[l], rounded down and cut off.
    """
    values = 2.0 * x - 255
    for index, layer in enumerate(weights):
        last = index == len(weights) - 1
        values = values @ layer.T
        if not last:
            values = np.maximum(values, 0)
        if index == len(shifts):
            most = int(np.abs(values).max())
            shifts.append(max(0, most.bit_length() - (_SCORE_BITS if last else _HIDDEN_BITS)))
        bound = _MOST_SCORE if last else _MOST_HIDDEN
        values = np.clip(np.floor(values / 2.0 ** shifts[index]), -bound, bound)
    return values.astype(np.int64)


def _with_noise(source: np.random.PCG64, labels: UInt16, classes: int, noise: float) -> UInt16:
    """round(noise * n) labels, at random, replaced by another class at random."""
    n = len(labels)
    changed = np.argsort(source.random_raw(n), kind="stable")[: round(noise * n)]
    steps = 1 + source.random_raw(n)[changed] % np.uint64(classes - 1)
    noisy = labels.copy()
    noisy[changed] = (labels[changed] + steps) % np.uint64(classes)
    return noisy
