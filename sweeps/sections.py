"""The four sections of a trial's configuration, each made of what its registry offers.

All of our entries of one registry, and those of the user's own that a study names, share one
namespace: a study may set `method.density` and then let `space` choose `dense`, which has no use
for it. A trial keeps only the fields that its choice uses.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from storage.errors import InputError
from sweeps.training.data import DATASETS
from sweeps.training.entries import DOTTED, Registry
from sweeps.training.models import MODELS
from sweeps.training.optimizers import OPTIMIZERS
from sweeps.training.registry import METHODS
from sweeps.training.settings import Settings
from sweeps.validation import nearest, one_line, refuse_unknown, shown, validated

SECTIONS: dict[str, Registry] = {
    "data": DATASETS,
    "model": MODELS,
    "method": METHODS,
    "optimizer": OPTIMIZERS,
}


def settings_of(section: str, name: str) -> type[Settings]:
    """The settings that the entry `name` of a section's registry takes."""
    settings: type[Settings] = SECTIONS[section][name].Settings
    return settings


def known_fields(section: str, own: Collection[str] = ()) -> set[str]:
    """Every key that some entry of the section takes, ours or one of `own`, and `name`."""
    return {"name"}.union(*(settings.model_fields for settings in _offered(section, own)))


def _offered(section: str, own: Collection[str]) -> list[type[Settings]]:
    names = [*SECTIONS[section].builtin, *sorted(own)]
    return [settings_of(section, name) for name in dict.fromkeys(names)]


def trial_keys(own: Mapping[str, Collection[str]]) -> set[str]:
    """The dotted keys that a space may vary: those that decide a trial's result.

    Args:
        own: the entries of the user's own that a study names, by section.
    """
    keys = {"epochs", "seed", "seeds.topology", "seeds.weights", "seeds.data"}
    for section in SECTIONS:
        offered = _offered(section, own.get(section, ()))
        places = frozenset().union(*(settings.places for settings in offered))
        keys |= {f"{section}.{field}" for field in known_fields(section, own.get(section, ()))
                 if field not in places}  # fmt: skip
    return keys


def check_section(section: str, values: Mapping[str, Any], own: Collection[str] = ()) -> Settings:
    """The settings of one section; unused but known fields are checked, then left out.

    Args:
        section: the section.
        values: what the study says in it.
        own: the entries of the user's own that the study names in it.

    Raises:
        InputError: an unknown name or key, or a value that is not allowed.
    """
    registry = SECTIONS[section]
    name = values.get("name")
    if not isinstance(name, str) or name not in registry:
        if name is None:
            raise InputError(f"{section}.name: is missing{nearest('', registry)}")
        hint = ""
        if isinstance(name, str) and "." in name:
            hint = ": a class of your own is package.module:Class"
        raise InputError(
            f"{section}.name: {shown(name)} is not allowed{hint or nearest(str(name), registry)}"
        )
    refuse_unknown(values, known_fields(section, own), section)
    settings = settings_of(section, name)
    for field, value in values.items():
        if field not in settings.model_fields and field != "name":
            _check_unused(section, field, value, own)
    return validated(
        settings, {k: v for k, v in values.items() if k in settings.model_fields}, section
    )


def _check_unused(section: str, field: str, value: Any, own: Collection[str]) -> None:
    """A field of another entry: its value must be one that at least one owner allows."""
    refusal = None
    for settings in _offered(section, own):
        info = settings.model_fields.get(field)
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
    """JSON Schema of a section: the union of all our entries' fields, or an entry of the user's
    own with any fields. Nothing is imported for it."""
    registry = SECTIONS[section]
    found: dict[str, list[Any]] = {}
    for settings in _offered(section, ()):
        for field, schema in settings.model_json_schema()["properties"].items():
            schemas = found.setdefault(field, [])
            if schema not in schemas:
                schemas.append(schema)
    properties = {
        field: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        for field, schemas in found.items()
    }
    properties["name"] = {"enum": sorted(registry.builtin), "type": "string"}
    installed = sorted(set(registry) - set(registry.builtin))
    own = {"anyOf": [{"enum": installed}, {"pattern": f"^{DOTTED}$"}], "type": "string"}
    return {
        "anyOf": [
            properties["name"],
            {"type": "object", "properties": properties, "required": ["name"],
             "additionalProperties": False},
            own,
            {"type": "object", "properties": {"name": own}, "required": ["name"]},
        ]
    }  # fmt: skip
