"""Reaching a Ray cluster, or making one on this machine."""

from cluster.connect import Cluster, connect

__all__ = ["Cluster", "connect"]
