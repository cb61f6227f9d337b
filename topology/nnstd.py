"""NNSTD: how far apart the topologies of two networks are (Liu et al. 2020, arXiv 2006.14085).

Layer by layer, the neurons of A are matched with those of B at the least total Jaccard distance of
their incoming connections; the layer's distance is the mean over its neurons; B's neurons then take
the places of A's, and the next layer is compared given that. The network's inputs carry labels and
are never matched. `README.md` beside this file defines the methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from topology.assignment import UNMATCHED
from topology.canonical import CanonicalForm, form_of
from topology.layerwise import Matching, in_place, match_layerwise, places_after
from topology.prepared import Layer, Topology, prepare
from topology.reference import certified_least, match_as_published

Method = Literal["layerwise", "reference"]
METHODS: tuple[Method, ...] = get_args(Method)

# A new number for a method whose values change: stored distances of the old one are recomputed.
METRIC_VERSIONS: dict[Method, int] = {"layerwise": 2, "reference": 1}


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
            Always so but for `reference`, and for networks too symmetrical to be put into canonical
            order within the budget (see `canonical`).
    """

    network: float
    layers: tuple[float, ...]
    matchings: tuple[Matching, ...]
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
            them. Equal numbers of layers and of inputs; widths may differ (see `matching`).
        method: `layerwise` is the definition above with a canonical choice among equally good
            matchings. `reference` is what the paper's published code computes, bit for bit; it
            depends on the order of the neurons and of the two networks.
        labelled_outputs: the last mask's rows carry labels (classes) and stay in place; its
            distance is their mean Jaccard distance. Otherwise they are matched like any others.

    Raises:
        ValueError: an unknown method, a mask that is none, networks that cannot be compared.

    >>> nnstd([[[1, 1, 0], [0, 0, 1]]], [[[0, 0, 1], [1, 0, 0]]]).layers
    (0.25,)
    """
    check_method(method)
    a, b = as_topology(a), as_topology(b)
    done = _compared(a, b, method, labelled_outputs, certify=True)
    return TopologyDistance(
        network=network_distance(a, b, done.distances),
        layers=tuple(done.distances),
        matchings=tuple(done.matchings),
        gap=done.gap,
        canonical=done.exact or _order_cannot_matter(a, b),
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
    done = _compared(a, b, method, labelled_outputs, certify=False)
    canonical = done.exact or _order_cannot_matter(a, b)
    return [network_distance(a, b, done.distances), *done.distances], canonical


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


def prepare_for(topology: Topology, method: Method, labelled_outputs: bool) -> None:
    """Compute now what the method needs of a network, once for any number of comparisons."""
    if method != "reference":
        form_of(topology, labelled_outputs)


class _Comparison(NamedTuple):
    distances: list[float]
    matchings: list[Matching]
    gap: float
    exact: bool


def _compared(
    a: Topology, b: Topology, method: Method, labelled_outputs: bool, certify: bool
) -> _Comparison:
    """Compare two networks; `certify` where a certificate costs extra."""
    _check_comparable(a, b, labelled_outputs)
    if method == "reference":
        return _as_published(a, b, labelled_outputs, certify)
    form_a, form_b = form_of(a, labelled_outputs), form_of(b, labelled_outputs)
    if form_a.digest <= form_b.digest:
        return _in_canonical_order(form_a, form_b, labelled_outputs)
    done = _in_canonical_order(form_b, form_a, labelled_outputs)
    widths = [layer.shape[0] for layer in a.layers]
    return done._replace(matchings=[*map(_inverse, done.matchings, widths)])


def _in_canonical_order(a: CanonicalForm, b: CanonicalForm, labelled_outputs: bool) -> _Comparison:
    distances, matchings, gap = match_layerwise(a, b, labelled_outputs)
    original = [*map(_original, matchings, a.orders, b.orders)]
    return _Comparison(distances, original, gap, a.exact and b.exact)


def _original(matching: Matching, order_a: Matching, order_b: Matching) -> Matching:
    """A matching of canonical places as one of the networks' own neurons."""
    original = np.empty_like(matching)
    original[order_a] = np.where(matching == UNMATCHED, UNMATCHED, order_b[matching])
    return original


def _inverse(matching: Matching, n: int) -> Matching:
    inverse = np.full(n, UNMATCHED, dtype=np.int64)
    matched = np.flatnonzero(matching != UNMATCHED)
    inverse[matching[matched]] = matched
    return inverse


def _as_published(a: Topology, b: Topology, labelled_outputs: bool, certify: bool) -> _Comparison:
    distances: list[float] = []
    matchings: list[Matching] = []
    gap = 0.0
    for index, (layer_a, layer_b) in enumerate(zip(a.layers, b.layers, strict=True)):
        places = places_after(matchings, layer_a, layer_b)
        if labelled_outputs and index == len(a.layers) - 1:
            distance, matching = in_place(layer_a, layer_b, places)
        else:
            distance, matching = match_as_published(layer_a, layer_b, places)
            if certify:
                gap = max(gap, distance - certified_least(layer_a, layer_b, places))
        distances.append(distance)
        matchings.append(matching)
    return _Comparison(distances, matchings, gap, exact=False)


def _order_cannot_matter(a: Topology, b: Topology) -> bool:
    """Whether no choice among equally good matchings can change any layer's distance.

    The least cost of a layer given the order of its inputs is one number, so the first layer's
    distance always follows from structure alone; a later layer's does where the order of its inputs
    cannot matter.
    """
    return all(layer.all_or_nothing for layer in (*a.layers[1:], *b.layers[1:]))


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
