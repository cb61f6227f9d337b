"""What a topology looks like by itself, and how two overlap with every neuron left in place.

A mask is (n_out, n_in), a dense boolean array or a scipy sparse one; masks of a network come first
layer first and chain as `prepared.prepare` describes. What `prepare` made of them will do as well.
The distance that two networks would have by chance (`chance_level`) is offered here, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from topology.chance import ChanceLevel, chance_level
from topology.nnstd import as_topology
from topology.prepared import Layer, Topology, prepare

__all__ = [
    "ChanceLevel",
    "DegreeStatistics",
    "chance_level",
    "dead_neurons",
    "degree_statistics",
    "degrees",
    "exploration_rate",
    "hamming",
    "jaccard",
]


@dataclass(frozen=True)
class DegreeStatistics:
    """The degrees of one layer's neurons, or of its inputs.

    Attributes:
        mean: connections of each, on average.
        sd: their standard deviation (of all of them: divided by n).
        least: the fewest that one has.
        greatest: the most that one has.
    """

    mean: float
    sd: float
    least: int
    greatest: int


def hamming(a: Sequence[Any] | Topology, b: Sequence[Any] | Topology) -> tuple[float, ...]:
    """Share of possible connections that only one of the two has, layer by layer.

    Raises:
        ValueError: masks of different shapes; a mask that is none.
    """
    return tuple(
        only_one / (shape[0] * shape[1]) for only_one, _, shape in _connection_counts(a, b)
    )


def jaccard(a: Sequence[Any] | Topology, b: Sequence[Any] | Topology) -> tuple[float, ...]:
    """Jaccard distance of the two sets of connections, layer by layer; 0 when both are empty.

    Raises:
        ValueError: masks of different shapes; a mask that is none.
    """
    return tuple(
        only_one / in_any if in_any else 0.0 for only_one, in_any, _ in _connection_counts(a, b)
    )


def _connection_counts(
    a: Sequence[Any] | Topology, b: Sequence[Any] | Topology
) -> Iterable[tuple[int, int, tuple[int, int]]]:
    """Connections in exactly one, connections in any, shape: of each layer."""
    first, second = as_topology(a).layers, as_topology(b).layers
    shapes = [layer.shape for layer in first], [layer.shape for layer in second]
    if shapes[0] != shapes[1]:
        raise ValueError(f"masks of different shapes have no neurons in common: {shapes}")
    for x, y, shape in zip(first, second, shapes[0], strict=True):
        common = int(x.mask.multiply(y.mask).nnz)
        in_any = x.nnz + y.nnz - common
        yield in_any - common, in_any, shape


def degrees(mask: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Connections into each neuron (n_out,) and out of each input (n_in,) of one mask."""
    return _degrees(prepare([mask]).layers[0])


def degree_statistics(
    masks: Sequence[Any] | Topology,
) -> tuple[tuple[DegreeStatistics, DegreeStatistics], ...]:
    """For each layer the degrees of its neurons (connections in) and of its inputs (out).

    >>> incoming, outgoing = degree_statistics([[[1, 1, 0], [0, 1, 0]]])[0]
    >>> incoming
    DegreeStatistics(mean=1.5, sd=0.5, least=1, greatest=2)
    >>> outgoing.least, outgoing.greatest
    (0, 2)
    """
    found = []
    for layer in as_topology(masks).layers:
        incoming, outgoing = _degrees(layer)
        found.append((_statistics(incoming), _statistics(outgoing)))
    return tuple(found)


def _degrees(layer: Layer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    outgoing = np.bincount(layer.rows.indices, minlength=layer.shape[1])
    return layer.degrees.astype(np.int64), outgoing.astype(np.int64)


def _statistics(values: NDArray[np.int64]) -> DegreeStatistics:
    return DegreeStatistics(
        float(values.mean()), float(values.std()), int(values.min()), int(values.max())
    )


def dead_neurons(masks: Sequence[Any] | Topology) -> tuple[NDArray[np.bool_], ...]:
    """The neurons that lie on no path from an input to an output: one (n_out,) array a layer.

    Nothing they compute depends on the input and reaches the output. In the last layer these are
    the outputs that no input reaches.
    """
    layers = as_topology(masks).layers
    reached: list[NDArray[np.bool_]] = []
    for layer in layers:
        inputs = np.repeat(reached[-1], layer.in_group) if reached else np.ones(layer.shape[1])
        reached.append(layer.mask @ inputs.astype(np.int64) > 0)
    alive = [reached[-1]]
    for layer, reached_before in zip(layers[:0:-1], reached[-2::-1], strict=True):
        used = alive[0].astype(np.int64) @ layer.mask > 0
        reaching = used.reshape(len(reached_before), layer.in_group).any(axis=1)
        alive.insert(0, reached_before & reaching)
    return tuple(~neurons for neurons in alive)


def exploration_rate(snapshots: Iterable[Sequence[Any] | Topology]) -> float:
    """Share of all possible connections that existed in at least one of the snapshots.

    The in-time over-parametrisation rate of Liu et al. 2021 (arXiv 2102.02887), R_s: the size of
    the union of all masks so far over the number of weights. Reads one snapshot at a time.

    Raises:
        ValueError: no snapshots, or snapshots of different shapes.
    """
    union: list[csr_array] = []
    for snapshot in snapshots:
        masks = [layer.mask for layer in as_topology(snapshot).layers]
        if not union:
            union = masks
        elif [mask.shape for mask in masks] != [mask.shape for mask in union]:
            raise ValueError("snapshots of different shapes are not those of one network")
        else:
            union = [seen.maximum(mask) for seen, mask in zip(union, masks, strict=True)]
    if not union:
        raise ValueError("an exploration rate needs at least one snapshot")
    possible = sum(mask.shape[0] * mask.shape[1] for mask in union)
    return sum(int(mask.nnz) for mask in union) / possible
