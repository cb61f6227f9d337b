"""From pydantic's findings to one clear line: the key, the value, what is allowed."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from storage.errors import InputError

M = TypeVar("M", bound=BaseModel)

_TYPE = re.compile(r"str|int|(dict|list)\[.*\]")
_SHOWN = 80  # characters of a value or a key that a message repeats


# pydantic's words for what people call otherwise.
_PLAIN = {
    "string_type": "should be text",
    "too_short": "should not be empty",
    "string_pattern_mismatch": "should be letters, digits, '_', '-' and '.', a letter first",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' where a known name is close, else the names that exist."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f" (did you mean {close[0]}?)"
    return f" (known: {', '.join(names)})" if names else ""


def refuse_unknown(keys: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Raise InputError for the first key that is not known, naming the nearest one that is."""
    known = set(known)
    for key in keys:
        if key not in known:
            name = cut(str(key))
            dotted = f"{where}.{name}" if where else name
            raise InputError(f"{dotted}: unknown key{nearest(name, known)}")


def validated(model: type[M], values: Mapping[str, Any], where: str = "") -> M:
    """The model made from `values`; the first thing wrong becomes an InputError of one line."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(one_line(error, where, model)) from None


def one_line(error: ValidationError, where: str = "", model: type[BaseModel] | None = None) -> str:
    """The first finding as `key: value is not allowed: why`, dotted below `where`."""
    finding = error.errors(include_url=False)[0]
    # Of a value that may be of several types, pydantic's path names the type as well.
    path = [cut(str(part)) for part in finding["loc"] if not _TYPE.fullmatch(str(part))]
    key = ".".join([where, *path] if where else path) or "value"
    if finding["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        return f"{key}: unknown key{nearest(path[-1], known)}"
    if finding["type"] == "missing":
        return f"{key}: is missing"
    why = finding["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not finding["loc"] and isinstance(finding["input"], Mapping):
        return f"{key}: {why}"  # about several keys together, which the message names
    given = shown(finding["input"])
    why = why.removeprefix(f"{path[-1]}: " if path else "")
    if why.startswith(given):  # a rule that has named the value itself
        return f"{key}: {why}"
    return f"{key}: {given} is not allowed: {_PLAIN.get(finding['type'], why)}"


def _fields_at(model: type[BaseModel] | None, path: Iterable[str]) -> Iterable[str]:
    """The keys that the model nested at `path` knows."""
    for key in path:
        if model is None:
            return ()
        field = model.model_fields.get(key)
        if field is not None:
            nested = [field.annotation, *get_args(field.annotation)]
            model = next((t for t in nested if _is_model(t)), None)
    return model.model_fields if model is not None else ()


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def shown(value: Any) -> str:
    """A value as messages repeat it, however large it is."""
    try:
        return cut(_BOUNDED.repr(value))
    except ValueError:  # Python writes no number of more than some thousand digits
        return "a number of too many digits"


def cut(text: str) -> str:
    """The beginning of a text, as much as a message repeats of it."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


class _Bounded(reprlib.Repr):
    """repr() in bounded time and size; it keeps the order of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 9
        self.maxlist = self.maxtuple = self.maxset = self.maxdict = _SHOWN
        self.maxstring = self.maxlong = self.maxother = 2 * _SHOWN

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0:
            return "{...}"
        first = list(x.items())[: self.maxdict]
        pairs = (f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in first)
        return f"{{{', '.join(pairs)}}}"


_BOUNDED = _Bounded()
