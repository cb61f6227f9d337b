"""Which pairs of snapshots to compare, cut into tiles.

A plan follows from the snapshots alone, never from the machine: a stage that goes on elsewhere
finds its finished tiles. Each tile's digest says what its values follow from.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from topology.comparison import Metric
from topology.nnstd import METRIC_VERSIONS
from topology.overlap import DENSE

# A block of snapshots is what a task loads and a tile compares. Large enough that loading and
# writing are small beside comparing (32 x 32 pairs a tile), small enough that a set of 90 has
# 36 tiles to share out.
_BLOCKS = 8
_SMALLEST_BLOCK, _LARGEST_BLOCK = 4, 32
_BLOCK_BYTES = 64 * 2**20
# Blocks that are kept while tiles go through a square of them; Ray spills what does not fit.
_KEPT_BYTES = 2**30
_KEPT_BLOCKS = 64


@dataclass(frozen=True)
class Layer:
    """What the index says of one layer of a snapshot."""

    name: str
    n_out: int
    n_in: int
    role: str
    in_group: int
    nnz: int
    crc32: int


@dataclass(frozen=True)
class Snapshot:
    """One snapshot without its masks.

    Attributes:
        layers: first layer first.
        reference: position of the snapshot it is compared with; None in a set of all pairs, and
            for one that only serves as a reference.
    """

    trial_id: str
    step: int
    group: int
    layers: tuple[Layer, ...]
    reference: int | None = None

    @property
    def labelled_outputs(self) -> bool:
        """Whether the last layer's rows carry labels."""
        return self.layers[-1].role == "output"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """First layer first."""
        return tuple(layer.name for layer in self.layers)

    @property
    def nbytes(self) -> int:
        """About what it takes once prepared: by row and by column, as bits where that is faster,
        as it came and in canonical order."""
        total = 0
        for layer in self.layers:
            size = layer.n_out * layer.n_in
            total += 2 * (8 * layer.nnz + (size // 8 if layer.nnz > DENSE * size else 0))
        return total

    @property
    def fingerprint(self) -> str:
        """What its masks are, and whose."""
        layers = [(x.n_out, x.n_in, x.role, x.in_group, x.crc32) for x in self.layers]
        return sha256_of([self.trial_id, self.step, layers])


@dataclass(frozen=True)
class Tile:
    """Pairs of the snapshots in two blocks.

    Attributes:
        name: unique in the plan.
        first, second: positions of the blocks' snapshots.
        partners: for each of `first` the place of its partner in `second`; None compares all pairs
            of the two blocks, each once.
        digest: what its values follow from.
    """

    name: str
    first: Sequence[int]
    second: Sequence[int]
    partners: tuple[int, ...] | None = None
    digest: str = ""

    @property
    def blocks(self) -> tuple[Sequence[int], ...]:
        """The blocks to load: one, where the tile lies on the diagonal."""
        return (self.first,) if self.first == self.second else (self.first, self.second)

    @property
    def n_pairs(self) -> int:
        """How many pairs it holds."""
        if self.partners is not None:
            return len(self.partners)
        n = len(self.first)
        return n * (n - 1) // 2 if self.first == self.second else n * len(self.second)

    def pairs(self) -> NDArray[np.int64]:
        """(n, 2): places in `first` and in `second`."""
        if self.partners is not None:
            return np.column_stack([np.arange(len(self.partners)), self.partners])
        if self.first == self.second:
            return np.column_stack(np.triu_indices(len(self.first), k=1))
        shape = len(self.first), len(self.second)
        return np.column_stack([places.ravel() for places in np.indices(shape)])


@dataclass(frozen=True)
class Plan:
    """All tiles of a set of distances.

    Attributes:
        snapshots: every one that is compared, group by group; positions refer to this list.
        tiles: in an order in which tiles that share a block come close to one another.
        digest: of all tiles.
        group_layers: the names of each group's layers, as its first snapshot has them.
        kept_blocks: how many blocks at a time the order is made for.
    """

    snapshots: Sequence[Snapshot]
    tiles: Sequence[Tile]
    digest: str
    group_layers: Mapping[int, tuple[str, ...]]
    kept_blocks: int

    @property
    def n_pairs(self) -> int:
        """Pairs of all tiles."""
        return sum(tile.n_pairs for tile in self.tiles)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all groups' layers, each once."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self.group_layers.values())))

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """How many snapshots each group has."""
        return tuple(Counter(snapshot.group for snapshot in self.snapshots).values())


def plan_tiles(snapshots: Sequence[Snapshot], metric: Metric) -> Plan:
    """Cut the pairs into tiles.

    Args:
        snapshots: group by group; with a reference each, or none at all for all pairs.
        metric: how they will be compared; whether outputs carry labels is the snapshots' matter.
    """
    groups = itertools.groupby(range(len(snapshots)), key=lambda k: snapshots[k].group)
    positions = {group: list(members) for group, members in groups}
    against = any(snapshot.reference is not None for snapshot in snapshots)
    tiles: list[Tile] = []
    kept = _KEPT_BLOCKS
    for group, members in positions.items():
        nbytes = max(snapshots[k].nbytes for k in members)
        if against:
            tiles += _tiles_against(group, members, snapshots, nbytes)
        else:
            size = _block_size(len(members), nbytes)
            kept = min(kept, max(4, _KEPT_BYTES // max(1, size * nbytes)))
            tiles += _square_tiles(group, members[0], len(members), size, kept)
    group_layers = {
        group: snapshots[members[0]].layer_names for group, members in positions.items()
    }
    fingerprints = [snapshot.fingerprint for snapshot in snapshots]
    tiles = [
        replace(
            tile,
            digest=sha256_of(
                {
                    "method": metric.method,
                    "metric_version": METRIC_VERSIONS[metric.method],
                    "shared_indices": metric.shared_indices,
                    "layers": group_layers[snapshots[tile.first[0]].group],
                    "first": [(k, fingerprints[k]) for k in tile.first],
                    "second": [(k, fingerprints[k]) for k in tile.second],
                    "partners": tile.partners,
                }
            ),
        )
        for tile in tiles
    ]
    digest = sha256_of([(tile.name, tile.digest) for tile in tiles])
    return Plan(snapshots, tiles, digest, group_layers, kept)


def _block_size(n: int, nbytes: int) -> int:
    wanted = min(max(-(-n // _BLOCKS), _SMALLEST_BLOCK), _LARGEST_BLOCK)
    return max(1, min(wanted, _BLOCK_BYTES // max(1, nbytes)))


def _square_tiles(group: int, start: int, n: int, size: int, kept: int) -> list[Tile]:
    """The pairs of blocks on and above the diagonal.

    Squares of half as many blocks a side as are kept, one after the other: within one, every block
    is loaded once. Every other row runs backwards, so that its first block was the last one's last.
    """
    blocks = [range(k, min(k + size, start + n)) for k in range(start, start + n, size)]
    side = kept // 2

    def order(pair: tuple[int, int]) -> tuple[int, int, int, int]:
        row, column = pair
        return row // side, column // side, row, column if row % 2 == 0 else -column

    pairs = sorted(itertools.combinations_with_replacement(range(len(blocks)), 2), key=order)
    tiles = [
        Tile(f"{group}-{row:05d}-{column:05d}", blocks[row], blocks[column])
        for row, column in pairs
    ]
    return [tile for tile in tiles if tile.n_pairs]


def _tiles_against(
    group: int, members: Sequence[int], snapshots: Sequence[Snapshot], nbytes: int
) -> Iterator[Tile]:
    """Runs of snapshots, each with its reference; a snapshot is not compared with itself."""
    compared = [k for k in members if snapshots[k].reference not in (None, k)]
    size = _block_size(len(compared), nbytes)
    for number, start in enumerate(range(0, len(compared), size)):
        first = tuple(compared[start : start + size])
        references = [snapshots[k].reference for k in first]
        second = tuple(dict.fromkeys(k for k in references if k is not None))
        partners = tuple(second.index(k) for k in references if k is not None)
        yield Tile(f"{group}-{number:05d}", first, second, partners)


def sha256_of(content: object) -> str:
    """The SHA-256, in hexadecimal, of something that can be written as JSON."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
