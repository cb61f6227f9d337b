"""From stored weights to a network's masks: which entries are connections, and how layers chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from storage.errors import InputError
from storage.masks import LayerMask

BiasRow = Literal["first", "last", "none"]

MOST_ENTRIES = 2**32  # of a matrix: one byte each while it is read

_CHOOSE = "choose and order the layers that follow one another with --layers"


@dataclass(frozen=True)
class Connected:
    """One layer as it was stored.

    Attributes:
        name: the layer's.
        there: bool, where a connection is: (n_out, n_in), or (n_out, channels, kh, kw) of a
            convolution, whose channels are those of one group.
        linear: if it is a matrix, it is surely no flattened convolution.
    """

    name: str
    there: NDArray[np.bool_]
    linear: bool = False


def connections(values: Any, what: str) -> NDArray[np.bool_]:
    """Where an array of weights, or of a mask, is not zero.

    Args:
        values: a dense array, or a scipy sparse matrix.
        what: file and layer, for the message.

    Raises:
        InputError: no numbers, no entries, too many, or a value that is not finite.
    """
    shape = tuple(int(size) for size in values.shape)
    if 0 in shape or np.prod([float(size) for size in shape]) > MOST_ENTRIES:
        raise InputError(f"{what}: has the shape {shape}: expected 1 to {MOST_ENTRIES} entries")
    if values.dtype.kind not in "biuf":
        raise InputError(f"{what}: holds values of type {values.dtype}: expected numbers")
    if issparse(values):
        return _sparse_connections(values, what)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise _not_finite(what)
    there: NDArray[np.bool_] = values != 0
    return there


def _sparse_connections(values: Any, what: str) -> NDArray[np.bool_]:
    try:
        if values.format in ("csr", "csc", "bsr"):
            values.check_format(full_check=True)  # an index beyond the shape would write anywhere
        entries = values.tocoo()
        entries.sum_duplicates()
    except (ValueError, IndexError) as error:
        raise InputError(f"{what}: is no sparse matrix: {error}") from None
    if entries.dtype.kind == "f" and not np.isfinite(entries.data).all():
        raise _not_finite(what)
    kept = entries.data != 0
    there = np.zeros(entries.shape, dtype=np.bool_)
    there[entries.row[kept], entries.col[kept]] = True
    return there


def _not_finite(what: str) -> InputError:
    return InputError(f"{what}: holds nan or infinity: expected finite weights")


def oriented(
    there: NDArray[np.bool_], transpose: bool, bias_row: BiasRow, what: str
) -> NDArray[np.bool_]:
    """A matrix as (n_out, n_in), without the input that stands for the bias.

    Args:
        there: as stored.
        transpose: whether it is stored as (n_in, n_out).
        bias_row: which input is the bias.
        what: file and layer, for the message.
    """
    if there.ndim != 2:
        if transpose or bias_row != "none":
            raise InputError(
                f"{what}: has {there.ndim} dimensions: --transpose and --bias-row are for matrices"
            )
        return there
    if transpose:
        there = there.T
    if bias_row != "none":
        there = there[:, 1:] if bias_row == "first" else there[:, :-1]
        if there.shape[1] == 0:
            raise InputError(f"{what}: has one input, and --bias-row takes it away")
    return there


def select_layers(layers: Sequence[str], wanted: str, where: str) -> list[int]:
    """Positions of the layers that `--layers` asks for.

    Args:
        layers: names, in order.
        wanted: names with commas between, or a range of positions such as 0:3.
        where: the file or folder, for the message.
    """
    first, colon, end = wanted.partition(":")
    if colon and all(number == "" or number.lstrip("-").isdecimal() for number in (first, end)):
        chosen = list(range(len(layers)))[
            slice(int(first) if first else None, int(end) if end else None)
        ]
        if not chosen:
            raise InputError(f"{where}: --layers {wanted} leaves none of {', '.join(layers)}")
        return chosen
    names = [name.strip() for name in wanted.split(",")]
    positions = []
    for name in names:
        # A parameter's own name is as good as its layer's.
        plain = name if name in layers else name.removesuffix(".weight")
        if plain not in layers:
            raise InputError(f"{where}: has no layer {name!r}: expected one of {', '.join(layers)}")
        positions.append(list(layers).index(plain))
    if len(set(positions)) < len(positions):
        raise InputError(f"--layers {wanted}: names a layer twice")
    return positions


def chained(layers: Sequence[Connected], labelled: bool, where: str) -> list[LayerMask]:
    """The masks of a network whose layers follow one another.

    A convolution's row is a filter, (channels x kh x kw) flattened. A depthwise one, which has one
    channel a filter, becomes the row over all channels that it is a part of.

    Args:
        layers: from the input to the output.
        labelled: whether the last layer's neurons are the classes.
        where: the file or folder, for the message.

    Raises:
        InputError: a layer's inputs are not the neurons of the layer before.
    """
    masks: list[LayerMask] = []
    for number, layer in enumerate(layers):
        before = layers[number - 1] if number else None
        if layer.there.ndim == 4:
            mask, in_group = _convolution(layer, before, where)
        elif layer.there.ndim == 2:
            mask, in_group = layer.there, _matrix_group(layer, before, where)
        else:
            raise InputError(
                f"{where}: layer {layer.name} has the shape {layer.there.shape}: expected "
                f"(n_out, n_in) or (n_out, channels, kh, kw); {_CHOOSE}"
            )
        last = number == len(layers) - 1
        masks.append(
            LayerMask(layer.name, mask, "output" if last and labelled else "hidden", in_group)
        )
    return masks


def _matrix_group(layer: Connected, before: Connected | None, where: str) -> int:
    """Inputs per neuron of the layer before."""
    if before is None:
        return 1
    neurons, inputs = before.there.shape[0], layer.there.shape[1]
    # Nothing between two of torch's Linear layers multiplies the inputs.
    one_each = layer.linear and before.linear and before.there.ndim == 2
    if inputs % neurons or (one_each and inputs != neurons):
        expected = "as many" if one_each else "a multiple"
        raise InputError(
            f"{where}: layer {layer.name} has {inputs} inputs: expected {expected} of the "
            f"{neurons} neurons of {before.name} before it; {_CHOOSE}"
        )
    group: int = inputs // neurons
    return group


def _convolution(
    layer: Connected, before: Connected | None, where: str
) -> tuple[NDArray[np.bool_], int]:
    n_out, channels, *kernel = layer.there.shape
    field = kernel[0] * kernel[1]
    there = layer.there.reshape(n_out, channels, field)
    neurons = channels if before is None else before.there.shape[0]
    if channels == 1 < neurons and n_out % neurons == 0:
        whole = np.zeros((n_out, neurons, field), dtype=np.bool_)
        own = np.arange(n_out) // (n_out // neurons)
        whole[np.arange(n_out), own] = there[:, 0]
        there = whole
    elif channels != neurons:
        assert before is not None
        raise InputError(
            f"{where}: layer {layer.name} takes {channels} channels: expected the {neurons} of "
            f"{before.name} before it; {_CHOOSE}"
        )
    return there.reshape(n_out, -1), field
