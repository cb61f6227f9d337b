"""Augmentation: images of a batch are changed at random, anew each step, in training alone.

All is drawn from the ``data`` stream by the step, on the CPU, and applied to the batch on the
device where it is trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from storage.errors import InputError
from sweeps.training.streams import Purpose, Streams

AugmentationName = Literal["none", "set", "flip_crop"]

_DEGREES = 10.0
_SHIFT = 0.1
_PADDING = 4


def augmentation(
    settings: Any, input_shape: tuple[int, ...], streams: Streams
) -> Callable[[Tensor, int], Tensor]:
    """What is done to a batch x (batch, *input_shape) when ``step`` optimiser steps are done.

    ``settings.augment`` names it; data without that setting stays as it is.
    Raises InputError where the inputs are no images.
    """
    name = getattr(settings, "augment", "none")
    if name == "none":
        return lambda x, step: x
    if len(input_shape) != 3:
        raise InputError(f"data.augment: {name!r} is not allowed: the data holds no images")
    change = _CHANGES[name]
    return lambda x, step: change(x, streams.for_data(Purpose.AUGMENTATION, step))


def rotate_shift_flip(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image (channels, h, w) of a batch rotated, shifted and perhaps flipped, as the code of
    SET's authors has Keras do it for CIFAR-10.

    A rotation by up to 10 degrees about the centre, a shift by up to 10% of the height and of the
    width (all uniform), in half of the cases a flip of left and right. Pixel o of the result, from
    the centre, is the image's at R (o + t), between pixels interpolated linearly, beyond the edge
    the nearest one. (Keras 2.1 rotated about a point a pixel off the centre; later ones as here.)
    """
    n, _, height, width = x.shape
    angle = np.deg2rad(rng.uniform(-_DEGREES, _DEGREES, n))
    down = rng.uniform(-_SHIFT, _SHIFT, n) * height
    right = rng.uniform(-_SHIFT, _SHIFT, n) * width
    flipped = rng.random(n) < 0.5

    def of_each(values: npt.NDArray[np.float64]) -> Tensor:  # (n, 1, 1)
        return torch.from_numpy(values.astype(np.float32)).to(x.device)[:, None, None]

    rows = torch.arange(height, device=x.device)[:, None] - (height - 1) / 2 + of_each(down)
    columns = torch.arange(width, device=x.device) - (width - 1) / 2 + of_each(right)
    cos, sin = of_each(np.cos(angle)), of_each(np.sin(angle))
    # grid_sample's coordinates go from -1 to 1, from edge to edge of the outer pixels.
    grid = torch.stack(
        [
            (sin * rows + cos * columns) * (2 / width),
            (cos * rows - sin * columns) * (2 / height),
        ],
        dim=-1,
    )
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return _flipped(moved, flipped)


def crop_flip(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image of a batch cropped at random to its size after 4 pixels of 0, the mean of all
    pixels, were put around it, and in half of the cases flipped left to right (He et al. 2016).
    """
    n, _, height, width = x.shape
    offsets = torch.from_numpy(rng.integers(0, 2 * _PADDING + 1, (2, n))).to(x.device)
    flipped = rng.random(n) < 0.5
    rows = (offsets[0][:, None] + torch.arange(height, device=x.device))[:, :, None]
    columns = (offsets[1][:, None] + torch.arange(width, device=x.device))[:, None, :]
    image = torch.arange(n, device=x.device)[:, None, None]
    padded = F.pad(x, (_PADDING,) * 4).movedim(1, 3)
    return _flipped(padded[image, rows, columns].movedim(3, 1).contiguous(), flipped)


def _flipped(x: Tensor, flipped: npt.NDArray[np.bool_]) -> Tensor:
    chosen = torch.from_numpy(flipped).to(x.device)[:, None, None, None]
    return torch.where(chosen, x.flip(3), x)


_CHANGES: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "set": rotate_shift_flip,
    "flip_crop": crop_flip,
}
