"""Networks to compare, and the metric once more in sets and loops."""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Masks = list[NDArray[np.bool_]]


def _jaccard(x: set[int], y: set[int]) -> float:
    return len(x ^ y) / len(x | y) if x | y else 0.0


def plain_layers(
    a: Masks,
    b: Masks,
    labelled_outputs: bool = False,
    everything: bool = False,
    matchings: Sequence[NDArray[np.int64]] | None = None,
    achieved: bool = False,
) -> list[float]:
    """The metric by its definition: sets, loops, B's networks really permuted.

    `everything` tries every permutation instead of a solver, for the first layer's optimum only.
    With `matchings` the layers before are matched as they say; `achieved` gives the distances of
    these matchings, otherwise each layer's least one.
    """
    a_inputs = [[{int(k) for k in np.flatnonzero(row)} for row in mask] for mask in a]
    b_inputs = [[{int(k) for k in np.flatnonzero(row)} for row in mask] for mask in b]
    distances = []
    matching: dict[int, int] = {}
    for index, (rows_a, rows_b) in enumerate(zip(a_inputs, b_inputs, strict=True)):
        if index:
            group = a[index].shape[1] // a[index - 1].shape[0]
            back = {j: i for i, j in matching.items()}

            def to_a(k: int, back: dict[int, int] = back, group: int = group) -> int:
                neuron, offset = divmod(k, group)
                if neuron not in back:
                    return -1 - k  # nothing of A stands here
                return back[neuron] * group + offset

            moved = [{to_a(k) for k in row} for row in rows_b]
        else:
            moved = rows_b
        costs = np.array([[_jaccard(x, y) for y in moved] for x in rows_a])
        if labelled_outputs and index == len(a) - 1:
            pairs = [(i, i) for i in range(len(rows_a))]
        elif everything:
            options = itertools.permutations(range(len(moved)))
            best = min(options, key=lambda p: sum(costs[i, j] for i, j in enumerate(p)))
            return [sum(costs[i, j] for i, j in enumerate(best)) / len(rows_a)]
        else:
            pairs = list(zip(*(x.tolist() for x in linear_sum_assignment(costs)), strict=True))
        matching = dict(pairs)
        if matchings is not None:
            matching = {i: int(j) for i, j in enumerate(matchings[index]) if j >= 0}
            pairs = list(matching.items()) if achieved else pairs
        larger = max(len(rows_a), len(rows_b))
        matched = sum(costs[i, j] for i, j in pairs)
        distances.append(float(matched + larger - len(pairs)) / larger)
    return distances


@pytest.fixture(scope="session")
def plain() -> Callable[..., list[float]]:
    return plain_layers


def random_masks(
    seed: int, sizes: Sequence[int] = (12, 10, 8, 4), density: float | Sequence[float] = 0.3
) -> Masks:
    """Masks of an MLP with these sizes, each connection present by chance."""
    rng = np.random.default_rng(seed)
    densities = [density] * (len(sizes) - 1) if isinstance(density, float) else density
    return [
        rng.random((n_out, n_in)) < p
        for n_in, n_out, p in zip(sizes[:-1], sizes[1:], densities, strict=True)
    ]


@pytest.fixture(scope="session")
def networks() -> Callable[..., Masks]:
    return random_masks


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of masks published with the paper, where it is at hand."""
    data = os.environ.get("TOPOSWEEP_SHARED_DATA")
    root = Path(data) if data else Path(__file__).parents[3] / "shared" / "data"
    folder = root / "published-topologies"
    if not folder.is_dir():
        pytest.skip(f"no published masks in {folder}: set TOPOSWEEP_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def ray_cluster(ray_here: None) -> str:
    """The address of a Ray with two CPUs, to which this process is connected."""
    import ray

    return str(ray.get_runtime_context().gcs_address)
