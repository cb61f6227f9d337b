"""Amounts as people say them."""

import math


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
