"""Reaching a Ray cluster, or making one on this machine."""

from cluster.connect import Cluster, check_address, connect
from cluster.errors import ClusterFailed
from cluster.watching import watched

__all__ = ["Cluster", "ClusterFailed", "check_address", "connect", "watched"]
