"""Changes of masks: what is dropped and what grows, checked as they are made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweeps.training import positions
from sweeps.training.positions import Positions
from sweeps.training.rules import Growth, LayerState


@dataclass(frozen=True)
class Change:
    """One update of one layer: positions dropped, and positions grown afterwards, sorted.

    A position may be in both: it was dropped and grown again, as a new connection.
    """

    dropped: Positions
    grown: Positions

    def after(self, connected: Positions) -> Positions:
        """The connections (sorted) of a layer that had ``connected``."""
        return positions.united(positions.without(connected, self.dropped), self.grown)


def evolve(
    layer: LayerState, dropped: Positions, grow: Growth, count: int, rng: np.random.Generator
) -> Change:
    """Drop what is named and grow ``count`` connections.

    Checks what every method promises: dropped was connected, grown is disjoint from kept, and
    exactly ``count`` have grown.
    """
    dropped = np.sort(dropped)
    kept = positions.without(layer.connected, dropped)
    grown = np.sort(grow.choose(layer, kept, count, rng))
    if len(kept) + len(dropped) != len(layer.connected):
        raise AssertionError("the drop rule named positions that were not connected")
    if positions.contained(grown, kept).any():
        raise AssertionError("the growth rule named positions that were kept")
    if len(grown) != count or (np.diff(grown) == 0).any():
        raise AssertionError(f"the growth rule named {len(grown)} positions instead of {count}")
    return Change(dropped, grown)
