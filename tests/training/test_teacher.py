"""The teacher's task against whole numbers of Python's own, and that it is the same anywhere."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import InputError
from sweeps.training import Training, check_training, dataset_checksum, load_dataset
from sweeps.training import teacher as module
from sweeps.training.data import DigitsSettings
from sweeps.training.teacher import TeacherSettings

Config = dict[str, Any]


def shape_of(settings: TeacherSettings) -> list[tuple[int, int]]:
    widths = [settings.inputs, *settings.teacher_hidden, settings.classes]
    return list(zip(widths[1:], widths, strict=False))


def labels_in_whole_numbers(inputs: np.ndarray, weights: list[np.ndarray]) -> list[int]:
    """The definition, with Python's integers."""
    rows = [[2 * int(value) - 255 for value in row] for row in inputs]
    for index, layer in enumerate(weights):
        hidden = index < len(weights) - 1
        numbers = [[int(w) for w in row] for row in layer]
        rows = [
            [sum(w * v for w, v in zip(ws, row, strict=True)) for ws in numbers] for row in rows
        ]
        if hidden:
            rows = [[max(0, v) for v in row] for row in rows]
        bits = max(abs(v) for row in rows for v in row).bit_length() - (12 if hidden else 24)
        rows = [[v >> max(0, bits) for v in row] for row in rows]  # rounds down, as floor does
    classes = range(len(rows[0]))
    means = [sum(row[k] for row in rows) // len(rows) for k in classes]
    spreads = [max(1, sum(abs(row[k] - means[k]) for row in rows) // len(rows)) for k in classes]
    scores = [[(row[k] - means[k]) / spreads[k] for k in classes] for row in rows]
    return [score.index(max(score)) for score in scores]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    samples=st.integers(20, 60),
    inputs=st.integers(1, 12),
    classes=st.integers(2, 6),
    hidden=st.lists(st.integers(1, 7), max_size=4),
    density=st.floats(0.05, 1),
    seed=st.integers(0, 2**63 - 1),
)
def test_labels_are_those_of_the_definition(
    samples: int, inputs: int, classes: int, hidden: list[int], density: float, seed: int
) -> None:
    source = np.random.PCG64(seed)
    x = module._bytes(source, samples * inputs).reshape(samples, inputs)
    widths = [inputs, *hidden, classes]
    weights = [module._weights(source, n_out, n_in, density) for n_in, n_out in pairwise(widths)]
    assert module._labels(x, weights).tolist() == labels_in_whole_numbers(x, weights)


def test_the_order_in_which_a_library_sums_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    source = np.random.PCG64(1)
    x = module._bytes(source, 500 * 300).reshape(500, 300)
    shapes = [(40, 300), (30, 40), (10, 30)]
    weights = [module._weights(source, *shape, 0.5) for shape in shapes]
    expected = module._labels(x, weights)
    order = rng.permutation(300)
    assert (module._labels(x[:, order], [weights[0][:, order], *weights[1:]]) == expected).all()
    order = rng.permutation(40)
    shuffled = [weights[0][order], weights[1][:, order], weights[2]]
    assert (module._labels(x, shuffled) == expected).all()


def test_samples_beyond_those_held_at_once_are_labelled_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = np.random.PCG64(1)
    x = module._bytes(source, 3000 * 10).reshape(3000, 10)
    weights = [module._weights(source, 20, 10, 0.5), module._weights(source, 5, 20, 0.5)]
    whole = module._labels(x, weights)
    monkeypatch.setattr(module, "_AT_ONCE", 20 * 1000)
    # What the first samples scale by may differ by a bit; a label may, where two scores are close.
    assert (module._labels(x, weights) == whole).mean() > 0.98


def test_published_tasks_stay() -> None:
    # On every machine and with every version of the libraries: the checksum is in trial ids.
    assert dataset_checksum(TeacherSettings()) == "97584346f4c50ee1"
    other = TeacherSettings(
        samples=500, inputs=30, classes=3, teacher_hidden=[20, 10], teacher_density=0.5,
        label_noise=0.2, teacher_seed=7,
    )  # fmt: skip
    assert dataset_checksum(other) == "09c0762d56c03826"


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 9_999}, {"inputs": 63}, {"classes": 9}, {"teacher_hidden": [31]},
        {"teacher_hidden": []}, {"teacher_density": 0.21}, {"label_noise": 0.1},
        {"teacher_seed": 1},
    ],
)  # fmt: skip
def test_every_setting_is_part_of_the_datas_identity(change: Config) -> None:
    assert dataset_checksum(TeacherSettings(**change)) != dataset_checksum(TeacherSettings())


def test_the_split_for_validation_is_not_part_of_it() -> None:
    assert load_dataset(TeacherSettings(validation=0.3)) is load_dataset(TeacherSettings())


def test_sizes_and_classes_are_as_asked() -> None:
    dataset = load_dataset(TeacherSettings(samples=5003, inputs=17, classes=7))
    assert dataset.x_train.shape == (4003, 17)
    assert dataset.x_test.shape == (1000, 17)
    assert dataset.n_classes == 7
    counts = np.bincount(np.concatenate([dataset.y_train, dataset.y_test]), minlength=7)
    assert len(counts) == 7
    assert counts.min() > 0.4 * counts.mean()
    assert dataset.x_train.mean() == pytest.approx(0, abs=1e-4)
    assert dataset.x_train.std() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(("density", "size"), [(1e-9, (4, 5)), (0.25, (4, 6)), (1.0, (3, 3))])
def test_the_teacher_has_exactly_the_connections_asked_for(
    density: float, size: tuple[int, int]
) -> None:
    weights = module._weights(np.random.PCG64(0), *size, density)
    assert np.count_nonzero(weights) == max(1, round(density * size[0] * size[1]))
    assert np.abs(weights).max() <= 255


@pytest.mark.parametrize("classes", [2, 5])
def test_noise_replaces_exactly_so_many_training_labels_by_others(classes: int) -> None:
    clean = load_dataset(TeacherSettings(samples=1000, classes=classes))
    noisy = load_dataset(TeacherSettings(samples=1000, classes=classes, label_noise=0.3))
    assert (clean.y_train != noisy.y_train).sum() == round(0.3 * 800)
    assert (clean.y_test == noisy.y_test).all()
    assert (clean.x_train == noisy.x_train).all()
    assert noisy.y_train.max() == classes - 1


def test_it_can_be_learned_and_noise_makes_it_harder(config_of: Callable[..., Config]) -> None:
    def accuracy(**changes: Any) -> float:
        config = config_of("dense")
        config["data"] = {"name": "teacher", "samples": 5000, "teacher_hidden": [], **changes}
        training = Training(config)
        while not training.finished:
            metrics = training.run_epoch()
        return metrics["test_accuracy"]

    clean = accuracy()
    assert clean > 0.5
    assert accuracy(label_noise=0.8) < clean - 0.1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"samples": 19}, "data.samples: 19 is not allowed"),
        ({"samples": 10**8, "inputs": 1000}, "data: samples x inputs is 100000000000 numbers"),
        ({"samples": 10**7, "classes": 1000}, "data: samples x classes is"),
        ({"teacher_hidden": [10**5, 10**5]}, "data: the teacher's largest layer is"),
        ({"classes": 1}, "data.classes: 1 is not allowed"),
        ({"teacher_density": 0.0}, "data.teacher_density: 0.0 is not allowed"),
        ({"label_noise": 1.0}, "data.label_noise: 1.0 is not allowed"),
        ({"teacher_seed": -1}, "data.teacher_seed: -1 is not allowed"),
        ({"path": "x"}, "data.path: unknown key"),
    ],
)
def test_a_task_that_cannot_be_costs_one_line(
    config_of: Callable[..., Config], values: Config, expected: str
) -> None:
    config = {**config_of("dense"), "data": {"name": "teacher", **values}}
    with pytest.raises(InputError) as caught:
        check_training(config, load_dataset(DigitsSettings()))
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)
