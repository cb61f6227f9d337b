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

Shape = tuple[int, ...]  # (n_out, n_in), or (n_out, channels, height, width) of a convolution


@dataclass(frozen=True)
class Target:
    """What a study asks for: a density in (0, 1], SET's epsilon > 0, or each layer's own density;
    the others are None."""

    density: float | None = None
    epsilon: float | None = None
    densities: Sequence[float] | None = None


def uniform(shapes: Sequence[Shape], target: Target) -> list[int]:
    """The same density in every layer: round(density * size), Python's round (half to even).

    >>> uniform([(4, 10), (3, 4)], Target(density=0.25))
    [10, 3]
    """
    density = _given("density", target.density)
    return _populated([round(density * prod(shape)) for shape in shapes], shapes, target)


def uniform_plus(shapes: Sequence[Shape], target: Target) -> list[int]:
    """The first layer dense, the others of one density, so that the total is as with ``uniform``.

    Uniform+ (Gale et al. 2019) keeps the first layer dense because it holds few of the weights of
    a convolutional network and matters much. The total is exactly round(density * all weights).

    >>> uniform_plus([(2, 5), (10, 10), (10, 10)], Target(density=0.1))   # 21 in all
    [10, 6, 5]
    """
    density = _given("density", target.density)
    sizes = [prod(shape) for shape in shapes]
    total = round(density * sum(sizes))
    if len(sizes) == 1 or total - sizes[0] < len(sizes) - 1:
        raise InputError(
            f"method.distribution: 'uniform_plus' is not allowed with density {density}: the dense "
            f"first layer ({' x '.join(map(str, shapes[0]))}) leaves nothing for the others"
        )
    rest = total - sizes[0]
    shared = _shared(rest, sizes[1:], sizes[1:])
    return _populated([sizes[0], *shared], shapes, target)


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
    return _by_sum(_as_matrices(shapes), shapes, target)


def erk(shapes: Sequence[Shape], target: Target) -> list[int]:
    """Erdos-Renyi kernel: a convolution's layer gets e * (n_out + channels + height + width).

    p_l = e (n_out + n_in + h + w) / (n_out n_in h w) (Evci et al. 2020, section 3); for Linear
    layers the same as ``erdos_renyi``, and solved in the same way.

    >>> erk([(8, 4, 3, 3), (10, 32)], Target(density=0.5))   # 288 and 320 weights
    [91, 213]
    """
    return _by_sum(shapes, shapes, target)


def epsilon(shapes: Sequence[Shape], target: Target) -> list[int]:
    """SET's own control: round(epsilon * (n_out + n_in)) a layer, at most its size.

    p = epsilon (n_out + n_in) / (n_out n_in) (Mocanu et al. 2018, eq. 3); a layer with p > 1 is
    dense. Python's round (half to even).

    >>> epsilon([(4, 10), (3, 4)], Target(epsilon=2.0))
    [28, 12]
    """
    value = _given("epsilon", target.epsilon)
    matrices = _as_matrices(shapes)
    counts = [round(min(prod(shape), value * sum(shape))) for shape in matrices]
    return _populated(counts, shapes, target)


def explicit(shapes: Sequence[Shape], target: Target) -> list[int]:
    """Each layer's own density: round(density * size), Python's round (half to even).

    >>> explicit([(4, 10), (3, 4)], Target(densities=[0.25, 0.5]))
    [10, 6]
    """
    densities = target.densities
    if densities is None or len(densities) != len(shapes):
        raise InputError(
            f"method.densities: {densities} is not allowed: one for each of the "
            f"{len(shapes)} masked layers"
        )
    counts = [round(d * prod(shape)) for d, shape in zip(densities, shapes, strict=True)]
    return _populated(counts, shapes, target)


Distribution = Callable[[Sequence[Shape], Target], list[int]]

DISTRIBUTIONS: dict[str, Distribution] = {
    "uniform": uniform,
    "uniform_plus": uniform_plus,
    "erdos_renyi": erdos_renyi,
    "erk": erk,
    "epsilon": epsilon,
    "explicit": explicit,
}


def _as_matrices(shapes: Sequence[Shape]) -> list[Shape]:
    """A convolution as the matrix (n_out, channels * height * width) of its filters."""
    return [(shape[0], prod(shape[1:])) for shape in shapes]


def _by_sum(measures: Sequence[Shape], shapes: Sequence[Shape], target: Target) -> list[int]:
    """A layer's share is proportional to the sum of its ``measures``, at most its size."""
    density = _given("density", target.density)
    sizes = [prod(shape) for shape in shapes]
    weights = [sum(measure) for measure in measures]
    total = round(density * sum(sizes))
    dense: set[int] = set()
    while True:
        rest = total - sum(sizes[layer] for layer in dense)
        weight = sum(weights[layer] for layer in range(len(shapes)) if layer not in dense)
        over = {
            layer
            for layer in range(len(shapes))
            if layer not in dense and rest * weights[layer] > sizes[layer] * weight
        }
        if not over:
            break
        dense |= over
    sparse = [layer for layer in range(len(shapes)) if layer not in dense]
    counts = list(sizes)
    shared = _shared(rest, [weights[layer] for layer in sparse], [sizes[k] for k in sparse])
    for layer, count in zip(sparse, shared, strict=True):
        counts[layer] = count
    return _populated(counts, shapes, target)


def _shared(total: int, weights: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """``total`` in proportion to ``weights``, exactly: rounded down, and what is then missing goes
    one each to the largest remainders (ties: the earlier), in integer arithmetic throughout."""
    weight = sum(weights)
    counts = [total * own // weight for own in weights]
    remainders = [total * own % weight for own in weights]
    missing = total - sum(counts)
    order = sorted(range(len(weights)), key=lambda k: -remainders[k])
    for k in order[:missing]:
        counts[k] += 1
    if any(count > size for count, size in zip(counts, sizes, strict=True)):
        raise AssertionError("a layer got more connections than it has places")
    return counts


def _given(name: str, value: float | None) -> float:
    if value is None:
        raise InputError(f"method.{name} is missing: the distribution needs it")
    return value


def _populated(counts: list[int], shapes: Sequence[Shape], target: Target) -> list[int]:
    asked = {"density": target.density, "epsilon": target.epsilon, "densities": target.densities}
    key, value = next(item for item in asked.items() if item[1] is not None)
    for layer, (count, shape) in enumerate(zip(counts, shapes, strict=True), start=1):
        if count < 1:
            raise InputError(
                f"method.{key}: {value} is not allowed: masked layer {layer} of {len(counts)} "
                f"({' x '.join(map(str, shape))}) would have no connection; each needs at least one"
            )
    return counts
