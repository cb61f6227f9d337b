"""Reaching a Ray cluster, or making one on this machine."""

from cluster.address import Target, check_address, resolve_address
from cluster.connect import Cluster, connect
from cluster.errors import ClusterFailed
from cluster.nodes import Node, ask_nodes, live_nodes
from cluster.versions import check_versions
from cluster.watching import watched

__all__ = [
    "Cluster",
    "ClusterFailed",
    "Node",
    "Target",
    "ask_nodes",
    "check_address",
    "check_versions",
    "connect",
    "live_nodes",
    "resolve_address",
    "watched",
]
