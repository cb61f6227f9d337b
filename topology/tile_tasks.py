"""What is done for a tile of pairs: load its blocks, compare, write. Ray's tasks are these."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from storage.distance_store import DistanceStore
from storage.errors import InputError
from storage.masks import MaskStore
from topology.comparison import Metric
from topology.nnstd import distances_of_pairs
from topology.prepared import Topology, prepare
from topology.tiles import Snapshot, Tile


def load_block(out: str, snapshots: Sequence[Snapshot], metric: Metric) -> list[Topology]:
    """Some snapshots' masks with all that the metric needs of them for any number of comparisons.

    Raises:
        InputError, CorruptFile: as `load_topologies`.
    """
    block = list(load_topologies(out, snapshots))
    for snapshot, topology in zip(snapshots, block, strict=True):
        replace(metric, labelled_outputs=snapshot.labelled_outputs).prepare(topology)
    return block


def load_topologies(out: str, snapshots: Sequence[Snapshot]) -> Iterator[Topology]:
    """The networks of some snapshots, in their order.

    Raises:
        CorruptFile: a mask file is damaged.
        InputError: a snapshot's layers do not chain, or its masks are no longer those that the plan
            was made for.
    """
    loaded = MaskStore(out).load_many(
        [(snapshot.trial_id, snapshot.step) for snapshot in snapshots]
    )
    for snapshot, masks in zip(snapshots, loaded, strict=True):
        where = f"trial {snapshot.trial_id} step {snapshot.step}"
        if any(_crc32(masks[layer.name]) != layer.crc32 for layer in snapshot.layers):
            raise InputError(
                f"{where}: changed while its distances were computed; compute them again"
            )
        try:
            in_group = [layer.in_group for layer in snapshot.layers]
            topology = prepare([masks[name] for name in snapshot.layer_names], in_group)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
        yield topology


def _crc32(mask: csr_array) -> int:
    """The checksum that the index has of a mask."""
    return zlib.crc32(np.packbits(mask.toarray().ravel(), bitorder="little").tobytes())


def compute_tile(
    store: DistanceStore,
    tile: Tile,
    metric: Metric,
    layers: Sequence[str],
    first: Sequence[Topology],
    second: Sequence[Topology] | None = None,
) -> int:
    """Compare the pairs of a tile and write it.

    Args:
        first, second: its blocks; no `second` where that is the first once more.

    Returns:
        How many pairs it has.
    """
    second = first if second is None else second
    pairs = tile.pairs()
    values = np.empty((len(pairs), 1 + len(layers)))
    canonical = np.empty(len(pairs), dtype=np.bool_)
    compared = distances_of_pairs([(first[x], second[y]) for x, y in pairs.tolist()], metric)
    for row, (distances, exact) in enumerate(compared):
        values[row], canonical[row] = distances, exact
    store.write_tile(
        tile.name,
        tile.digest,
        i=np.asarray(tile.first, dtype=np.int32)[pairs[:, 0]],
        j=np.asarray(tile.second, dtype=np.int32)[pairs[:, 1]],
        values=values,
        canonical=canonical,
        layers=layers,
    )
    return len(pairs)


def compile_kernels(metric: Metric) -> None:
    """Have the metric's kernels on disk before several workers want to compile them at once."""
    tiny = [[np.eye(2, 200, k, dtype=np.bool_), np.eye(2, dtype=np.bool_)] for k in range(2)]
    full = [[np.ones((2, 3), dtype=np.bool_), np.eye(2, k=k, dtype=np.bool_)] for k in range(2)]
    for masks in (tiny, full):
        first, second = (prepare(layers) for layers in masks)
        list(distances_of_pairs([(first, second)], metric))
