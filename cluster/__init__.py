"""Reaching a Ray cluster, or making one on this machine."""

from cluster.connect import Cluster, check_address, connect

__all__ = ["Cluster", "check_address", "connect"]
