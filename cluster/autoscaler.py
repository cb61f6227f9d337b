"""Nodes that an autoscaler could still start: what does not fit a live one may fit one of those."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.nodes import Node

# `ray up` writes the cluster's own description here, on its head; Ray looks for it there as well.
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")

_HEAD = "node:__internal_head__"


@dataclass(frozen=True)
class Autoscaler:
    """What may come.

    Attributes:
        node_types: the resources of each type of node that can be started, where they are known.
        at_work: whether there is an autoscaler at all; its types may be known to it alone.
    """

    node_types: tuple[dict[str, float], ...] = ()
    at_work: bool = False


def find_autoscaler(nodes: Sequence[Node]) -> Autoscaler:
    """What the connected cluster says of its autoscaler; nothing is what most clusters have.

    Ray has no public call for this, so each source is asked softly: the cluster's configuration in
    the GCS (some platforms report it), the file of `ray up` on the head, the last report of the
    autoscaler, and the groups that nodes were started for (KubeRay, autoscaler v2).
    """
    for source in (_reported_types, lambda: _bootstrap_types(nodes)):
        try:
            types = source()
        except Exception:  # private to Ray, or a file by hand: whatever it raises, it is not known
            continue
        if types:
            return Autoscaler(tuple(types), at_work=True)
    try:
        return Autoscaler(at_work=_reports(nodes))
    except Exception:
        return Autoscaler()


def _reported_types() -> list[dict[str, float]]:
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = config.node_group_configs if config is not None else ()
    return [dict(group.resources) for group in groups if group.max_count != 0]


def _bootstrap_types(nodes: Sequence[Node]) -> list[dict[str, float]]:
    """The types in the file of `ray up`, when this machine is the head that it describes."""
    import ray
    import yaml

    path = BOOTSTRAP.expanduser()
    here = ray.get_runtime_context().get_node_id()
    if not path.is_file() or not any(n.id == here and _HEAD in n.resources for n in nodes):
        return []
    types: dict[str, Any] = yaml.safe_load(path.read_text())["available_node_types"]
    return [
        {name: float(amount) for name, amount in kind["resources"].items()}
        for kind in types.values()
        if kind.get("max_workers", 1) != 0 and kind.get("resources")
    ]


def _reports(nodes: Sequence[Node]) -> bool:
    """Whether an autoscaler that can start nodes has reported.

    Every head has a monitor that reports; without a cluster to scale it calls each node's type by
    the node's own id.
    """
    import ray
    from ray.experimental.internal_kv import _internal_kv_get

    status = _internal_kv_get("__autoscaling_status")
    if status:
        report = json.loads(status).get("autoscaler_report") or {}
        active = report.get("active_nodes") or {}
        return any(kind.removeprefix("node_") not in {n.id for n in nodes} for kind in active)
    groups = ("ray.io/node-group" in (n.get("Labels") or {}) for n in ray.nodes())  # type: ignore[no-untyped-call]
    return _internal_kv_get("__autoscaler_v2_enabled") == b"1" and any(groups)
