"""The distances expected by chance of a run's snapshots, stored beside the matrix.

A level of its own for each pair would cost more than the matrix. It follows from degrees, so that
snapshots with about the same degrees (`degree_classes`) share one: for each two classes some pairs
of the matrix are drawn, rewired (`chance`) and compared.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.chance_store import ChanceStore, chance_schema
from storage.filesystem import Location
from topology.chance import CHANCE_VERSION, level_of, rewired_distances
from topology.comparison import Metric
from topology.degree_classes import degree_classes, degree_profile
from topology.tile_tasks import load_topologies
from topology.tiles import Plan, Snapshot, sha256_of

_SEED = 0

# Snapshots whose degrees one job reads.
_SNAPSHOTS_AT_ONCE = 64

# (function, list of arguments) -> results in the same order: `map`, or one that spreads them.
Compute = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class ProfileJob:
    """Snapshots whose degrees are to be looked at."""

    out: str
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True)
class ChanceJob:
    """Pairs of snapshots, each to be rewired and compared.

    Attributes:
        pairs: of which the distances are to be; a snapshot may come several times.
        seed: pair k's random numbers follow from this and k.
    """

    out: str
    metric: Metric
    pairs: tuple[tuple[Snapshot, Snapshot], ...]
    seed: tuple[int, ...]


def update_chance(
    out: Location,
    name: str,
    plan: Plan,
    metric: Metric,
    samples: int | None,
    compute: Compute = map,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Bring the chance levels of finished distances up to date.

    Levels that belong to other distances than `plan`'s are deleted. The same levels are not
    computed twice.

    Args:
        out: the run's folder.
        name: of the distances, whose matrix and labels are there.
        plan, metric: what they were computed from.
        samples: pairs for each two classes, at least 2; None computes no levels. The levels follow
            from this, the plan and the metric alone.
        compute: where jobs are done.
        check: called before anything is written; see `pairwise.run_distances`.

    Returns:
        How many pairs of rewired networks were compared.

    Raises:
        InputError: a layer's name that cannot be a column, masks that are no longer the plan's.
        CorruptFile: a mask file is damaged.
    """
    store = ChanceStore(out, name)
    store.remove_outdated()
    if samples is None:
        return 0
    chance_schema(plan.layers)
    digest = sha256_of([CHANCE_VERSION, samples, _SEED])
    if store.is_current(digest):
        return 0
    names = _classes(out, plan, compute)
    pairs = dict(_class_pairs(plan, names, samples))
    jobs = [
        ChanceJob(
            str(out), metric,
            tuple((plan.snapshots[i], plan.snapshots[j]) for i, j in drawn),
            _seed(*key),
        )
        for key, drawn in pairs.items()
    ]  # fmt: skip
    found = compute(compute_chance, jobs)
    rows = [_row(key, values, plan) for key, values in zip(pairs, found, strict=True)]
    labels = pd.DataFrame(
        {
            "trial_id": [snapshot.trial_id for snapshot in plan.snapshots],
            "step": [snapshot.step for snapshot in plan.snapshots],
            "group": [snapshot.group for snapshot in plan.snapshots],
            "chance_class": names,
        }
    )
    levels = pd.DataFrame(rows, columns=chance_schema(plan.layers).names)
    check()
    store.write(levels, labels, plan.layers, digest)
    return sum(len(job.pairs) for job in jobs)


def compute_profiles(job: ProfileJob) -> list[NDArray[np.float64]]:
    """The degree profile of each snapshot of a job."""
    return [degree_profile(topology) for topology in load_topologies(job.out, job.snapshots)]


def compute_chance(job: ChanceJob) -> NDArray[np.float64]:
    """(pairs, 1 + L): the distances of each pair's rewirings, the network's first."""
    wanted = list(dict.fromkeys(itertools.chain.from_iterable(job.pairs)))
    topologies = dict(zip(wanted, load_topologies(job.out, wanted), strict=True))
    return np.array(
        [
            rewired_distances(
                topologies[a],
                topologies[b],
                [*job.seed, k],
                Metric(job.metric.method, a.labelled_outputs),  # random networks share no neurons
            )
            for k, (a, b) in enumerate(job.pairs)
        ]
    )


def _classes(out: Location, plan: Plan, compute: Compute) -> list[str]:
    """The name of each snapshot's class; classes are those of its group."""
    starts = range(0, len(plan.snapshots), _SNAPSHOTS_AT_ONCE)
    jobs = [ProfileJob(str(out), tuple(plan.snapshots[k : k + _SNAPSHOTS_AT_ONCE])) for k in starts]
    profiles = list(itertools.chain.from_iterable(compute(compute_profiles, jobs)))
    names = [""] * len(plan.snapshots)
    for _, members in _groups(plan):
        shapes = [(layer.n_out, layer.n_in) for layer in plan.snapshots[members[0]].layers]
        classes, known = degree_classes(np.array([profiles[k] for k in members]), shapes)
        for k, number in zip(members, classes, strict=True):
            names[k] = known[number]
    return names


def _groups(plan: Plan) -> Iterator[tuple[int, list[int]]]:
    """Each group and the positions of its snapshots."""
    positions = range(len(plan.snapshots))
    for group, members in itertools.groupby(positions, key=lambda k: plan.snapshots[k].group):
        yield group, list(members)


_Key = tuple[int, str, str]  # group, class_i, class_j
_Pairs = tuple[list[int], list[int]]  # positions of snapshots, to be drawn from


def _class_pairs(
    plan: Plan, names: Sequence[str], samples: int
) -> Iterator[tuple[_Key, list[tuple[int, int]]]]:
    """For each group and two classes that the matrix has pairs of, some of these pairs."""
    against = any(snapshot.reference is not None for snapshot in plan.snapshots)
    for group, members in _groups(plan):
        found = (_pairs_against if against else _pairs_of_all)(plan, names, members)
        for (first, second), (left, right) in found.items():
            key = group, first, second
            rng = np.random.default_rng(_seed(*key))
            yield key, _draw(rng, left, right, samples, aligned=against)


def _pairs_of_all(
    plan: Plan, names: Sequence[str], members: Sequence[int]
) -> dict[tuple[str, str], _Pairs]:
    """By two classes: all snapshots of the first and of the second; any two are a pair."""
    by_class: dict[str, list[int]] = {}
    for k in members:
        by_class.setdefault(names[k], []).append(k)
    both = itertools.combinations_with_replacement(by_class, 2)
    return {(x, y): (by_class[x], by_class[y]) for x, y in both if x != y or len(by_class[x]) > 1}


def _pairs_against(
    plan: Plan, names: Sequence[str], members: Sequence[int]
) -> dict[tuple[str, str], _Pairs]:
    """By two classes: snapshots and their references, a pair where they stand at one place."""
    pairs: dict[tuple[str, str], _Pairs] = {}
    for k in members:
        reference = plan.snapshots[k].reference
        if reference is not None and reference != k:
            left, right = pairs.setdefault((names[k], names[reference]), ([], []))
            left.append(k)
            right.append(reference)
    return pairs


def _draw(
    rng: np.random.Generator,
    left: Sequence[int],
    right: Sequence[int],
    samples: int,
    aligned: bool,
) -> list[tuple[int, int]]:
    """`samples` pairs at random, with repetition: of `left` and `right` at the same place
    (`aligned`), or of any two that differ, in the matrix's order."""
    drawn: list[tuple[int, int]] = []
    while len(drawn) < samples:
        place = int(rng.integers(len(left)))
        i, j = left[place], right[place if aligned else int(rng.integers(len(right)))]
        if i != j:
            drawn.append((i, j) if aligned else (min(i, j), max(i, j)))
    return drawn


def _row(key: _Key, values: NDArray[np.float64], plan: Plan) -> dict[str, Any]:
    group, first, second = key
    level = level_of(values)
    row: dict[str, Any] = {
        "group": group, "class_i": first, "class_j": second, "samples": level.samples,
        "network": level.network, "network_error": level.network_error,
    }  # fmt: skip
    for name, mean, error in zip(
        plan.group_layers[group], level.layers, level.layer_errors, strict=True
    ):
        row |= {name: mean, f"{name}_error": error}
    return row


def _seed(group: int, first: str, second: str) -> tuple[int, int, int]:
    """What the random numbers of a pair of classes follow from."""
    return _SEED, group, int(sha256_of([first, second])[:8], 16)
