"""MaskStore: the masks of a run's trials, one row per trial, step and layer."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_array

from storage.compaction import Compaction, compact_table
from storage.encoding import decode_csr, decode_mask, encode_mask
from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, Location
from storage.layout import StagedFile
from storage.lock import RunLock
from storage.mask_rows import INDEX_COLUMNS, LayerMask, check_rows, mask_rows, place_of, rows_of
from storage.records import config_table
from storage.retrying import retried
from storage.schema import MASK_PAYLOAD, MASK_SCHEMA
from storage.staged import Damage, StagedTable, TableKind
from storage.trial_ids import check_trial_id
from storage.verification import verify_table
from storage.where import filter_rows

__all__ = ["LayerMask", "MaskStore", "Masks", "decode_mask", "encode_mask"]

Masks = dict[str, csr_array]  # layer -> (n_out, n_in) bool
Key = tuple[str, int]  # trial_id, step

_MASK_COLUMNS = [
    *("trial_id", "step", "layer", "layer_index", "n_out", "n_in", "nnz", "encoding", "crc32"),
    *MASK_PAYLOAD,
]
_TRIALS_AT_ONCE = 16  # how many trials' masks are in memory encoded while they are decoded


@dataclass(frozen=True)
class Written:
    """Snapshots that were committed, and their bytes."""

    snapshots: int = 0
    bytes: int = 0


class MaskStore:
    """The masks in a run's folder.

    Args:
        out: the run's folder; it need not hold any mask yet.

    Attributes:
        written: what this object has committed.
    """

    def __init__(self, out: Location) -> None:
        self._table = StagedTable(out, _MASKS)
        self.out = self._table.out
        self.written = Written()

    def append(
        self,
        trial_id: str,
        study: str,
        step: int,
        epoch: int,
        attempt: int,
        layers: Sequence[LayerMask],
    ) -> AnyPath:
        """Commit one snapshot: it survives a crash of the machine once this returns.

        Appending the same snapshot again changes nothing.

        Args:
            trial_id: 12 hex digits.
            study: the study's name.
            step: optimiser steps done.
            epoch: epochs done.
            attempt: the writer's attempt.
            layers: all layers, from the input to the output.

        Returns:
            The file.

        Raises:
            InputError: an argument is not allowed, or other masks are committed under this key.
            CorruptFile: what is committed under this key cannot be read.
        """
        rows = mask_rows(check_trial_id(trial_id), study, step, epoch, attempt, layers)
        path = self._table.staged_path(trial_id, step, attempt)
        file = StagedFile(path, trial_id, step, attempt)
        if retried(path.exists) and self._is_committed(file, rows):
            return path
        size = self._table.commit(path, pa.Table.from_pylist(rows, schema=MASK_SCHEMA))
        self.written = Written(self.written.snapshots + 1, self.written.bytes + size)
        return path

    def _is_committed(self, file: StagedFile, rows: list[dict[str, Any]]) -> bool:
        """Whether a file that exists holds these very masks."""
        try:
            stored = self._table.read_staged(file, None).to_pylist()
        except FileNotFoundError:  # compacted meanwhile: readers know the key again
            return False
        same = ("layer", "n_out", "n_in", "crc32")
        if [[row[c] for c in same] for row in stored] != [[row[c] for c in same] for row in rows]:
            raise InputError(
                f"{file.path}: other masks of this trial, step and attempt are committed"
            )
        return True

    def index(self, with_config: bool = True, damaged: list[Damage] | None = None) -> pd.DataFrame:
        """One row per snapshot and layer, by trial, step and layer; no mask is read.

        Args:
            with_config: add each trial's flat configuration, steps_per_epoch, total_steps and
                state.
            damaged: takes the snapshots that are left out, their files not being what was written;
                None: none may be.

        Raises:
            CorruptFile: a file is not what was written.
        """
        index: pd.DataFrame = self._table.read(INDEX_COLUMNS, damaged=damaged).to_pandas()
        index = index.sort_values(["trial_id", "step", "layer_index"], ignore_index=True)
        if not with_config:
            return index
        config = config_table(self.out, taken=set(index.columns) - {"trial_id"})
        return index.merge(config, on="trial_id", how="left")

    def load(self, trial_id: str, step: int) -> Masks:
        """The masks of one snapshot.

        Returns:
            Layer name -> (n_out, n_in) bool, from the input to the output.

        Raises:
            InputError: there is no such snapshot; the message names those that exist.
            CorruptFile: its file is not what was written.
        """
        return self.load_many([(trial_id, step)])[0]

    def load_many(self, keys: Iterable[Key]) -> list[Masks]:
        """The masks of several snapshots, each file read once for all that it holds.

        Args:
            keys: (trial_id, step) pairs, in any order.

        Returns:
            As `load` gives them, in the order of `keys`.

        Raises:
            InputError, CorruptFile: as `load` does.
        """
        keys = [(check_trial_id(trial_id), int(step)) for trial_id, step in keys]
        found: dict[Key, Masks] = {}
        for steps in _batches(keys):
            found.update(self._load_steps(steps))
        for key in keys:
            if key not in found:
                raise self._missing(*key)
        return [found[key] for key in keys]

    def iter(
        self, where: str | Callable[[Mapping[str, Any]], bool] | None = None
    ) -> Iterator[tuple[str, int, Masks]]:
        """All snapshots, trial by trial: (trial_id, step, masks).

        Args:
            where: only snapshots for which this holds, a text in the language of
                `storage.where.parse_where` over the index's columns; a snapshot is taken when it
                holds for one of its layers.

        Raises:
            InputError, CorruptFile: `where` or a file is not what it must be.
        """
        index = self.index(with_config=where is not None)
        if where is not None:
            index = filter_rows(index, where)
        keys = index[["trial_id", "step"]].drop_duplicates().itertuples(index=False, name=None)
        for steps in _batches([(str(trial_id), int(step)) for trial_id, step in keys]):
            # A snapshot that a new attempt has fenced off meanwhile is no longer there.
            for (trial_id, step), masks in sorted(
                self._load_steps(steps).items(), key=itemgetter(0)
            ):
                yield trial_id, step, masks

    def _load_steps(self, steps: Mapping[str, set[int]]) -> dict[Key, Masks]:
        found: dict[Key, dict[int, tuple[str, csr_array]]] = defaultdict(dict)
        for path, table in self._table.read_files(_MASK_COLUMNS, steps=steps):
            for row in rows_of(table):
                key = (row["trial_id"], row["step"])
                try:
                    found[key][row["layer_index"]] = (row["layer"], decode_csr(row))
                except InputError as error:
                    raise CorruptFile(path, f"{place_of(row)}: {error}") from None
        return {
            key: dict(layer for _, layer in sorted(layers.items(), key=itemgetter(0)))
            for key, layers in found.items()
        }

    def _missing(self, trial_id: str, step: int) -> InputError:
        rows = self._table.read(["step"], trial_ids=[trial_id])
        steps = sorted(set(rows.column("step").to_pylist()))
        if steps:
            return InputError(
                f"step {step}: trial {trial_id} has no such snapshot, "
                f"it has the steps {', '.join(map(str, steps))}"
            )
        return InputError(f"trial_id {trial_id}: {self.out} holds no snapshot of this trial")

    def compact(self, lock: RunLock | None = None) -> Compaction:
        """Gather staged files into few; see `storage.compaction`."""
        return compact_table(self._table, lock)

    def verify(self) -> list[CorruptFile]:
        """Every file that is not what was written; raises nothing for a bad file."""
        return verify_table(self._table)

    def usage(self) -> tuple[int, int]:
        """Files and bytes of all masks."""
        return self._table.usage()


def _batches(keys: Iterable[Key]) -> Iterator[dict[str, set[int]]]:
    steps: dict[str, set[int]] = defaultdict(set)
    for trial_id, step in keys:
        steps[trial_id].add(step)
    trials = sorted(steps)  # as the parts are
    for start in range(0, len(trials), _TRIALS_AT_ONCE):
        yield {trial_id: steps[trial_id] for trial_id in trials[start : start + _TRIALS_AT_ONCE]}


_MASKS = TableKind(
    name="masks",
    schema=MASK_SCHEMA,
    more_doubles=False,
    plain_columns=tuple(MASK_PAYLOAD),
    one_step_per_file=True,
    check_rows=check_rows,
)
