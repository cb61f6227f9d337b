"""NNSTD: how far apart the topologies of two networks are (Liu et al. 2020, arXiv 2006.14085).

Layer by layer, the neurons of A are matched with those of B at the least total Jaccard distance of
their incoming connections (`overlap`, `assignment`); the layer's distance is the mean over its
neurons; B's neurons then take the places of A's, and the next layer is compared given that. The
network's inputs carry labels and are never matched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from topology.assignment import assign, duality_gap, matched_distance
from topology.overlap import input_places, jaccard_costs, jaccard_in_place
from topology.prepared import Layer, Topology, prepare

Method = Literal["layerwise", "reference"]
METHODS: tuple[Method, ...] = get_args(Method)

# A new number for a method whose values change: stored distances of the old one are recomputed.
METRIC_VERSIONS: dict[Method, int] = {"layerwise": 1, "reference": 1}


@dataclass(frozen=True, eq=False)
class TopologyDistance:
    """How far apart two topologies are.

    Attributes:
        network: in [0, 1]; the mean of `layers` weighted by their neurons, over the layers that
            are sparse in at least one of the two. 0 where every layer is full in both.
        layers: in [0, 1]; the distance of each layer.
        matchings: one (n_out of A,) array a layer: the neuron of B that stands for each neuron of
            A, -1 for none.
        gap: no matching of any layer, given those of the layers before, has a distance that is
            smaller by more than this (the largest primal-dual gap).
        canonical: the distances follow from structure alone, whatever order the neurons are in.
            False where equally good matchings of one layer may lead to other distances in the
            next, and the solver's choice among them decided.
    """

    network: float
    layers: tuple[float, ...]
    matchings: tuple[NDArray[np.int64], ...]
    gap: float
    canonical: bool


def nnstd(
    a: Sequence[Any] | Topology,
    b: Sequence[Any] | Topology,
    method: Method = "layerwise",
    labelled_outputs: bool = False,
) -> TopologyDistance:
    """The distance of two networks' topologies.

    Args:
        a, b: one (n_out, n_in) mask a layer, dense or scipy sparse, or what `prepare` made of
            them. Equal numbers of layers and of inputs; widths may differ (see `assignment`).
        method: `layerwise` is the definition above. `reference` is what the paper's published code
            computes, bit for bit; it depends on the order of the two networks.
        labelled_outputs: the last mask's rows carry labels (classes) and stay in place; its
            distance is their mean Jaccard distance. Otherwise they are matched like any others.

    Raises:
        ValueError: an unknown method, a mask that is none, networks that cannot be compared.

    >>> nnstd([[[1, 1, 0], [0, 0, 1]]], [[[0, 0, 1], [1, 0, 0]]]).layers
    (0.25,)
    """
    check_method(method)
    a, b = as_topology(a), as_topology(b)
    layers, matchings, gaps = _compare(a, b, labelled_outputs, certify=True)
    return TopologyDistance(
        network=network_distance(a, b, layers),
        layers=tuple(layers),
        matchings=tuple(matchings),
        gap=max(gaps),
        canonical=is_canonical(a, b),
    )


def pair_distances(
    a: Topology, b: Topology, method: Method, labelled_outputs: bool
) -> tuple[list[float], bool]:
    """The distances of pair (a, b) in a list of networks, without matchings and certificates.

    `reference` compares the later network with the earlier one, as the published code goes through
    its pairs.

    Returns:
        [network, layer 0, layer 1, ...] and whether they are canonical.
    """
    if method == "reference":
        a, b = b, a
    layers, _, _ = _compare(a, b, labelled_outputs, certify=False)
    return [network_distance(a, b, layers), *layers], is_canonical(a, b)


def check_method(method: str) -> None:
    """Raise ValueError, naming the methods, for one that does not exist."""
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown: {', '.join(METHODS)}")


def as_topology(masks: Sequence[Any] | Topology) -> Topology:
    """Prepared masks as they are, others prepared."""
    return masks if isinstance(masks, Topology) else prepare(masks)


def network_distance(a: Topology, b: Topology, layers: Sequence[float]) -> float:
    """The neuron-weighted mean over the layers that are sparse in at least one of the two."""
    total, neurons = 0.0, 0
    for layer_a, layer_b, distance in zip(a.layers, b.layers, layers, strict=True):
        if not (layer_a.full and layer_b.full):
            n = max(layer_a.shape[0], layer_b.shape[0])
            total += n * distance
            neurons += n
    return total / neurons if neurons else 0.0


def is_canonical(a: Topology, b: Topology) -> bool:
    """Whether the choice among equally good matchings cannot change any layer's distance.

    The least cost of a layer given the order of its inputs is one number, so the first layer's
    distance always follows from structure alone; a later layer's does where the order of its inputs
    cannot matter.
    """
    later = (*a.layers[1:], *b.layers[1:])
    return all(layer.all_or_nothing for layer in later)


def _compare(
    a: Topology, b: Topology, labelled_outputs: bool, certify: bool
) -> tuple[list[float], list[NDArray[np.int64]], list[float]]:
    """Each layer's distance, matching and (if asked for; it costs as much as the rest) gap."""
    _check_comparable(a, b, labelled_outputs)
    layers: list[float] = []
    matchings: list[NDArray[np.int64]] = []
    gaps: list[float] = []
    last = len(a.layers) - 1
    for index, (layer_a, layer_b) in enumerate(zip(a.layers, b.layers, strict=True)):
        places = input_places(
            matchings[-1] if matchings else None,
            layer_a.in_group,
            layer_a.shape[1],
            layer_b.shape[1],
        )
        if labelled_outputs and index == last:
            n = layer_a.shape[0]
            matching = np.arange(n, dtype=np.int64)
            distance = float(jaccard_in_place(layer_a, layer_b, places).sum() / n)
            gap = 0.0  # there is no other matching
        else:
            costs = jaccard_costs(layer_a, layer_b, places)
            matching = assign(costs)
            distance = matched_distance(costs, matching)
            gap = duality_gap(costs, matching) if certify else np.nan
        layers.append(distance)
        matchings.append(matching)
        gaps.append(gap)
    return layers, matchings, gaps


def _check_comparable(a: Topology, b: Topology, labelled_outputs: bool) -> None:
    if len(a.layers) != len(b.layers):
        raise ValueError(
            f"networks of {len(a.layers)} and {len(b.layers)} layers cannot be compared"
        )
    inputs = a.layers[0].shape[1], b.layers[0].shape[1]
    if inputs[0] != inputs[1]:
        raise ValueError(
            f"networks of {inputs[0]} and {inputs[1]} inputs cannot be compared: "
            "inputs carry labels"
        )
    for index, (x, y) in enumerate(zip(a.layers, b.layers, strict=True)):
        _check_groups(index, x, y)
    outputs = a.layers[-1].shape[0], b.layers[-1].shape[0]
    if labelled_outputs and outputs[0] != outputs[1]:
        raise ValueError(
            f"networks of {outputs[0]} and {outputs[1]} labelled outputs cannot be compared"
        )


def _check_groups(index: int, a: Layer, b: Layer) -> None:
    if a.in_group != b.in_group:
        raise ValueError(
            f"layer {index} takes {a.in_group} inputs from each neuron before in one network and "
            f"{b.in_group} in the other: they cannot be compared"
        )
