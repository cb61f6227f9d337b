"""NNSTD: how far apart the topologies of two networks are (Liu et al. 2020, arXiv 2006.14085).

Layer by layer, the neurons of A are matched with those of B at the least total Jaccard distance of
their incoming connections; the layer's distance is the mean over its neurons; B's neurons then take
the places of A's, and the next layer is compared given that. The network's inputs carry labels and
are never matched. `README.md` beside this file defines the methods.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from topology.comparison import (
    METHODS,
    Method,
    Metric,
    compare,
    compare_many,
    network_distance,
)
from topology.layerwise import Matching
from topology.prepared import Layer, Topology, prepare

# A new number for a method whose values change: stored distances of the old one are recomputed.
METRIC_VERSIONS: dict[Method, int] = {"layerwise": 2, "reference": 1, "joint": 1, "in_place": 1}


@dataclass(frozen=True, eq=False)
class TopologyDistance:
    """How far apart two topologies are.

    Attributes:
        network: in [0, 1]; the mean of `layers` weighted by their neurons, over the layers that
            are sparse in at least one of the two. 0 where every layer is full in both.
        layers: in [0, 1]; the distance of each layer.
        matchings: one (n_out of A,) array a layer: the neuron of B that stands for each neuron of
            A, -1 for none.
        gaps: each layer's primal-dual gap. `layerwise` and `reference`: no matching of the layer,
            given those of the layers before, has a distance that is smaller by more than this.
            `joint`: no update of the layer alone gains more than this, in units of its distance.
            `in_place`: 0, for there was no choice.
        canonical: the distances follow from structure alone, whatever order the neurons are in.
            Always so but for `reference` and `in_place`, with `shared_indices`, and for networks
            too symmetrical to be put into canonical order within the budget (see `canonical`).
        metric: method and options.
        interval: `joint` only: the least `network` over all relabellings of both networks lies in
            [lower, upper], for certain; `upper` is `network`.
    """

    network: float
    layers: tuple[float, ...]
    matchings: tuple[Matching, ...]
    gaps: tuple[float, ...]
    canonical: bool
    metric: Metric
    interval: tuple[float, float] | None = None

    @property
    def gap(self) -> float:
        """The largest of `gaps`: 0, up to rounding, where every assignment is optimal."""
        return max(self.gaps)


def nnstd(
    a: Sequence[Any] | Topology,
    b: Sequence[Any] | Topology,
    method: Method = "layerwise",
    labelled_outputs: bool = False,
    shared_indices: bool = False,
) -> TopologyDistance:
    """The distance of two networks' topologies.

    Args:
        a, b: one (n_out, n_in) mask a layer, dense or scipy sparse, or what `prepare` made of
            them. Equal numbers of layers and of inputs; widths may differ (see `matching`).
        method: `layerwise` is the definition above with a canonical choice among equally good
            matchings. `reference` is what the paper's published code computes, bit for bit; it
            depends on the order of the neurons and of the two networks. `joint` matches all layers
            together: the network's distance is never above `layerwise`'s. `in_place` matches
            nothing: every neuron stands for the one of its own index, and a layer's distance is
            the mean over its neurons as ever. It holds for this order of the neurons, as in
            networks that grew from one initialisation, and is the one method for networks with
            residual sums, which no matching of single layers respects.
        labelled_outputs: the last mask's rows carry labels (classes) and stay in place; its
            distance is their mean Jaccard distance. Otherwise they are matched like any others.
        shared_indices: for `joint`: also search from where every neuron stands for the one of its
            own index, as in networks that grew from one initialisation. The distance is then never
            above that of the networks as they are, and holds for this order of their neurons.

    Raises:
        ValueError: an unknown method, a mask that is none, networks that cannot be compared.

    >>> nnstd([[[1, 1, 0], [0, 0, 1]]], [[[0, 0, 1], [1, 0, 0]]]).layers
    (0.25,)
    """
    metric = checked_metric(method, labelled_outputs, shared_indices)
    a, b = as_topology(a), as_topology(b)
    _check_comparable(a, b, metric)
    done = compare(a, b, metric)
    network = network_distance(a.layers, b.layers, done.distances)
    return TopologyDistance(
        network=network,
        layers=tuple(done.distances),
        matchings=tuple(done.matchings),
        gaps=tuple(done.gaps),
        canonical=done.canonical and not shared_indices,
        metric=metric,
        interval=(min(done.lower, network), network) if method == "joint" else None,
    )


def distances_of_pairs(
    pairs: Sequence[tuple[Topology, Topology]], metric: Metric
) -> Iterator[tuple[list[float], bool]]:
    """The distances of pairs (a, b) of a list of networks, without matchings and certificates.

    `reference` compares the later network with the earlier one, as the published code goes through
    its pairs.

    Yields:
        [network, layer 0, layer 1, ...] and whether they are canonical.
    """
    if metric.method == "reference":
        pairs = [(b, a) for a, b in pairs]
    for a, b in pairs:
        _check_comparable(a, b, metric)
    for (a, b), done in zip(pairs, compare_many(pairs, metric), strict=True):
        network = network_distance(a.layers, b.layers, done.distances)
        yield [network, *done.distances], done.canonical and not metric.shared_indices


def checked_metric(
    method: str, labelled_outputs: bool = False, shared_indices: bool = False
) -> Metric:
    """A method with its options; ValueError for what does not exist."""
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown: {', '.join(METHODS)}")
    if shared_indices and method != "joint":
        raise ValueError(f"shared_indices is an option of method joint, not of {method}")
    return Metric(method, labelled_outputs, shared_indices)


def as_topology(masks: Sequence[Any] | Topology) -> Topology:
    """Prepared masks as they are, others prepared."""
    return masks if isinstance(masks, Topology) else prepare(masks)


def _check_comparable(a: Topology, b: Topology, metric: Metric) -> None:
    """Raise ValueError, saying why, for networks that cannot be compared."""
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
        if metric.method == "in_place" and x.shape[0] != y.shape[0]:
            raise ValueError(
                f"layer {index} has {x.shape[0]} neurons in one network and {y.shape[0]} in the "
                "other: they cannot be compared in place"
            )
    outputs = a.layers[-1].shape[0], b.layers[-1].shape[0]
    if metric.labelled_outputs and outputs[0] != outputs[1]:
        raise ValueError(
            f"networks of {outputs[0]} and {outputs[1]} labelled outputs cannot be compared"
        )


def _check_groups(index: int, a: Layer, b: Layer) -> None:
    if a.in_group != b.in_group:
        raise ValueError(
            f"layer {index} takes {a.in_group} inputs from each neuron before in one network and "
            f"{b.in_group} in the other: they cannot be compared"
        )
