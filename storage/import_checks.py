"""Whether what is to be imported fits with itself, and with what OUT holds already."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from storage.encoding import encode_mask
from storage.errors import InputError
from storage.import_sources import FoundSnapshot
from storage.masks import LayerMask
from storage.runs import Run


class LayerKey(NamedTuple):
    """All that tells one mask from another; the names are those of mask rows."""

    layer: str
    n_out: int
    n_in: int
    in_group: int
    role: str
    crc32: int


@dataclass(frozen=True)
class CheckedSnapshot:
    """A snapshot that was read whole, and what was found in it."""

    found: FoundSnapshot
    layers: tuple[LayerKey, ...]

    @property
    def trial_id(self) -> str:
        """The network's."""
        return imported_id(self.found.name)


def imported_id(name: str) -> str:
    """The trial_id of an imported network: of its name alone, wherever it was imported from."""
    text = json.dumps({"imported": {"name": name}}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def layer_keys(masks: Sequence[LayerMask]) -> tuple[LayerKey, ...]:
    """What tells a snapshot's masks from others."""
    keys = []
    for layer in masks:
        n_out, n_in = layer.mask.shape
        crc32 = encode_mask(layer.mask)["crc32"]
        keys.append(LayerKey(layer.name, n_out, n_in, layer.in_group, layer.role, crc32))
    return tuple(keys)


Stored = dict[tuple[str, int], tuple[LayerKey, ...]]  # by trial_id and step


def _stored(run: Run, trial_ids: set[str]) -> Stored:
    """What OUT holds of these trials."""
    index = run.masks.index(with_config=False)
    index = index[index["trial_id"].isin(trial_ids)]
    stored: dict[tuple[str, int], list[LayerKey]] = {}
    columns = ["trial_id", "step", *LayerKey._fields]
    for trial_id, step, *key in index[columns].itertuples(index=False, name=None):
        stored.setdefault((trial_id, step), []).append(LayerKey(*key))
    return {key: tuple(layers) for key, layers in stored.items()}


def find_news(
    run: Run, checked: Sequence[CheckedSnapshot], steps_per_epoch: int
) -> list[CheckedSnapshot]:
    """The snapshots that OUT does not hold.

    Raises:
        InputError: one of them does not fit with what it holds.
    """
    stored = _stored(run, {item.trial_id for item in checked})
    check_layers(checked, stored)
    records = run.records()
    news = []
    for item in checked:
        found = item.found
        known = records.get(item.trial_id)
        if known is not None and known.steps_per_epoch != steps_per_epoch:
            raise InputError(
                f"{found.place}: network {found.name!r} is in {run.out} with "
                f"{known.steps_per_epoch} steps per epoch: expected the same --steps-per-epoch"
            )
        there = stored.get((item.trial_id, found.step))
        if there is None:
            news.append(item)
        elif there != item.layers:
            differ = ", ".join(b.layer for a, b in zip(there, item.layers, strict=True) if a != b)
            raise InputError(
                f"{found.place}: {run.out} holds other connections of network {found.name!r} "
                f"(trial {item.trial_id}) at step {found.step}, in {differ}: give another --out "
                "or a --name-prefix"
            )
    return news


def check_layers(checked: Sequence[CheckedSnapshot], stored: Stored) -> None:
    """All snapshots of a network, in OUT or new, have the same layers.

    Raises:
        InputError: one has not.
    """
    first = {trial_id: (layers, f"at step {step}") for (trial_id, step), layers in stored.items()}
    for item in checked:
        layers, where = first.setdefault(item.trial_id, (item.layers, f"in {item.found.place}"))
        ours, theirs = ([key[:-1] for key in keys] for keys in (item.layers, layers))
        if ours != theirs:
            raise InputError(
                f"{item.found.place}: has {_described(item.layers)}: expected "
                f"{_described(layers)}, as network {item.found.name!r} has {where}"
            )


def _described(layers: Sequence[LayerKey]) -> str:
    """`fc1 300x784, out 10x300 (labelled)`."""
    texts = [
        f"{key.layer} {key.n_out}x{key.n_in}{' (labelled)' * (key.role == 'output')}"
        for key in layers[:8]
    ]
    return ", ".join([*texts, *(["..."] if len(layers) > 8 else [])])
