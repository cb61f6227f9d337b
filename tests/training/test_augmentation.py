"""Augmentation against a plain reading of it, one image after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import scipy.ndimage
import torch

from storage.errors import InputError
from sweeps.training import Training
from sweeps.training.augmentation import (
    _CHANGES,
    AugmentationName,
    augmentation,
    crop_flip,
    rotate_shift_flip,
)
from sweeps.training.cifar import Cifar10Settings
from sweeps.training.streams import Purpose, Streams

Config = dict[str, Any]
STREAMS = Streams(topology=0, weights=0, data=5)


def some_images(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (7, 1, 5, 9), (3, 2, 1, 1)])
def test_set_rotates_shifts_and_flips_as_scipy_does_image_by_image(shape: tuple[int, ...]) -> None:
    images = some_images(*shape)
    n, _, height, width = shape
    got = rotate_shift_flip(images, np.random.default_rng(3)).numpy()

    rng = np.random.default_rng(3)
    angles = rng.uniform(-10, 10, n)
    down, right = rng.uniform(-0.1, 0.1, n) * height, rng.uniform(-0.1, 0.1, n) * width
    flips = rng.random(n) < 0.5
    assert 0 < flips.sum() < n or n < 5
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    for k in range(n):
        theta = np.pi * angles[k] / 180
        turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        # Pixel o of the result is taken from turn (o - centre + shift) + centre.
        offset = turn @ (np.array([down[k], right[k]]) - centre) + centre
        for channel in range(shape[1]):
            expected = scipy.ndimage.affine_transform(
                images[k, channel].numpy().astype(float), turn, offset, order=1, mode="nearest"
            )
            expected = expected[:, ::-1] if flips[k] else expected
            np.testing.assert_allclose(got[k, channel], expected, atol=2e-4)


def test_flip_crop_is_a_window_of_the_padded_image() -> None:
    images = some_images(20, 3, 8, 6)
    got = crop_flip(images, np.random.default_rng(4)).numpy()
    rng = np.random.default_rng(4)
    offsets = rng.integers(0, 9, (2, 20))
    flips = rng.random(20) < 0.5
    assert offsets.min() == 0
    assert offsets.max() == 8
    for k in range(20):
        padded = np.pad(images[k].numpy(), ((0, 0), (4, 4), (4, 4)))
        top, left = offsets[:, k]
        window = padded[:, top : top + 8, left : left + 6]
        assert (got[k] == (window[:, :, ::-1] if flips[k] else window)).all()


@pytest.mark.parametrize("name", sorted(_CHANGES))
def test_the_data_stream_and_the_step_decide_and_nothing_else(name: str) -> None:
    settings = Cifar10Settings(augment=name)
    images = some_images(6, 3, 8, 8)
    change = augmentation(settings, (3, 8, 8), STREAMS)
    before = torch.get_rng_state()
    first = change(images, 4)
    assert torch.equal(first, change(images, 4))
    assert torch.equal(first, _CHANGES[name](images, STREAMS.for_data(Purpose.AUGMENTATION, 4)))
    other = augmentation(settings, (3, 8, 8), Streams(topology=1, weights=1, data=5))
    assert torch.equal(first, other(images, 4))
    assert not torch.equal(first, change(images, 5))
    assert torch.equal(before, torch.get_rng_state())


def test_what_settings_offer_is_what_there_is() -> None:
    assert {"none", *_CHANGES} == {*get_args(AugmentationName)}
    images = some_images(2, 3, 4, 4)
    assert augmentation(Cifar10Settings(), (3, 4, 4), STREAMS)(images, 0) is images
    assert augmentation(object(), (9,), STREAMS)(images, 0) is images


def test_inputs_that_are_no_images_cannot_be_augmented() -> None:
    with pytest.raises(InputError, match=r"^data\.augment: 'set' is not allowed"):
        augmentation(Cifar10Settings(augment="set"), (64,), STREAMS)


@pytest.mark.parametrize("name", sorted(_CHANGES))
def test_training_takes_augmented_images_and_evaluation_never(
    config_of: Callable[..., Config], cifar: Callable[..., Path], name: str
) -> None:
    config = config_of("set", model={"name": "vgg"}, method={"update_every": "2it"})
    config["model"] = {"name": "lenet", "channels": [2, 2], "hidden": [8, 8]}
    config["optimizer"] = {"name": "sgd", "batch_size": 16}
    plain = {**config, "data": {"name": "cifar10", "validation": 0.2}}
    config["data"] = {**plain["data"], "augment": name}
    folder = str(cifar())
    trained, other = Training(config, folder), Training(plain, folder)
    assert trained.evaluate() == other.evaluate()
    seen: list[torch.Tensor] = []
    trained.model.register_forward_pre_hook(lambda model, args: seen.append(args[0]))
    batch = trained.batches(0)[0]
    trained.train_step(batch)
    images = trained.dataset.tensors("cpu")[0][batch]
    rng = trained._streams.for_data(Purpose.AUGMENTATION, 0)
    assert torch.equal(seen[0], _CHANGES[name](images, rng))


@pytest.mark.parametrize("name", sorted(_CHANGES))
def test_an_augmented_training_goes_on_where_it_was_interrupted(
    config_of: Callable[..., Config],
    outcome: Callable[[Training], Any],
    cifar: Callable[..., Path],
    name: str,
) -> None:
    config = config_of("set", method={"update_every": "2it"})
    config["data"] = {"name": "cifar10", "validation": 0.2, "augment": name}
    config["optimizer"] = {"name": "sgd", "batch_size": 16}
    config["model"] = {"name": "mlp", "hidden": [8]}
    folder = str(cifar())
    whole = Training(config, folder)
    states: list[dict[str, Any]] = []
    while not whole.finished:
        whole.run_epoch(lambda step: states.append(whole.state_dict()))
    resumed = Training(config, folder)
    resumed.load_state_dict(states[2])
    while not resumed.finished:
        resumed.run_epoch()
    assert outcome(resumed) == outcome(whole)
