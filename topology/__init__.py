"""How far apart the topologies of sparse networks are."""

from topology.nnstd import TopologyDistance, nnstd
from topology.pairwise import DistanceResult, DistanceSpec, pairwise, run_distances
from topology.prepared import Topology, prepare

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
