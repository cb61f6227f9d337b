"""How far apart the topologies of sparse networks are."""

from topology.nnstd import TopologyDistance, nnstd
from topology.overlap import Topology, prepare

__all__ = [
    "Topology",
    "TopologyDistance",
    "nnstd",
    "prepare",
]
