"""The nodes of a cluster, and a question put to all of them at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

# How long a node may take to start a worker with our packages and to look up versions.
START_SECONDS = 120.0


@dataclass(frozen=True)
class Node:
    """A live node: Ray's id of it, its address, its resources (`CPU`, `GPU`, ...)."""

    id: str
    host: str
    resources: dict[str, float] = field(hash=False)

    def __str__(self) -> str:
        return f"node {self.host} ({self.id[:8]})"

    @property
    def works(self) -> bool:
        """Whether trials and tiles may run there; a head often offers no CPU."""
        return self.resources.get("CPU", 0.0) > 0


def live_nodes() -> tuple[Node, ...]:
    """Every live node of the connected cluster."""
    import ray

    return tuple(
        Node(node["NodeID"], node["NodeManagerAddress"], node["Resources"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    )


def ask_nodes(
    nodes: Sequence[Node],
    question: Callable[..., Any],
    *arguments: Any,
    seconds: float = START_SECONDS,
    sent_whole: ModuleType | None = None,
) -> dict[Node, Any]:
    """What a function returns on each node, all asked at once; it takes no CPU there.

    Args:
        nodes: whom to ask. One that dies meanwhile is left out of the answers.
        question, arguments: the function and what it is called with.
        seconds: how long all of them have. A node that hangs is named, not waited for.
        sent_whole: a module whose functions travel by their code, not by their name: for what must
            run where the module may be missing.

    Raises:
        ValueError: a node that did not answer, or could not; one line that names it.
    """
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if sent_whole is not None:
        cloudpickle.register_pickle_by_value(sent_whole)  # type: ignore[no-untyped-call]
    try:
        remote: Any = ray.remote(num_cpus=0, max_retries=0)(question)
        asked = {
            remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
            ).remote(*arguments): node
            for node in nodes
        }
    finally:
        if sent_whole is not None:
            cloudpickle.unregister_pickle_by_value(sent_whole)  # type: ignore[no-untyped-call]
    refs = list(asked)
    ready, late = ray.wait(refs, num_returns=len(refs), timeout=seconds) if refs else ([], [])
    answers, failures = {}, {}
    for ref in ready:
        try:
            answers[asked[ref]] = ray.get(ref)
        except ray.exceptions.RayError as error:
            failures[asked[ref]] = f"cannot run our code: {one_line(error)}"
    for ref in late:
        ray.cancel(ref, force=True)
        failures[asked[ref]] = f"did not answer within {seconds:g} s"
    alive = {node.id for node in live_nodes()} if failures else set()
    for node, why in failures.items():
        if node.id in alive:
            raise ValueError(f"{node} {why}")
    return answers


def one_line(error: BaseException) -> str:
    """The gist of an error of Ray's, which quotes whole tracebacks."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(cause).__name__}: {one_line(cause)}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
