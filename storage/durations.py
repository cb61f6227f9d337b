"""Stretches of training as text: `5ep` is five epochs, `100it` is a hundred optimiser steps."""

import re
from dataclasses import dataclass
from typing import Literal, cast

from storage.errors import InputError

Unit = Literal["ep", "it"]

_TEXT = re.compile(r"([0-9]{1,12})(ep|it)")


@dataclass(frozen=True)
class Duration:
    """A number of epochs or of optimiser steps; `str()` gives back its text.

    Example:
        >>> str(parse_duration("5ep")), parse_duration("5ep").steps(steps_per_epoch=26)
        ('5ep', 130)
    """

    count: int
    unit: Unit

    def steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps in it."""
        return self.count * steps_per_epoch if self.unit == "ep" else self.count

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


def parse_duration(text: object, minimum: int = 1) -> Duration:
    """Read `5ep` or `100it`.

    Args:
        text: the text; anything else than text is refused.
        minimum: the smallest count allowed.

    Raises:
        InputError: it is no duration, or shorter than `minimum`.
    """
    match = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise InputError(f"{text!r:.80} is no duration: give epochs like 5ep or steps like 100it")
    if int(match[1]) < minimum:
        raise InputError(f"{text!r:.80} is too short: give at least {minimum}{match[2]}")
    return Duration(int(match[1]), cast("Unit", match[2]))
