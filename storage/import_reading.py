"""One snapshot that was found, read into masks as its importer asks for them."""

from dataclasses import dataclass, replace

from storage.import_formats import read_matrix, read_network
from storage.import_masks import BiasRow, Connected, chained, oriented, select_layers
from storage.import_sources import FoundSnapshot
from storage.masks import LayerMask


@dataclass(frozen=True)
class ImportOptions:
    """How files are read.

    Attributes:
        pattern: see `storage.import_pattern.Pattern`; None: names as the formats have them.
        name_prefix: put before every network's name.
        steps_per_epoch: optimiser steps in an epoch.
        layers: names with commas between or a range of positions such as 0:3; None: all.
        labelled_outputs: whether the last layer's neurons are the classes, which stay in place;
            None: they are, unless `layers` leaves the network's last layer out.
        transpose: matrices are stored as (n_in, n_out); with a pattern only.
        bias_row: which input of a matrix stands for the bias; with a pattern only.
    """

    pattern: str | None = None
    name_prefix: str = ""
    steps_per_epoch: int = 1
    layers: str | None = None
    labelled_outputs: bool | None = None
    transpose: bool = False
    bias_row: BiasRow = "none"


def read_masks(snapshot: FoundSnapshot, options: ImportOptions) -> list[LayerMask]:
    """The masks of a snapshot: the layers that are wanted, which follow one another.

    Raises:
        InputError: a file cannot be read, has no such layer, or the layers do not fit.
    """
    whole = read_network(snapshot.file) if snapshot.file is not None else []
    names = [layer.name for layer in whole] or list(snapshot.layers)
    chosen = list(range(len(names)))
    if options.layers is not None:
        chosen = select_layers(names, options.layers, snapshot.place)
    if whole:
        layers = [_oriented(whole[k].read(), snapshot, options) for k in chosen]
    else:
        layers = [_read_layer(names[k], snapshot, options) for k in chosen]
    labelled = options.labelled_outputs
    if labelled is None:
        labelled = chosen[-1] == len(names) - 1
    return chained(layers, labelled, snapshot.place)


def _read_layer(name: str, snapshot: FoundSnapshot, options: ImportOptions) -> Connected:
    path = snapshot.layers[name]
    if snapshot.format == "set-npz":  # (n_in + 1, n_out), the bias below the inputs
        there = oriented(read_matrix(path, sparse=True), True, "last", str(path))
        return Connected(name, there, linear=True)
    return _oriented(Connected(name, read_matrix(path)), snapshot, options)


def _oriented(layer: Connected, snapshot: FoundSnapshot, options: ImportOptions) -> Connected:
    what = f"{snapshot.place}: {layer.name}"
    there = oriented(layer.there, options.transpose, options.bias_row, what)
    return replace(layer, there=there)
