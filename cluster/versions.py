"""Whether every node runs what the driver runs, as far as results depend on it."""

from collections.abc import Mapping, Sequence

from cluster import probe
from cluster.nodes import Node, ask_nodes
from cluster.packages import PACKAGES

# How many parts of a version must be equal. Ray's processes speak with each other: all of it.
# A minor version of torch, numpy, scipy or numba may sum in another order or settle a tie in
# another way, and a trial or a tile may begin on one node and go on upon the next; Parquet files
# are the same across a major version of pyarrow. A build's suffix (`+cu128`) may differ: heads
# often have no GPU.
RULES = {
    "python": 2,
    "ray": 3,
    "torch": 2,
    "numpy": 2,
    "scipy": 2,
    "numba": 2,
    "pyarrow": 1,
    "scikit-learn": 2,
}


def differing(driver: Mapping[str, str | None], node: Mapping[str, str | None]) -> list[str]:
    """What differs in a way that matters: `torch 2.12.1 (here: 2.13.0)`."""
    lines = []
    for name, parts in RULES.items():
        here, there = driver.get(name), node.get(name)
        if here is None:
            continue
        if there is None:
            lines.append(f"no {name} (here: {here})")
        elif _leading(here, parts) != _leading(there, parts):
            lines.append(f"{name} {there} (here: {here})")
    return lines


def _leading(version: str, parts: int) -> list[str]:
    return version.partition("+")[0].split(".")[:parts]


def check_versions(nodes: Sequence[Node]) -> None:
    """Every node has the driver's libraries and runs the driver's code.

    Raises:
        ValueError: one line that names the first node that differs, what, and how many more do.
    """
    libraries = [name for name in RULES if name != "python"]
    here, (digest, _) = probe.look(libraries, PACKAGES)
    answers = ask_nodes(nodes, probe.look, libraries, PACKAGES, sent_whole=probe)
    wrong = []
    for node, (versions, (there, place)) in answers.items():
        differences = differing(here, versions)
        if differences:
            wrong.append(f"{node} has {', '.join(differences)}")
        elif not place:
            wrong.append(
                f"{node} has no toposweep, and Ray was connected without it: "
                "let toposweep connect (--address), or install it there"
            )
        elif there != digest:
            wrong.append(f"{node} runs another toposweep, in {place}")
    if wrong:
        more = f" (and {len(wrong) - 1} more nodes differ)" if len(wrong) > 1 else ""
        raise ValueError(wrong[0] + more)
