"""Amounts, counts and paths as people say them."""

import math
from collections.abc import Mapping
from pathlib import Path

from storage.filesystem import AnyPath, run_folder

STATES = ("completed", "stopped", "running", "pending", "failed")


def counted(states: Mapping[str, int]) -> str:
    """`3 completed, 1 failed`: how many trials are in each state."""
    return ", ".join(f"{states[state]} {state}" for state in STATES if states.get(state))


def shown(path: AnyPath | str) -> str:
    """A path as the user would type it: relative where it lies below this folder."""
    path = run_folder(path)
    if not isinstance(path, Path):
        return str(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def readable_bytes(count: float) -> str:
    """`3.4 MB`; powers of 1,000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def decimals(value: float, digits: int) -> str:
    """`0.731`; a dash for what is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def readable_seconds(seconds: float) -> str:
    """`4.2 s`, `12 min`, `3.5 h`; `unknown` for nan."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def readable_count(count: float) -> str:
    """`950`, `3.1 k`, `24 M`, `1.8 G`: two or three digits and a power of 1,000."""
    for unit in ("", " k", " M", " G", " T"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} P"
