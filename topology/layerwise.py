"""Each layer matched at the least distance given the layer before, in canonical order.

    pi_l = argmin_pi  sum_i d(A_l[i], B_l[pi(i)] with its inputs renamed by pi_(l-1))

(Liu et al. 2020, arXiv 2006.14085, section 3.) The neurons of both networks come in canonical
order, which is all that decides among equally good matchings: relabelling either network changes
nothing, and neither does exchanging them, for the caller puts the pair in a canonical order too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topology.canonical import CanonicalForm
from topology.gains import Gains, jaccard_gains
from topology.matching import Neurons, match_neurons
from topology.overlap import input_places, jaccard_of_matched
from topology.prepared import Layer

Matching = NDArray[np.int64]
Layerwise = tuple[list[float], list[Matching], list[float]]
"""Each layer's distance, matching and primal-dual gap."""


def match_layerwise(a: CanonicalForm, b: CanonicalForm, labelled_outputs: bool) -> Layerwise:
    """Match two networks layer by layer.

    Returns:
        Each layer's distance; each layer's matching, (n_a,) the neuron of B for each of A's; each
        layer's primal-dual gap.
    """
    distances: list[float] = []
    matchings: list[Matching] = []
    gaps: list[float] = []
    for index, (layer_a, layer_b) in enumerate(zip(a.layers, b.layers, strict=True)):
        places = places_after(matchings, layer_a, layer_b)
        if labelled_outputs and index == len(a.layers) - 1:
            distance, matching = in_place(layer_a, layer_b, places)
            gap = 0.0  # there is no other matching
        else:
            gains = jaccard_gains(layer_a, layer_b, places)
            distance, matching, gap = match_layer(a, b, index, gains)
        distances.append(distance)
        matchings.append(matching)
        gaps.append(gap)
    return distances, matchings, gaps


def match_layer(
    a: CanonicalForm, b: CanonicalForm, index: int, gains: Gains
) -> tuple[float, Matching, float]:
    """Distance, matching and gap of the layer of this index, given what its pairs gain."""
    return match_neurons(
        gains,
        Neurons(a.layers[index].degrees, a.colours[index]),
        Neurons(b.layers[index].degrees, b.colours[index]),
    )


def places_after(matchings: Sequence[Matching], a: Layer, b: Layer) -> Matching:
    """Where each input of A lies among those of B, given the matchings of the layers before."""
    before = matchings[-1] if matchings else None
    return input_places(before, a.in_group, a.shape[1], b.shape[1])


def in_place(a: Layer, b: Layer, places: Matching) -> tuple[float, Matching]:
    """Distance and matching of a layer whose neurons carry labels and stay where they are."""
    matching = np.arange(a.shape[0], dtype=np.int64)
    return float(jaccard_of_matched(a, b, places, matching).mean()), matching
