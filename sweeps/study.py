"""The study file: what it may say, read and checked before anything starts."""

import re
from collections.abc import Iterable
from importlib import resources as package_resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from storage.durations import parse_duration
from storage.errors import InputError
from storage.tracking_uri import check_uri, redacted
from sweeps.sections import SECTIONS, TRIAL_KEYS, check_section, section_schema
from sweeps.space import Grid, parse_space
from sweeps.validation import refuse_unknown, validated
from topology.pairwise import DistanceSpec

JUDGED_BY = Literal["validation_accuracy", "validation_loss"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Seeds(_Part):
    """Streams fixed by hand; one left at null follows `seed`."""

    topology: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    weights: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    data: Annotated[int, Field(ge=0, lt=2**32)] | None = None


class _Judge(_Part):
    """By which metric of the validation split trials are judged."""

    metric: JUDGED_BY = "validation_accuracy"
    mode: Literal["max", "min"] | None = Field(
        default=None, description="null: max for an accuracy, min for a loss"
    )

    @property
    def direction(self) -> str:
        """`max` or `min`, by the metric."""
        return "min" if self.metric.endswith("loss") else "max"

    @model_validator(mode="after")
    def _mode_fits(self) -> "_Judge":
        if self.mode not in (None, self.direction):
            raise ValueError(f"mode {self.mode!r} is not allowed: {self.metric} is to be "
                             f"{self.direction}imised")  # fmt: skip
        return self


class Search(_Judge):
    """How the space becomes trials.

    `grid` takes every combination of the lists. `random` takes `num_samples` draws of the samplers,
    each crossed with the lists. `optuna` lets Optuna suggest `num_samples` configurations one after
    the other, by `metric` on the validation split; there a list is a choice.
    """

    algorithm: Literal["grid", "random", "optuna"] = "grid"
    num_samples: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)


class Scheduler(_Judge):
    """Whether trials may be stopped early.

    `fifo` trains every trial to its end. `asha` (asynchronous successive halving, Li et al. 2020)
    stops those that are behind at epochs grace_period x reduction_factor^k, by `metric` on the
    validation split. Schedulers that change a configuration midway (PBT) do not fit a trial_id
    and are refused.
    """

    name: Literal["fifo", "asha"] = "fifo"
    grace_period: int = Field(default=1, ge=1, description="epochs that every trial gets")
    reduction_factor: int = Field(default=4, ge=2, description="one in so many goes on")


class Resources(_Part):
    """What one trial takes."""

    cpu: float = Field(default=1, ge=0.01)
    gpu: float = Field(default=0, ge=0, description="fractions share a device among trials")
    threads: int = Field(default=1, ge=1, le=1024, description="torch threads of a trial")
    max_failures: int = Field(default=3, ge=0, description="restarts of a trial whose process died")

    def bundle(self) -> dict[str, float]:
        """The same in Ray's words."""
        return {"CPU": self.cpu, **({"GPU": self.gpu} if self.gpu > 0 else {})}


class Tracking(_Part):
    """Where MLflow keeps the run; null: MLFLOW_TRACKING_URI, else sqlite beside the runs."""

    uri: str | None = None
    experiment: str | None = Field(default=None, description="null: the study's name")

    @field_validator("uri")
    @classmethod
    def _well_formed(cls, uri: str | None) -> str | None:
        if uri is not None:
            try:
                check_uri(uri)
            except InputError as error:
                raise ValueError(str(error)) from None
        return uri


class Study(_Part):
    """A study: a base trial configuration, a search space, and what to do with the results."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    description: str = Field(default="", description="one sentence, for `toposweep studies`")
    data: dict[str, Any]
    model: dict[str, Any]
    method: dict[str, Any]
    optimizer: dict[str, Any] = Field(default_factory=lambda: {"name": "sgd"})
    epochs: int = Field(default=20, ge=1, lt=2**31)
    snapshot_every: str = Field(
        default="5ep", description="`5ep` epochs or `100it` optimiser steps"
    )
    checkpoint_every: str = Field(
        default="1ep", description="`1ep` epochs or `100it` optimiser steps"
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    seeds: Seeds = Seeds()
    space: dict[str, Any] | list[dict[str, Any]] | None = None
    search: Search = Search()
    scheduler: Scheduler = Scheduler()
    resources: Resources = Resources()
    distances: dict[str, DistanceSpec] = Field(default_factory=dict)
    tracking: Tracking = Tracking()

    @field_validator("data", "model", "method", "optimizer", mode="before")
    @classmethod
    def _named_section(cls, section: Any) -> Any:
        # `data: digits` is short for `data: {name: digits}`
        return {"name": section} if isinstance(section, str) else section

    @field_validator("data")
    @classmethod
    def _absolute_path(cls, data: dict[str, Any]) -> dict[str, Any]:
        # Workers and a later resume have other working folders.
        if isinstance(data.get("path"), str):
            return {**data, "path": str(Path(data["path"]).expanduser().absolute())}
        return data

    @field_validator("snapshot_every", "checkpoint_every")
    @classmethod
    def _duration(cls, text: str) -> str:
        try:
            return str(parse_duration(text))
        except InputError as error:
            raise ValueError(str(error)) from None

    @field_validator("distances")
    @classmethod
    def _folder_names(cls, named: dict[str, DistanceSpec]) -> dict[str, DistanceSpec]:
        for name in named:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
                raise ValueError(f"the name {name!r} must be letters, digits, '_' and '-'")
        return named

    @model_validator(mode="after")
    def _search_fits(self) -> "Study":
        grids = self.grids()
        sampled = [key for grid in grids for key in grid.samplers]
        if self.search.algorithm == "grid" and sampled:
            raise InputError(
                f"space.{sampled[0]}: a sampler needs search.algorithm: random or optuna"
            )
        if self.search.algorithm == "optuna" and len(grids) > 1:
            raise InputError("space: search.algorithm: optuna takes one grid, not a list of grids")
        if self.search.algorithm == "optuna" and not any((g.lists or g.samplers) for g in grids):
            raise InputError("search.algorithm: 'optuna' is not allowed: space is empty")
        if self.search.algorithm == "random" and not sampled:
            raise InputError("search.algorithm: 'random' is not allowed: space has no sampler")
        return self

    @property
    def judge(self) -> str | None:
        """What judges trials while they train, and so needs a validation split."""
        if self.scheduler.name == "asha":
            return "scheduler.name: asha"
        return "search.algorithm: optuna" if self.search.algorithm == "optuna" else None

    def grids(self) -> list[Grid]:
        """The parsed space; its keys are the ones that decide a trial's result."""
        grids = parse_space(self.space)
        for grid in grids:
            refuse_unknown([*grid.lists, *grid.samplers], TRIAL_KEYS, "space")
        return grids


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; a study must not."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue  # `<<: *base`, whose keys may be given again
        key = loader.construct_object(key_node)
        if not isinstance(key, str | int | float):
            raise InputError(f"line {key_node.start_mark.line + 1}: a key must be a plain name")
        if key in seen:
            raise InputError(f"line {key_node.start_mark.line + 1}: {key} is given twice")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


# YAML 1.1 reads 1e-4 as text because it has no point; everyone who writes it means the number.
_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"), list("-+0123456789")
)
_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_study(source: str | Path, overrides: Iterable[str] = ()) -> Study:
    """The study in a file, or the built-in one of that name, with `KEY=VALUE` overrides applied.

    Raises:
        InputError: no such study, not YAML, or anything that `Study` refuses; one line.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise InputError(f"{source}: no such study file")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: cannot be read as text: {error}") from None
    else:
        text = builtin_text(str(source))
    return parse_study(text, overrides, name=str(source))


def parse_study(text: str, overrides: Iterable[str] = (), name: str = "study") -> Study:
    """A study from its YAML text; `name` stands in messages."""
    raw = _yaml(text, name)
    if not isinstance(raw, dict):
        raise InputError(
            f"{name}: a study is a mapping of keys to values, not {type(raw).__name__}"
        )
    for override in overrides:
        _override(raw, override)
    return check_study(raw)


def check_study(raw: dict[Any, Any]) -> Study:
    """The study in a mapping, every key known and every value allowed."""
    refuse_unknown(raw, Study.model_fields, "")
    study = validated(Study, raw)
    for section in SECTIONS:
        check_section(section, getattr(study, section))
    return study


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeys)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{name}: is not YAML: {where}{what}") from None


def _override(raw: dict[Any, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set {override}: is not allowed: KEY=VALUE, such as method.density=0.1")
    if key.startswith("space."):
        _override_space(raw, key.removeprefix("space."), _yaml(text, f"--set {key}"))
        return
    for grid in _grids(raw):  # the override is the only value from now on
        grid.pop(key, None)
    *parents, last = key.split(".")
    node: Any = raw
    for parent in parents:
        if isinstance(node.get(parent), str) and parent in SECTIONS:
            node[parent] = {"name": node[parent]}
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise InputError(f"--set {key}: {parent} holds a value, not keys")
    node[last] = _yaml(text, f"--set {key}")


def _override_space(raw: dict[Any, Any], key: str, value: Any) -> None:
    """Set one key in every grid of the space."""
    if raw.get("space") is None:
        raw["space"] = {}
    for grid in _grids(raw):
        grid[key] = value


def _grids(raw: dict[Any, Any]) -> list[dict[Any, Any]]:
    space = raw.get("space")
    return [grid for grid in (space if isinstance(space, list) else [space])
            if isinstance(grid, dict)]  # fmt: skip


def builtin_names() -> list[str]:
    """The names of the built-in studies, sorted."""
    folder = package_resources.files("sweeps") / "studies"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir()
                  if item.name.endswith(".yaml"))  # fmt: skip


def builtin_text(name: str) -> str:
    """The YAML of a built-in study."""
    names = builtin_names()
    if name not in names:
        raise InputError(f"{name}: no such study file, nor a built-in study ({', '.join(names)})")
    return (package_resources.files("sweeps") / "studies" / f"{name}.yaml").read_text("utf-8")


def study_yaml(study: Study) -> str:
    """The study as YAML, every default written out; a password in tracking.uri is left out."""
    content = study.model_dump()
    if study.tracking.uri is not None:
        content["tracking"]["uri"] = redacted(study.tracking.uri)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def study_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, for editors."""
    schema = Study.model_json_schema()
    for section in SECTIONS:
        schema["properties"][section] = section_schema(section)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
