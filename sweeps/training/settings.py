"""The base of every settings model, and how its errors read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from storage.errors import InputError
from sweeps.validation import nearest, shown, validated


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
        raise InputError(f"{key}: {shown(values)} is not allowed: a mapping with a name is needed")
    name = values.get("name")
    if not isinstance(name, str) or name not in registry:
        raise InputError(f"{key}.name: {shown(name)} is not allowed{nearest(str(name), registry)}")
    chosen = registry[name]
    return chosen, validated(chosen.Settings, values, key)
