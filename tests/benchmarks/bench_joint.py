"""Joint matching beside layerwise and unpermuted: distance, lower bound and time a pair.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_joint.py

Takes the pairs of equal epoch of the masks published with the paper where they are at hand
(TOPOSWEEP_SHARED_DATA, or ../shared/data beside the repository), else random networks of the same
sizes and density, which share a part of their connections. `joint` starts from structure alone;
`joint, shared` also from leaving every neuron where it is, which these networks make a good start.
"""

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_array, load_npz

from topology.bounds import lower_bound
from topology.canonical import CanonicalForm, canonical_form
from topology.joint import match_jointly
from topology.layerwise import match_layerwise
from topology.prepared import prepare
from topology.wiring import total_similarity, whole_matching, wire

Matchings = Sequence[NDArray[np.int64]]
LAYERS = 3


def groups() -> Iterator[tuple[str, list[CanonicalForm]]]:
    """Networks to be compared with each other, by what they are."""
    data = os.environ.get("TOPOSWEEP_SHARED_DATA")
    root = Path(data) if data else Path(__file__).parents[3] / "shared" / "data"
    epochs = sorted({p.name for p in (root / "published-topologies").glob("*/epoch_*")})
    for epoch in epochs:
        folders = sorted((root / "published-topologies").glob(f"*/{epoch}"))
        files = [[folder / f"weight_l{k}.npz" for k in range(LAYERS)] for folder in folders]
        masks = [[csr_array(load_npz(f)).astype(bool)[:-1].T for f in fs] for fs in files]
        yield f"published, {epoch}", [canonical_form(prepare(layers), False) for layers in masks]
    if not epochs:
        for kept in (0.0, 0.5, 0.8):
            rng = np.random.default_rng(0)
            base = [rng.random((784, 784)) < 0.006 for _ in range(LAYERS)]
            masks = [[_rewired(mask, kept, rng) for mask in base] for _ in range(4)]
            forms = [canonical_form(prepare(layers), False) for layers in masks]
            yield f"random, {kept:.0%} kept", forms


def _rewired(mask: NDArray[np.bool_], kept: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.where(rng.random(mask.shape) < kept, mask, rng.random(mask.shape) < mask.mean())


def compared(x: CanonicalForm, y: CanonicalForm) -> dict[str, tuple[float, float]]:
    """Network distance and CPU milliseconds of each way to match a pair."""
    x, y = sorted((x, y), key=lambda form: form.digest)
    a, b = (wire(form.layers, [True] * LAYERS) for form in (x, y))
    most = sum(max(p.shape[0], q.shape[0]) for p, q in zip(x.layers, y.layers, strict=True))

    def distance(matchings: Matchings) -> float:
        return 1 - total_similarity(a, b, whole_matching(a, b, matchings)) / most

    own = [np.argsort(q)[p] for p, q in zip(x.orders, y.orders, strict=True)]
    begin = time.process_time()
    _, layerwise, _ = match_layerwise(x, y, False)
    first = time.process_time()
    joint = match_jointly(x.layers, y.layers, False, {"layerwise": layerwise})
    second = time.process_time()
    shared = match_jointly(x.layers, y.layers, False, {"layerwise": layerwise, "shared": own})
    third = time.process_time()
    low = lower_bound(x.layers, y.layers, False)
    fourth = time.process_time()
    return {
        "layerwise": (distance(layerwise), 1000 * (first - begin)),
        "unpermuted": (distance(own), 0.0),
        "joint": (distance(joint.matchings), 1000 * (second - first)),
        "joint, shared": (distance(shared.matchings), 1000 * (third - second)),
        "lower bound": (low, 1000 * (fourth - third)),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    console = Console()
    for name, forms in groups():
        pairs = list(itertools.combinations(forms, 2))
        compared(*pairs[0])  # compiled, where it was not yet
        found = [compared(*pair) for pair in pairs]
        table = Table(title=f"{name}: {len(pairs)} pairs")
        for column in ("what", "network distance", "CPU ms a pair (median)"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for what in found[0]:
            distances, took = zip(*(row[what] for row in found), strict=True)
            table.add_row(what, f"{np.mean(distances):.5f}", f"{np.median(took):.1f}")
        console.print(table)


if __name__ == "__main__":
    main()
