"""The search space of a study: dotted keys, each a list (a grid), a sampler or one value."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.errors import InputError
from sweeps.validation import shown

SAMPLERS = ("uniform", "loguniform", "choice", "randint")


@dataclass(frozen=True)
class Sampler:
    """A distribution over one key's values.

    `uniform` and `loguniform` draw a float from [low, high), `randint` an integer from
    [low, high), `choice` one of the options, each equally likely.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    options: tuple[Any, ...] = ()

    def draw(self, rng: np.random.Generator) -> Any:
        """One value."""
        if self.kind == "choice":
            return self.options[int(rng.integers(len(self.options)))]
        if self.kind == "randint":
            return int(rng.integers(int(self.low), int(self.high)))
        if self.kind == "loguniform":
            return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def ends(self) -> tuple[Any, ...]:
        """Values that stand for all it can draw: whoever accepts these accepts the range."""
        if self.kind == "choice":
            return self.options
        if self.kind == "randint":
            return (int(self.low), int(self.high) - 1)
        return (self.low, math.nextafter(self.high, self.low))


@dataclass(frozen=True)
class Grid:
    """One grid of a space: every combination of its lists, crossed with draws of its samplers."""

    lists: dict[str, list[Any]]
    samplers: dict[str, Sampler]

    def size(self, num_samples: int = 1) -> int:
        """How many points it has, with `num_samples` draws of its samplers if there are any."""
        combinations = math.prod(len(values) for values in self.lists.values())
        return combinations * (num_samples if self.samplers else 1)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """The lists' combinations, the last key varying fastest."""
        for values in itertools.product(*self.lists.values()):
            yield dict(zip(self.lists, values, strict=True))

    def samples(self, num_samples: int, seed: tuple[int, ...]) -> Iterator[dict[str, Any]]:
        """`num_samples` draws, each crossed with every combination of the lists.

        Draw k depends on `seed`, k and the samplers alone, so that a longer list or more samples
        leave the earlier configurations as they were.
        """
        for k in range(num_samples):
            rng = np.random.default_rng([*seed, k])
            drawn = {key: sampler.draw(rng) for key, sampler in sorted(self.samplers.items())}
            for combination in self.combinations():
                yield combination | drawn


def parse_space(space: Any) -> list[Grid]:
    """The grids of a study's `space`: one mapping, or a list of mappings that are united."""
    if space is None:
        return [Grid({}, {})]
    grids = space if isinstance(space, list) else [space]
    if not grids:
        raise InputError("space: an empty list holds no trial: give a grid, or leave space out")
    return [_parse_grid(grid, f"space[{k}]" if len(grids) > 1 else "space")
            for k, grid in enumerate(grids)]  # fmt: skip


def _parse_grid(grid: Any, where: str) -> Grid:
    if not isinstance(grid, Mapping):
        raise InputError(
            f"{where}: {shown(grid)} is not allowed: a mapping from dotted keys to values"
        )
    lists: dict[str, list[Any]] = {}
    samplers: dict[str, Sampler] = {}
    for key, value in grid.items():
        if isinstance(value, Mapping):
            samplers[str(key)] = _parse_sampler(value, f"{where}.{key}")
        elif isinstance(value, list):
            if not value:
                raise InputError(f"{where}.{key}: [] is not allowed: an empty grid has no trial")
            lists[str(key)] = value
        else:
            lists[str(key)] = [value]
    return Grid(lists, samplers)


def _parse_sampler(value: Mapping[Any, Any], where: str) -> Sampler:
    known = ", ".join(SAMPLERS)
    if len(value) != 1 or next(iter(value)) not in SAMPLERS:
        raise InputError(f"{where}: {shown(value)} is not allowed: a sampler is one of {known}")
    kind, given = next(iter(value.items()))
    if kind == "choice":
        if not isinstance(given, list) or not given:
            raise InputError(f"{where}.choice: {shown(given)} is not allowed: a list of options")
        return Sampler("choice", options=tuple(given))
    refused = f"{where}.{kind}: {shown(given)} is not allowed"
    try:
        if not isinstance(given, list):
            raise TypeError
        low, high = (_number(bound) for bound in given)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{refused}: [low, high]") from None
    if not low < high:
        raise InputError(f"{refused}: low must be below high")
    if kind == "loguniform" and low <= 0:
        raise InputError(f"{refused}: low must be above 0")
    if kind == "randint" and not (low.is_integer() and high.is_integer()):
        raise InputError(f"{refused}: bounds must be integers")
    if kind == "randint" and max(-low, high) >= 2**53:
        raise InputError(f"{refused}: bounds must be below 2^53")
    if not math.isfinite(high - low):
        raise InputError(f"{refused}: low and high are too far apart")
    return Sampler(kind, low, high)


def _number(value: Any) -> float:
    # YAML 1.1 reads 1e-4 as text, so text that is a number counts as one; true is no number
    if isinstance(value, bool):
        raise TypeError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number
