"""The distance that two networks would have by chance: of random networks with the same degrees.

A distance means little alone: two sparse networks share next to nothing however they came to be,
and two dense ones always share a lot. The chance level is the expected distance between two random
networks that have nothing in common with the two but their degrees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from topology.comparison import Method, Metric
from topology.compiled import compiled
from topology.nnstd import as_topology, checked_metric, distances_of_pairs
from topology.prepared import Layer, Topology, layer_of

# A new number where the same seed gives other values: stored chance levels are computed again.
CHANCE_VERSION = 1

# In each round every row trades once. What can move has moved after a trade with probability 1/2;
# heavy rows and columns of the published masks (0.6%) need 20 rounds until no more of a mask is
# left than of one of 100 rounds. The tests compare with uniform draws from all masks.
_ROUNDS = 30


@dataclass(frozen=True)
class ChanceLevel:
    """The expected distance of two networks' rewirings.

    Attributes:
        network: mean of the whole networks' distances.
        network_error: its standard error.
        layers: mean distance of each layer.
        layer_errors: their standard errors.
        samples: pairs of rewired networks that these are of.
    """

    network: float
    network_error: float
    layers: tuple[float, ...]
    layer_errors: tuple[float, ...]
    samples: int


def chance_level(
    a: Sequence[Any] | Topology,
    b: Sequence[Any] | Topology,
    samples: int = 10,
    seed: int = 0,
    method: Method = "layerwise",
    labelled_outputs: bool = False,
) -> ChanceLevel:
    """What the distance of two networks would be if only their degrees were theirs.

    All layers of both networks are rewired, each by itself and all independently (`rewired`), and
    the distance of the rewired pair is taken as `topology.pairwise` takes it. Layer l's level is
    that layer's distance in the rewired pairs: matched given the layers before, as in the metric,
    which are rewired as well.

    Args:
        a, b, method, labelled_outputs: as `nnstd` takes them. `reference` compares b with a, as
            the published code does.
        samples: pairs of rewired networks, at least 2.
        seed: sample k follows from (seed, k) and the masks alone, whatever the machine.

    Raises:
        ValueError: as `nnstd`; fewer than 2 samples.

    >>> full = [[[1, 1], [1, 1]]]
    >>> chance_level(full, full).network
    0.0
    """
    metric = checked_metric(method, labelled_outputs)
    if samples < 2:
        raise ValueError(f"a chance level with its error takes at least 2 samples, not {samples}")
    a, b = as_topology(a), as_topology(b)
    rows = [rewired_distances(a, b, [seed, sample], metric) for sample in range(samples)]
    return level_of(np.array(rows))


def rewired_distances(a: Topology, b: Topology, seed: Sequence[int], metric: Metric) -> list[float]:
    """[network, layer 0, layer 1, ...] of one pair of rewirings; other seeds, other rewirings."""
    first, second = (
        rewired(topology, np.random.default_rng([*seed, side]))
        for side, topology in enumerate((a, b))
    )
    return next(distances_of_pairs([(first, second)], metric))[0]


def level_of(distances: NDArray[np.float64]) -> ChanceLevel:
    """Mean and standard error of (samples, 1 + L) distances, the network's first."""
    samples = len(distances)
    means = distances.mean(axis=0).tolist()
    errors = (distances.std(axis=0, ddof=1) / np.sqrt(samples)).tolist()
    return ChanceLevel(means[0], errors[0], tuple(means[1:]), tuple(errors[1:]), samples)


def rewired(topology: Topology, rng: np.random.Generator) -> Topology:
    """A random network whose neurons have as many connections in and out as before.

    Each layer's mask becomes one drawn uniformly from all masks with its row sums and its column
    sums. Full and empty rows and columns stay as they are.

    The draw is a Markov chain of curveball trades (Strona et al. 2014, doi:10.1038/ncomms5114), a
    round of which pairs all rows at random (Carstens et al. 2018, doi:10.4230/LIPIcs.ESA.2018.11):
    the two rows of a pair keep the inputs that both have and share out the others at random, each
    as many as it had. The chain is symmetric and reaches every mask, so that the limit is uniform.
    """
    return Topology(tuple(_rewired_layer(layer, rng) for layer in topology.layers))


def _rewired_layer(layer: Layer, rng: np.random.Generator) -> Layer:
    indices = layer.rows.indices.copy()
    _trade(layer.rows.indptr, indices, layer.shape[1], _ROUNDS, rng)
    data = np.ones(len(indices), dtype=np.bool_)
    mask = csr_array((data, indices, layer.rows.indptr.copy()), shape=layer.shape)
    mask.sort_indices()
    return layer_of(mask, layer.in_group)


@compiled
def _trade(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    n_in: int,
    rounds: int,
    rng: np.random.Generator,
) -> None:
    """Trades `indices` in place; rows are unsorted afterwards."""
    n_out = len(indptr) - 1
    order = np.arange(n_out)
    has = np.zeros(n_in, dtype=np.int8)  # 1: the first row has it, 2: both have
    pool = np.empty(2 * n_in, dtype=np.int32)
    for _ in range(rounds):
        for k in range(n_out - 1, 0, -1):  # Fisher and Yates
            other = int(rng.random() * (k + 1))
            order[k], order[other] = order[other], order[k]
        for k in range(0, n_out - 1, 2):  # of an odd number the last one has no partner
            i, j = order[k], order[k + 1]
            for e in range(indptr[i], indptr[i + 1]):
                has[indices[e]] = 1
            n_pool = 0
            kept = indptr[j]  # what both have goes to the front of each row
            for e in range(indptr[j], indptr[j + 1]):
                if has[indices[e]] == 1:
                    has[indices[e]] = 2
                    indices[kept] = indices[e]
                    kept += 1
                else:
                    pool[n_pool] = indices[e]
                    n_pool += 1
            begin_j = kept
            kept = indptr[i]
            for e in range(indptr[i], indptr[i + 1]):
                place = indices[e]
                if has[place] == 2:
                    indices[kept] = place
                    kept += 1
                else:
                    pool[n_pool] = place
                    n_pool += 1
                has[place] = 0
            # The first row takes a random part of the pool, the second one the rest.
            for e in range(kept, indptr[i + 1]):
                drawn = int(rng.random() * n_pool)
                indices[e] = pool[drawn]
                n_pool -= 1
                pool[drawn] = pool[n_pool]
            indices[begin_j : indptr[j + 1]] = pool[:n_pool]
