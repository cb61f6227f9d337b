"""The only package that reads or writes results: masks, metrics, distances, records, tracking."""

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
