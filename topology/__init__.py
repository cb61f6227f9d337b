"""How far apart the topologies of sparse networks are."""

from topology.nnstd import TopologyDistance, nnstd
from topology.overlap import Topology, prepare
from topology.pairwise import DistanceResult, DistanceSpec, pairwise, run_distances

__all__ = [
    "DistanceResult",
    "DistanceSpec",
    "Topology",
    "TopologyDistance",
    "nnstd",
    "pairwise",
    "prepare",
    "run_distances",
]
