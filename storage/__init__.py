"""The only package that reads or writes results: masks, metrics, distances, records, tracking."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.chance_store import expected_distances, load_chance
    from storage.distances import load_distances
    from storage.encoding import decode_mask
    from storage.errors import CorruptFile, InputError
    from storage.masks import LayerMask, MaskStore
    from storage.metrics import MetricStore
    from storage.runs import Run

__all__ = [
    "CorruptFile",
    "InputError",
    "LayerMask",
    "MaskStore",
    "MetricStore",
    "Run",
    "decode_mask",
    "expected_distances",
    "load_chance",
    "load_distances",
]

_MODULES = {
    "CorruptFile": "errors",
    "InputError": "errors",
    "LayerMask": "masks",
    "MaskStore": "masks",
    "MetricStore": "metrics",
    "Run": "runs",
    "decode_mask": "encoding",
    "expected_distances": "chance_store",
    "load_chance": "chance_store",
    "load_distances": "distances",
}


def __getattr__(name: str) -> Any:
    # Looked up when asked for: `toposweep status` needs neither pandas nor Arrow.
    if name not in _MODULES:
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    return getattr(import_module(f"storage.{_MODULES[name]}"), name)
