"""Networks with about the same degrees: they share a chance level, which follows from degrees."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topology.prepared import Topology
from topology.structure import degree_statistics

# Within these, chance levels of the published networks differ by less than 0.01.
_DENSITY_RATIO = 0.1
_SPREAD = 0.15

# Chance levels are of pairs of classes: more classes than this cost more than the matrix.
MOST_CLASSES = 16


def degree_profile(topology: Topology) -> NDArray[np.float64]:
    """(3 L,): density, coefficient of variation of the in-degrees and of the out-degrees."""
    profile = []
    for layer, (incoming, outgoing) in zip(
        topology.layers, degree_statistics(topology), strict=True
    ):
        profile += [layer.density, _variation(incoming.mean, incoming.sd)]
        profile.append(_variation(outgoing.mean, outgoing.sd))
    return np.array(profile)


def degree_classes(
    profiles: NDArray[np.float64], shapes: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], list[str]]:
    """Put networks of one shape whose layers have about the same degrees into classes.

    From the sparsest on, a network that is in no class yet makes one, of all that are near it:
    layer by layer within a tenth of its density, and within 0.15 and 1 / sqrt(n) (what chance
    does to n neurons) of its coefficients of variation. Where that makes more than `MOST_CLASSES`,
    the limits are doubled until it does not.

    Args:
        profiles: (n, 3 L) from `degree_profile`.
        shapes: (n_out, n_in) of each layer.

    Returns:
        (n,) the class of each network, and the classes' names: their density over the layers that
        are not full, as `5%`, and `5% (2)` for another class of that density.
    """
    order = np.lexsort((profiles.sum(axis=1), _densities(profiles, shapes)))
    factor = 1.0
    while True:
        classes = _near_leaders(profiles, order, factor * _limits(shapes))
        if classes.max() < MOST_CLASSES:
            break
        factor *= 2
    first = [int(order[np.argmax(classes[order] == k)]) for k in range(classes.max() + 1)]
    return classes, _names(_densities(profiles, shapes)[first])


def _near_leaders(
    profiles: NDArray[np.float64], order: NDArray[np.int64], limits: NDArray[np.float64]
) -> NDArray[np.int64]:
    # Densities compare by their ratio.
    places = profiles.copy()
    places[:, ::3] = np.log(np.maximum(places[:, ::3], 1e-9))
    classes = np.full(len(profiles), -1, dtype=np.int64)
    found = 0
    for leader in order:
        if classes[leader] < 0:
            near = (np.abs(places - places[leader]) <= limits).all(axis=1)
            classes[near & (classes < 0)] = found
            found += 1
    return classes


def _limits(shapes: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    limits: list[float] = []
    for n_out, n_in in shapes:
        limits += [np.log1p(_DENSITY_RATIO), _SPREAD + n_out**-0.5, _SPREAD + n_in**-0.5]
    return np.array(limits)


def _densities(
    profiles: NDArray[np.float64], shapes: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """(n,) over the layers that are not full; 1 where all are."""
    layers = profiles[:, ::3]
    sizes = np.where(layers < 1, np.array([n_out * n_in for n_out, n_in in shapes], float), 0.0)
    possible = sizes.sum(axis=1)
    there = (layers * sizes).sum(axis=1)
    densities = np.ones(len(layers))
    np.divide(there, possible, out=densities, where=possible > 0)
    return densities


def _names(densities: NDArray[np.float64]) -> list[str]:
    seen: Counter[str] = Counter()
    names = []
    for density in densities:
        name = f"{100 * density:.3g}%"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def _variation(mean: float, sd: float) -> float:
    return sd / mean if mean else 0.0
