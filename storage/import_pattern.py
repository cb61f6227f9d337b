"""`--pattern`: where names, steps and layers stand in the paths of files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.errors import InputError

_FIELDS = {"trial": r"[^/]+", "layer": r"[^/]+", "step": r"\d{1,17}", "epoch": r"\d{1,9}"}
_SYNTAX = "fields {trial}, {step} or {epoch}, {layer}, each once; * for anything; / between folders"


@dataclass(frozen=True)
class Match:
    """What a path says.

    Attributes:
        name: the network's; of the folder above all that the pattern names where it has no {trial}.
        origin: what has that name.
        count: the step or epoch; 0 where the pattern has neither.
        unit: what `count` counts.
        layer: None where the pattern has no {layer}: the file is a whole network.
    """

    name: str
    origin: Path
    count: int
    unit: Literal["step", "epoch"]
    layer: str | None


class Pattern:
    """A pattern such as `{trial}/step_{step}/{layer}.npz`, matched with the end of a path.

    Raises:
        InputError: another field than trial, step, epoch and layer, or one of them twice.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.split("/")
        fields = re.findall(r"\{([^{}]*)\}", text)
        left = re.sub(r"\{[^{}]*\}", "", text)
        wrong = (
            not all(parts)
            or not {*fields} <= {*_FIELDS}
            or len({*fields}) < len(fields)
            or {"step", "epoch"} <= {*fields}
            or "{" in left
            or "}" in left
        )
        if wrong:
            raise InputError(f"--pattern {text!r}: expected {_SYNTAX}")
        self._expressions = [re.compile(_expression(part), re.ASCII) for part in parts]

    def match(self, path: Path) -> Match | None:
        """What the path says, None where the pattern does not fit its end.

        Args:
            path: absolute.
        """
        parts = path.parts[1:]  # without the root
        depth = len(self._expressions)
        if len(parts) < depth:
            return None
        said: dict[str, str] = {}
        above = Path(path.anchor, *parts[: len(parts) - depth])
        origin, place = above, above
        for expression, part in zip(self._expressions, parts[-depth:], strict=True):
            match = expression.fullmatch(part)
            if match is None:
                return None
            said |= match.groupdict()
            if "trial" in match.groupdict():
                origin = place / match["trial"]
            place /= part
        return Match(
            name=said.get("trial", above.name),
            origin=origin,
            count=int(said.get("step", said.get("epoch", "0"))),
            unit="step" if "step" in said else "epoch",
            layer=said.get("layer"),
        )


def _expression(part: str) -> str:
    """The regular expression of one folder or file name."""
    pieces = re.split(r"(\{\w+\}|\*)", part)
    return "".join(
        f"(?P<{piece[1:-1]}>{_FIELDS[piece[1:-1]]})" if piece.startswith("{")
        else r"[^/]*" if piece == "*" else re.escape(piece)
        for piece in pieces
    )  # fmt: skip
