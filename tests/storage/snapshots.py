"""Small snapshots whose masks follow from trial and step, so that every test knows what to find."""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage import LayerMask, MaskStore

Key = tuple[str, int]


def manifest_path(table: Path) -> Path:
    """The manifest that holds."""
    return max((table / "manifest").glob("*.json"))


def trial(number: int) -> str:
    """A trial id."""
    return f"{number:012x}"


def layers_of(trial_id: str, step: int) -> list[LayerMask]:
    """A sparse layer, a half-full one and a dense output: one of each encoding."""
    rng = np.random.default_rng([zlib.crc32(trial_id.encode()), step])
    return [
        LayerMask("fc1", rng.random((12, 15)) < 0.05, "hidden", in_group=3),
        LayerMask("fc2", rng.random((9, 12)) < 0.5, "hidden"),
        LayerMask("out", np.ones((4, 9), dtype=np.bool_), "output"),
    ]


def masks_of(trial_id: str, step: int) -> dict[str, NDArray[np.bool_]]:
    """What a reader must find."""
    return {layer.name: layer.mask for layer in layers_of(trial_id, step)}


def append(store: MaskStore, trial_id: str, step: int, attempt: int = 1) -> Path:
    """Commit the snapshot of a trial and step."""
    return store.append(trial_id, "tiny", step, step // 10, attempt, layers_of(trial_id, step))


def keys(store: MaskStore) -> list[tuple[str, int, int]]:
    """(trial, step, attempt) of every snapshot in the index, whose layers are there once each."""
    index = store.index(with_config=False)
    grouped = index.groupby(["trial_id", "step", "attempt"], sort=True)["layer"].agg(list)
    assert all(layers == ["fc1", "fc2", "out"] for layers in grouped), grouped
    assert not grouped.index.droplevel("attempt").has_duplicates
    return list(grouped.index)


def assert_masks(store: MaskStore, expected: list[Key]) -> None:
    """The store gives exactly these snapshots' masks, each once."""
    found = list(store.iter())
    assert [(trial_id, step) for trial_id, step, _ in found] == sorted(expected)
    for trial_id, step, masks in found:
        right = masks_of(trial_id, step)
        assert list(masks) == list(right)
        for name, mask in masks.items():
            np.testing.assert_array_equal(mask.toarray(), right[name])
