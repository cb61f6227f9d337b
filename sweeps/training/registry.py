"""The methods that a study can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.training.evolving import Chain, Itop, Rigl, Set, Snfs
from sweeps.training.methods import Dense, Static
from sweeps.training.pruning import Gmp, Lottery
from sweeps.training.saliency import RandomPruned, Snip

METHODS: Mapping[str, Any] = {
    "dense": Dense,
    "static": Static,
    "set": Set,
    "rigl": Rigl,
    "snfs": Snfs,
    "itop": Itop,
    "gmp": Gmp,
    "lottery": Lottery,
    "snip": Snip,
    "random_pruned": RandomPruned,
    "chain": Chain,
}
