"""The methods that a study can name."""

from __future__ import annotations

from sweeps.training.entries import Registry
from sweeps.training.evolving import Chain, Itop, Rigl, Set, Snfs
from sweeps.training.methods import Dense, Static
from sweeps.training.pruning import Gmp, Lottery
from sweeps.training.saliency import RandomPruned, Snip

OURS = {
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

METHODS = Registry("method", "toposweep.methods", OURS, base=Dense)
