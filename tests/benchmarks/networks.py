"""The networks that the distance benchmarks compare."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, load_npz

Mask = NDArray[np.bool_]
Masks = list[Mask]

WIDTH = 784


def published(count: int = 15) -> tuple[str, list[Masks]]:
    """The three hidden layers' masks of networks published with the paper, where they are at hand.

    (TOPOSWEEP_SHARED_DATA, or ../shared/data beside the repository.) Beyond the 15 that there are,
    copies with 3% of the connections moved. Elsewhere random masks of the same sizes and density,
    of which each is the one before with 10% of the connections moved.
    """
    data = os.environ.get("TOPOSWEEP_SHARED_DATA")
    root = Path(data) if data else Path(__file__).parents[3] / "shared" / "data"
    folders = sorted((root / "published-topologies").glob("*/epoch_*"))
    rng = np.random.default_rng(0)
    if folders:
        source, moved = "published", 0.03
        networks = [_read(folder) for folder in folders]
    else:
        source, moved = "random", 0.1
        networks = [[random_mask(rng, 0.006) for _ in range(3)]]
    given = len(networks)
    while len(networks) < count:
        networks.append([evolved(rng, mask, moved) for mask in networks[-given]])
    return source, networks[:count]


def _read(folder: Path) -> Masks:
    files = [folder / f"weight_l{k}.npz" for k in range(3)]
    return [csr_array(load_npz(file)).toarray()[:-1].T != 0 for file in files]


def random_mask(rng: np.random.Generator, density: float, n: int = WIDTH) -> Mask:
    """Each connection by chance."""
    return rng.random((n, n)) < density


def evolved(rng: np.random.Generator, mask: Mask, share: float) -> Mask:
    """The mask with a share of its connections moved to where none were."""
    flat = mask.ravel().copy()
    there, free = np.flatnonzero(flat), np.flatnonzero(~flat)
    moved = min(round(share * len(there)), len(free))
    flat[rng.choice(there, moved, replace=False)] = False
    flat[rng.choice(free, moved, replace=False)] = True
    return flat.reshape(mask.shape)


def cpu_seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Processor time of this process, the least of some runs: other work hardly changes it."""
    taken = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def wall_seconds(work: Callable[[], object]) -> float:
    """Time on the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
