"""The four sections of a trial's configuration, each made of what its registry offers.

All entries of one registry share one namespace: a study may set `method.density` and then let
`space` choose `dense`, which has no use for it. A trial keeps only the fields that its choice uses.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from storage.errors import InputError
from sweeps.training.data import DATASETS
from sweeps.training.models import MODELS
from sweeps.training.optimizers import OPTIMIZERS
from sweeps.training.registry import METHODS
from sweeps.training.settings import Settings
from sweeps.validation import nearest, one_line, refuse_unknown, shown, validated

SECTIONS: dict[str, Mapping[str, Any]] = {
    "data": DATASETS,
    "model": MODELS,
    "method": METHODS,
    "optimizer": OPTIMIZERS,
}


def settings_of(section: str, name: str) -> type[Settings]:
    """The settings that the entry `name` of a section's registry takes."""
    settings: type[Settings] = SECTIONS[section][name].Settings
    return settings


def known_fields(section: str) -> set[str]:
    """Every key that some entry of the section's registry takes, and `name`."""
    return {"name"}.union(*(settings_of(section, name).model_fields for name in SECTIONS[section]))


TRIAL_KEYS = frozenset(
    {f"{section}.{field}" for section in SECTIONS for field in known_fields(section)}
    | {"epochs", "seed", "seeds.topology", "seeds.weights", "seeds.data"}
) - {"data.path"}
"""The dotted keys that a space may vary: those that decide a trial's result."""


def check_section(section: str, values: Mapping[str, Any]) -> Settings:
    """The settings of one section; unused but known fields are checked, then left out.

    Raises:
        InputError: an unknown name or key, or a value that is not allowed.
    """
    registry = SECTIONS[section]
    name = values.get("name")
    if not isinstance(name, str) or name not in registry:
        if name is None:
            raise InputError(f"{section}.name: is missing{nearest('', registry)}")
        raise InputError(
            f"{section}.name: {shown(name)} is not allowed{nearest(str(name), registry)}"
        )
    refuse_unknown(values, known_fields(section), section)
    settings = settings_of(section, name)
    for field, value in values.items():
        if field not in settings.model_fields and field != "name":
            _check_unused(section, field, value)
    return validated(
        settings, {k: v for k, v in values.items() if k in settings.model_fields}, section
    )


def _check_unused(section: str, field: str, value: Any) -> None:
    """A field of another entry: its value must be one that at least one owner allows."""
    refusal = None
    for name in SECTIONS[section]:
        info = settings_of(section, name).model_fields.get(field)
        if info is None:
            continue
        annotated: Any = info.annotation
        if info.metadata:
            annotated = Annotated[info.annotation, *info.metadata]
        try:
            TypeAdapter(annotated).validate_python(value)
        except ValidationError as error:
            refusal = refusal or error
        else:
            return
    if refusal is not None:
        raise InputError(one_line(refusal, f"{section}.{field}"))


def section_schema(section: str) -> dict[str, Any]:
    """JSON Schema of a section: the union of all its entries' fields."""
    found: dict[str, list[Any]] = {}
    for name in SECTIONS[section]:
        for field, schema in settings_of(section, name).model_json_schema()["properties"].items():
            schemas = found.setdefault(field, [])
            if schema not in schemas:
                schemas.append(schema)
    properties = {
        field: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        for field, schemas in found.items()
    }
    properties["name"] = {"enum": sorted(SECTIONS[section]), "type": "string"}
    return {
        "anyOf": [
            properties["name"],
            {"type": "object", "properties": properties, "required": ["name"],
             "additionalProperties": False},
        ]
    }  # fmt: skip
