"""The base of every settings model, and how its errors read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.errors import InputError


class Settings(BaseModel):
    """What a study may say about one thing (a method, a model, ...).

    Unknown keys are refused, and so is a value of another type: ``batch_size: "64"`` is an error.
    A default, once published, stays: trial ids leave out fields at their default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    # Fields that say where something is, not what it is: never part of a resolved configuration.
    places: ClassVar[frozenset[str]] = frozenset()

    def unused(self) -> frozenset[str]:
        """Fields that this very configuration does not look at, though its class has them."""
        return frozenset()

    def resolved(self) -> dict[str, Any]:
        """The fields that decide the result, as JSON types: no places, nothing unused."""
        return self.model_dump(mode="json", exclude=set(self.places | self.unused()))


def parse_settings(key: str, values: object, registry: Mapping[str, Any]) -> tuple[Any, Any]:
    """The class of ``registry`` that ``values["name"]`` names, and its checked settings.

    ``key`` is where the values stand in a configuration (``method``), for the error.
    Raises InputError naming the key, the value and what is allowed.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{key}: {values!r} is not allowed: a mapping with a name is needed")
    name = values.get("name")
    if not isinstance(name, str) or name not in registry:
        raise InputError(f"{key}.name: {name!r} is not allowed{_nearest(str(name), registry)}")
    chosen = registry[name]
    return chosen, check_settings(key, values, chosen.Settings)


def check_settings(key: str, values: Mapping[str, Any], model: type[BaseModel]) -> Any:
    """``values`` as ``model``; raises InputError with the first thing that is wrong."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(_first_error(key, error, model)) from None


def _first_error(key: str, error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join([key, *(str(part) for part in first["loc"])]).strip(".")
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(str(first['loc'][-1]), model.model_fields)}"
    if first["type"] == "missing":
        return f"{where}: is missing"
    why = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not first["loc"]:
        return f"{where}: {why}"
    return f"{where}: {first['input']!r} is not allowed: {why}"


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(names)})"
