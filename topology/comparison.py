"""One pair of networks by each method: distances, matchings and what certifies them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from topology.assignment import UNMATCHED
from topology.bounds import lower_bound
from topology.canonical import CanonicalForm, form_of
from topology.joint import match_jointly
from topology.layerwise import Layerwise, Matching, in_place, match_layerwise, places_after
from topology.lockstep import layerwise_many
from topology.overlap import jaccard_of_matched
from topology.overlap_torch import device_for
from topology.prepared import Layer, Topology
from topology.reference import certified_least, match_as_published

Method = Literal["layerwise", "reference", "joint", "in_place"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Metric:
    """A method with its options, as `nnstd` takes them."""

    method: Method = "layerwise"
    labelled_outputs: bool = False
    shared_indices: bool = False

    def prepare(self, topology: Topology) -> None:
        """Compute now what it needs of a network, once for any number of comparisons."""
        if self.method not in ("reference", "in_place"):
            form_of(topology, self.labelled_outputs)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What comparing A with B gives.

    Attributes:
        distances: each layer's.
        matchings: each layer's, (n_a,) the neuron of B for each of A's.
        gaps: each layer's primal-dual gap.
        canonical: whether distances follow from structure alone.
        lower: a certified lower bound of the network's distance, where one was asked for.
    """

    distances: list[float]
    matchings: list[Matching]
    gaps: list[float]
    canonical: bool
    lower: float = 0.0


def compare(a: Topology, b: Topology, metric: Metric) -> Comparison:
    """Compare two networks that can be compared: everything there is to say of them."""
    if metric.method == "reference":
        return _as_published(a, b, metric.labelled_outputs, certify=True)
    if metric.method == "in_place":
        return _as_they_are(a, b)
    x, y = _in_canonical_order(a, b, metric)
    done = _matched(x, y, metric, match_layerwise(x, y, metric.labelled_outputs))
    original = [*map(_original, done.matchings, x.orders, y.orders)]
    if x is not form_of(a, metric.labelled_outputs):
        widths = [layer.shape[0] for layer in a.layers]
        original = [*map(_inverse, original, widths)]
    lower = 0.0
    if metric.method == "joint":
        lower = lower_bound(x.layers, y.layers, metric.labelled_outputs)
    return replace(done, matchings=original, lower=lower)


def compare_many(
    pairs: Sequence[tuple[Topology, Topology]], metric: Metric
) -> Iterator[Comparison]:
    """Compare pairs of networks: distances alone, whose matchings and certificates are left out.

    Wide and dense networks' common connections are counted on a GPU where there is one.
    """
    if metric.method == "reference":
        for a, b in pairs:
            yield _as_published(a, b, metric.labelled_outputs, certify=False)
        return
    if metric.method == "in_place":
        for a, b in pairs:
            yield _as_they_are(a, b)
        return
    ordered = [_in_canonical_order(a, b, metric) for a, b in pairs]
    device = device_for(form.layers for pair in ordered for form in pair)
    matched: Iterator[Layerwise]
    if device is None:
        matched = (match_layerwise(x, y, metric.labelled_outputs) for x, y in ordered)
    else:
        matched = layerwise_many(ordered, metric.labelled_outputs, device)
    for (x, y), layerwise in zip(ordered, matched, strict=True):
        yield _matched(x, y, metric, layerwise)


def network_distance(a: Sequence[Layer], b: Sequence[Layer], distances: Sequence[float]) -> float:
    """The neuron-weighted mean over the layers that are sparse in at least one of the two."""
    total, neurons = 0.0, 0
    for layer_a, layer_b, distance in zip(a, b, distances, strict=True):
        if not (layer_a.full and layer_b.full):
            n = max(layer_a.shape[0], layer_b.shape[0])
            total += n * distance
            neurons += n
    return total / neurons if neurons else 0.0


def _in_canonical_order(
    a: Topology, b: Topology, metric: Metric
) -> tuple[CanonicalForm, CanonicalForm]:
    """The two canonical forms, in an order that follows from them."""
    forms = [form_of(topology, metric.labelled_outputs) for topology in (a, b)]
    first, second = sorted(forms, key=lambda form: form.digest)
    return first, second


def _matched(
    a: CanonicalForm,
    b: CanonicalForm,
    metric: Metric,
    layerwise: Layerwise,
) -> Comparison:
    """Distances and matchings, by canonical places, given those of `layerwise`."""
    distances, matchings, gaps = layerwise
    if metric.method == "joint":
        starts = {"layerwise": matchings}
        if metric.shared_indices:
            starts["shared"] = [*map(_shared, a.orders, b.orders)]
        joint = match_jointly(a.layers, b.layers, metric.labelled_outputs, starts)
        achieved = _distances_of(a.layers, b.layers, joint.matchings)
        least = network_distance(a.layers, b.layers, distances)
        # The search never ends above a start, but its sums are rounded otherwise.
        if network_distance(a.layers, b.layers, achieved) <= least:
            distances, matchings, gaps = achieved, joint.matchings, joint.gaps
    canonical = (a.exact and b.exact) or _order_cannot_matter(a.layers, b.layers)
    return Comparison(distances, matchings, gaps, canonical)


def _distances_of(
    a: Sequence[Layer], b: Sequence[Layer], matchings: Sequence[Matching]
) -> list[float]:
    """Each layer's distance under given matchings."""
    distances = []
    for index, (layer_a, layer_b) in enumerate(zip(a, b, strict=True)):
        places = places_after(matchings[:index], layer_a, layer_b)
        costs = jaccard_of_matched(layer_a, layer_b, places, matchings[index])
        larger = max(layer_a.shape[0], layer_b.shape[0])
        distances.append(float((costs.sum() + larger - len(costs)) / larger))
    return distances


def _order_cannot_matter(a: Sequence[Layer], b: Sequence[Layer]) -> bool:
    """Whether no choice among equally good matchings can change any layer's distance.

    The least cost of a layer given the order of its inputs is one number, so the first layer's
    distance always follows from structure alone; a later layer's does where the order of its inputs
    cannot matter.
    """
    return all(layer.all_or_nothing for layer in (*a[1:], *b[1:]))


def _shared(order_a: Matching, order_b: Matching) -> Matching:
    """Each neuron with the one of the same index, by canonical places."""
    place_b = np.full(max(len(order_a), len(order_b)), UNMATCHED, dtype=np.int64)
    place_b[order_b] = np.arange(len(order_b))
    return place_b[order_a]


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


def _as_published(a: Topology, b: Topology, labelled_outputs: bool, certify: bool) -> Comparison:
    distances: list[float] = []
    matchings: list[Matching] = []
    gaps: list[float] = []
    for index, (layer_a, layer_b) in enumerate(zip(a.layers, b.layers, strict=True)):
        places = places_after(matchings, layer_a, layer_b)
        if labelled_outputs and index == len(a.layers) - 1:
            distance, matching = in_place(layer_a, layer_b, places)
            gap = 0.0
        else:
            distance, matching = match_as_published(layer_a, layer_b, places)
            least = certified_least(layer_a, layer_b, places) if certify else distance
            gap = max(0.0, distance - least)
        distances.append(distance)
        matchings.append(matching)
        gaps.append(gap)
    return Comparison(distances, matchings, gaps, _order_cannot_matter(a.layers, b.layers))


def _as_they_are(a: Topology, b: Topology) -> Comparison:
    """Every neuron stands for the one of its own index; nothing is matched."""
    matchings = [np.arange(layer.shape[0], dtype=np.int64) for layer in a.layers]
    distances = _distances_of(a.layers, b.layers, matchings)
    return Comparison(distances, matchings, [0.0] * len(distances), canonical=False)
