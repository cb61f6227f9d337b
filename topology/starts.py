"""Where a joint matching starts from: pairs that are sure first, the doubtful ones after them.

Block updates from a layerwise matching get stuck: each wrong pair vouches for wrong pairs above and
below. So layers are matched anew, down the network and up again, and only pairs worth more than a
threshold are matched at all; it falls from sweep to sweep, and the sure pairs decide about the
doubtful ones. (The same thought is behind percolation matching, Yartseva and Grossglauser 2013,
doi:10.1145/2512938.2512952.) Two things differ from the true gains on the way: a pair of neurons
without inputs is worth little, for there are many such and only their outputs tell them apart; and
a connection counts for what it may bring, not for what it brings at least.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topology.assignment import UNMATCHED, assign
from topology.blocks import block_gains
from topology.compiled import compiled
from topology.wiring import Wiring, common_connections

_BOTH_EMPTY = 0.2


class Sweeps(NamedTuple):
    """How to match anew.

    Attributes:
        thresholds: float64 (sweeps,); the last sweep goes up the network, the one before down, ...
        slope: as `blocks.block_gains` takes it.
        noise: as `blocks.block_gains` takes it.
        seed: of the noise.
    """

    thresholds: NDArray[np.float64]
    slope: int
    noise: float
    seed: int


@compiled
def sweep(
    a: Wiring, b: Wiring, matching: NDArray[np.int64], free: NDArray[np.int64], sweeps: Sweeps
) -> None:
    """Match anew, in place, the layers in `free` (ascending)."""
    common = np.zeros(len(matching), dtype=np.int64)
    n, last = len(sweeps.thresholds), len(free) - 1
    for k in range(n):
        up = (n - 1 - k) % 2 == 0
        for position in range(len(free)):
            layer = free[last - position if up else position]
            if layer + 1 < len(a.counted) and a.counted[layer + 1]:
                common_connections(a, b, matching, layer + 1, common)
            gains = block_gains(
                a,
                b,
                matching,
                common,
                layer,
                sweeps.slope,
                _BOTH_EMPTY,
                sweeps.thresholds[k],
                sweeps.noise,
                sweeps.seed + 64 * k + layer,
            )
            start = b.base[layer + 1]
            found, _ = assign(gains, b.base[layer + 2] - start)
            part = matching[a.base[layer + 1] : a.base[layer + 2]]
            for i in range(len(part)):
                part[i] = start + found[i] if found[i] != UNMATCHED else UNMATCHED
