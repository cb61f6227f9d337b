"""From pydantic's findings to one clear line: the key, the value, what is allowed."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from storage.errors import InputError

M = TypeVar("M", bound=BaseModel)


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
            dotted = f"{where}.{key}" if where else str(key)
            raise InputError(f"{dotted}: unknown key{nearest(str(key), known)}")


def validated(model: type[M], values: Mapping[str, Any], where: str = "") -> M:
    """The model made from `values`; the first thing wrong becomes an InputError of one line."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(one_line(error, where, model)) from None


def one_line(error: ValidationError, where: str = "", model: type[BaseModel] | None = None) -> str:
    """The first finding as `key: value is not allowed: why`, dotted below `where`."""
    finding = error.errors(include_url=False)[0]
    path = [str(part) for part in finding["loc"]]
    key = ".".join([where, *path] if where else path) or "value"
    if finding["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        return f"{key}: unknown key{nearest(path[-1], known)}"
    if finding["type"] == "missing":
        return f"{key}: is missing"
    why = finding["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not finding["loc"] and isinstance(finding["input"], Mapping):
        return f"{key}: {why}"  # about several keys together, which the message names
    given = _shown(finding["input"])
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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
