"""What is to go wrong in a round, and when: drawn from a seed, so that it can be had again."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

SNAPSHOTS = 44  # of the study, see `scene`
TILES = 37

# Kind: (what it needs, the stages it may come in, seconds between its begin and its end).
Range = tuple[float, float]
NO_TIME: Range = (0.0, 0.0)
BOTH = ("snapshots", "tiles")


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        needs: `namespaces`, `mounts` or nothing.
        stages: by what its moment may be counted.
        seconds: between which bounds it lasts.
    """

    needs: str = ""
    stages: Sequence[str] = BOTH
    seconds: Range = NO_TIME


KINDS = {
    "kill_driver": Kind(),
    "terminate_driver": Kind(),
    "suspend_driver": Kind(seconds=(0, 5)),
    "second_driver": Kind(),
    "kill_worker": Kind(),
    "kill_host": Kind(seconds=(0, 10)),
    "kill_head": Kind(),
    "kill_raylet": Kind(),
    "cut_for_ever": Kind(needs="namespaces"),
    "cut_briefly": Kind(needs="namespaces", seconds=(1, 4)),
    "cut_and_mend": Kind(needs="namespaces", seconds=(16, 24)),
    "full_disk": Kind(needs="mounts", seconds=(2, 8)),
    "read_only": Kind(needs="mounts", seconds=(2, 8)),
    "corrupt_tile": Kind(stages=("tiles",)),
    "corrupt_mask": Kind(stages=("snapshots",)),
}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: which.
        counted: `snapshots` or `tiles`: of what
        after: so many are committed when it begins.
        seconds: how long it lasts, where it ends.
        pick: which of several it hits, from 0 to 1.
    """

    kind: str
    counted: str
    after: int
    seconds: float
    pick: float


@dataclass(frozen=True)
class Schedule:
    """One round.

    Attributes:
        workers: hosts beside the head.
        driver_on_head: or on a worker.
        failing_trial: whether one trial of the study always fails.
        faults: in the order in which they come.
    """

    workers: int
    driver_on_head: bool
    failing_trial: bool
    faults: tuple[Fault, ...]


def draw(seed: int, number: int, possible: Sequence[str]) -> Schedule:
    """The schedule of a round.

    Args:
        seed: of the whole series.
        number: the round's; so many rounds as there are kinds have each kind once at least.
        possible: the kinds of faults that can be had here.
    """
    deck = sorted(possible)
    random.Random(seed).shuffle(deck)
    rng = random.Random(f"{seed}-{number}")
    kinds = [deck[number % len(deck)], *rng.choices(deck, k=rng.choice([0, 1, 1, 2]))]
    faults = [_draw_fault(rng, kind) for kind in kinds]
    faults.sort(key=lambda fault: (fault.counted, fault.after))
    return Schedule(
        workers=rng.choice([1, 2]),
        driver_on_head=rng.random() < 0.7,
        failing_trial=rng.random() < 0.25,
        faults=tuple(faults),
    )


def _draw_fault(rng: random.Random, kind: str) -> Fault:
    counted = rng.choice(KINDS[kind].stages)
    last = SNAPSHOTS if counted == "snapshots" else TILES
    seconds = round(rng.uniform(*KINDS[kind].seconds), 1)
    return Fault(kind, counted, rng.randrange(1, last), seconds, round(rng.random(), 3))
