"""How many connections each layer gets: exact integer counts.

A distribution takes the shapes of the layers that are to be masked, (n_out, n_in) each, and what
the study says about the total; it returns one count a layer, at least 1 and at most the layer's
size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from storage.errors import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """What a study asks for: a density in (0, 1], or SET's epsilon > 0; the other is None."""

    density: float | None = None
    epsilon: float | None = None


def uniform(shapes: Sequence[Shape], target: Target) -> list[int]:
    """The same density in every layer: round(density * size), Python's round (half to even).

    >>> uniform([(4, 10), (3, 4)], Target(density=0.25))
    [10, 3]
    """
    density = _given("density", target.density)
    return _populated([round(density * prod(shape)) for shape in shapes], shapes, target)


def erdos_renyi(shapes: Sequence[Shape], target: Target) -> list[int]:
    """Erdos-Renyi by density: layer l gets e * (n_out + n_in) connections.

    p_l = e (n_out + n_in) / (n_out n_in) (Mocanu et al. 2018, eq. 3; solved for a density as in
    Evci et al. 2020). e is solved so that the total is exactly round(density * all weights). A
    layer with p_l > 1 becomes dense and e is solved again for the others. The real-valued shares
    are rounded down, and the connections then missing from the total go one each to the layers
    with the largest remainders (ties: the earlier layer), in integer arithmetic throughout.

    >>> erdos_renyi([(4, 10), (3, 4)], Target(density=0.5))   # 17.3 and 8.7 of 26
    [17, 9]
    >>> erdos_renyi([(100, 100), (2, 3)], Target(density=0.5))  # the small layer becomes dense
    [4997, 6]
    """
    density = _given("density", target.density)
    sizes = [prod(shape) for shape in shapes]
    total = round(density * sum(sizes))
    dense: set[int] = set()
    while True:
        rest = total - sum(sizes[layer] for layer in dense)
        weight = sum(sum(shapes[layer]) for layer in range(len(shapes)) if layer not in dense)
        over = {
            layer
            for layer, shape in enumerate(shapes)
            if layer not in dense and rest * sum(shape) > sizes[layer] * weight
        }
        if not over:
            break
        dense |= over
    counts = list(sizes)
    sparse = [layer for layer in range(len(shapes)) if layer not in dense]
    for layer in sparse:
        counts[layer] = rest * sum(shapes[layer]) // weight
    remainders = {layer: rest * sum(shapes[layer]) % weight for layer in sparse}
    missing = total - sum(counts)
    for layer in sorted(sparse, key=lambda layer: -remainders[layer])[:missing]:
        counts[layer] += 1
    return _populated(counts, shapes, target)


def epsilon(shapes: Sequence[Shape], target: Target) -> list[int]:
    """SET's own control: round(epsilon * (n_out + n_in)) a layer, at most its size.

    p = epsilon (n_out + n_in) / (n_out n_in) (Mocanu et al. 2018, eq. 3); a layer with p > 1 is
    dense. Python's round (half to even).

    >>> epsilon([(4, 10), (3, 4)], Target(epsilon=2.0))
    [28, 12]
    """
    value = _given("epsilon", target.epsilon)
    counts = [round(min(prod(shape), value * sum(shape))) for shape in shapes]
    return _populated(counts, shapes, target)


Distribution = Callable[[Sequence[Shape], Target], list[int]]

DISTRIBUTIONS: dict[str, Distribution] = {
    "uniform": uniform,
    "erdos_renyi": erdos_renyi,
    "epsilon": epsilon,
}


def _given(name: str, value: float | None) -> float:
    if value is None:
        raise InputError(f"method.{name} is missing: the distribution needs it")
    return value


def _populated(counts: list[int], shapes: Sequence[Shape], target: Target) -> list[int]:
    key, value = ("density", target.density)
    if value is None:
        key, value = ("epsilon", target.epsilon)
    for layer, (count, shape) in enumerate(zip(counts, shapes, strict=True), start=1):
        if count < 1:
            raise InputError(
                f"method.{key}: {value} is not allowed: masked layer {layer} of {len(counts)} "
                f"({' x '.join(map(str, shape))}) would have no connection; each needs at least one"
            )
    return counts
