"""What a study may say, every value checked before anything starts."""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from storage.durations import parse_duration
from storage.errors import InputError
from storage.tracking_uri import check_uri
from sweeps.sections import SECTIONS, check_section, section_schema, trial_keys
from sweeps.space import Grid, parse_space
from sweeps.training.compute import Compute
from sweeps.training.entries import check_listed
from sweeps.training.imports import allow_imports
from sweeps.validation import refuse_unknown, validated
from topology.pairwise import DistanceSpec

JUDGED_BY = Literal["validation_accuracy", "validation_loss"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Seeds(_Part):
    """Streams fixed by hand; one left at null follows `seed`."""

    topology: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    weights: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    data: Annotated[int, Field(ge=0, lt=2**31)] | None = None


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
    num_samples: int = Field(default=1, ge=1, lt=2**31)
    seed: int = Field(default=0, ge=0, lt=2**31)


class Scheduler(_Judge):
    """Whether trials may be stopped early.

    `fifo` trains every trial to its end. `asha` (asynchronous successive halving, Li et al. 2020)
    stops those that are behind at epochs grace_period x reduction_factor^k, by `metric` on the
    validation split. Schedulers that change a configuration midway (PBT) do not fit a trial_id
    and are refused.
    """

    name: Literal["fifo", "asha"] = "fifo"
    grace_period: int = Field(default=1, ge=1, description="epochs that every trial gets")
    reduction_factor: int = Field(default=4, ge=2, lt=2**31, description="one in so many goes on")


class Resources(_Part):
    """What one trial takes."""

    cpu: float = Field(default=1, ge=0.01)
    gpu: float = Field(default=0, ge=0, description="fractions share a device among trials")
    threads: int = Field(default=1, ge=1, le=1024, description="torch threads of a trial")
    compute: Compute = Field(
        default="auto",
        description="`masked`: dense matrices under masks; `sparse`: connections alone (Linear "
        "layers, CPU); `auto`: the faster by density and width. No part of a trial's identity",
    )
    max_failures: int = Field(
        default=3, ge=0, lt=2**31, description="restarts of a trial whose process died"
    )

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where a trial trains."""
        return "cuda" if self.gpu > 0 else "cpu"

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
    imports: list[Annotated[str, Field(pattern=r"^[^\W\d]\w*$")]] = Field(
        default_factory=list,
        description="packages whose code may be imported: methods, models, data sets, optimizers "
        "of one's own, named package.module:Class",
    )
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
    seed: int = Field(default=0, ge=0, lt=2**31)
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

    @field_validator("optimizer", mode="before")
    @classmethod
    def _default_optimizer(cls, section: Any) -> Any:
        return {"name": "sgd", **section} if isinstance(section, dict) else section

    @field_validator("data")
    @classmethod
    def _absolute_path(cls, data: dict[str, Any]) -> dict[str, Any]:
        # Workers and a later resume have other working folders.
        if isinstance(data.get("path"), str):
            # os.path: a ~NAME of nobody stays as it is, and is no folder then.
            return {**data, "path": str(Path(os.path.expanduser(data["path"])).absolute())}
        return data

    @field_validator("snapshot_every", "checkpoint_every", mode="before")
    @classmethod
    def _duration(cls, text: Any) -> str:
        try:
            return str(parse_duration(text))
        except InputError as error:
            raise ValueError(str(error)) from None

    @field_validator("distances")
    @classmethod
    def _folder_names(cls, named: dict[str, DistanceSpec]) -> dict[str, DistanceSpec]:
        for name in named:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
                raise ValueError(f"the name {name!r:.80} must be letters, digits, '_' and '-'")
        return named

    @model_validator(mode="after")
    def _only_what_is_listed(self) -> "Study":
        # Before anything is looked up: a name that leads elsewhere is imported by nothing.
        for section, names in self.named.items():
            for name in sorted(names):
                check_listed(section, name, self.imports)
        allow_imports(self.imports)
        return self

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
        known = trial_keys(self.own)
        for grid in grids:
            refuse_unknown([*grid.lists, *grid.samplers], known, "space")
        return grids

    @cached_property
    def named(self) -> dict[str, set[str]]:
        """Every name that the study gives in each section, the space's among them."""
        grids = parse_space(self.space)
        found: dict[str, set[str]] = {}
        for section in SECTIONS:
            key = f"{section}.name"
            given = [getattr(self, section).get("name")]
            for grid in grids:
                given += grid.lists.get(key, [])
                given += grid.samplers[key].options if key in grid.samplers else ()
            found[section] = {name for name in given if isinstance(name, str)}
        return found

    @cached_property
    def own(self) -> dict[str, set[str]]:
        """Those of them that are no names of ours but of the user's own code; imports it.

        Raises:
            InputError: it cannot be imported, or is not what it must be.
        """
        return {
            section: {n for n in names if n not in SECTIONS[section].builtin and
                      n in SECTIONS[section]}
            for section, names in self.named.items()
        }  # fmt: skip


def check_study(raw: dict[Any, Any]) -> Study:
    """The study in a mapping, every key known and every value allowed."""
    refuse_unknown(raw, Study.model_fields, "")
    study = validated(Study, raw)
    for section in SECTIONS:
        check_section(section, getattr(study, section), study.own[section])
    return study


def study_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, for editors."""
    schema = Study.model_json_schema()
    for section in SECTIONS:
        schema["properties"][section] = section_schema(section)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
