"""Nodes that are about to go: preempted spot machines, pods that Kubernetes ends."""


def node_is_leaving() -> bool:
    """Whether Ray is draining the node of this process.

    A node is drained when its `ray start --block` gets SIGTERM, or when an autoscaler says that it
    goes; its processes live until RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S has passed. Costs about a
    millisecond. False where Ray is not, or cannot tell.
    """
    import ray

    try:
        if not ray.is_initialized():
            return False
        mine = ray.get_runtime_context().get_node_id()
        return mine in ray._private.state.state.get_draining_nodes()
    except Exception:  # asked now and then, for what is a favour: an answer that fails is none
        return False
