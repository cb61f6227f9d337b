"""Networks as other programs leave them, with masks that every test can work out again."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from storage import Run

Masks = dict[str, NDArray[np.bool_]]

SIZES = (6, 8, 7, 3)


def mlp(seed: int = 0, sizes: tuple[int, ...] = SIZES) -> Masks:
    """Masks weight_l0, weight_l1, ... of an MLP, a third of them connections."""
    rng = np.random.default_rng(seed)
    return {
        f"weight_l{k}": rng.random((n_out, n_in)) < 0.33
        for k, (n_in, n_out) in enumerate(pairwise(sizes))
    }


def weights(mask: NDArray[np.bool_], seed: int = 0) -> NDArray[np.float64]:
    """Weights, of both signs, of which none that is connected is 0."""
    rng = np.random.default_rng(seed)
    return mask * rng.choice([-1.0, 1.0], mask.shape) * rng.uniform(0.1, 1, mask.shape)


def write_set(folder: Path, masks: Masks) -> Path:
    """As the authors of SET do: (n_in + 1, n_out), a full row for the bias below."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        stored = np.vstack([weights(mask).T, np.ones(len(mask))])
        scipy.sparse.save_npz(folder / f"{name}.npz", scipy.sparse.csr_matrix(stored))
    return folder


def assert_holds(out: Path, expected: dict[tuple[str, int], Masks]) -> None:
    """OUT holds these masks by network's name and step, and nothing else."""
    run = Run.open(out)
    names = {r.trial_id: str(r.config["imported"]["name"]) for r in run.records().values()}
    found = {(names[trial_id], step): masks for trial_id, step, masks in run.masks.iter()}
    assert set(found) == set(expected)
    for key, masks in found.items():
        assert list(masks) == list(expected[key])
        for layer, mask in masks.items():
            np.testing.assert_array_equal(mask.toarray(), expected[key][layer])


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock's, which each look at OUT renews."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "lock"
    }
