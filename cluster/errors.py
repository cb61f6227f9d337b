"""Errors of the cluster that cost the user one line."""


class ClusterFailed(Exception):
    """The cluster could not do what was asked of it, for no fault of the input."""
