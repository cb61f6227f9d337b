"""What a run's study file says about what to compare and where to track it.

For a run whose networks were imported it says nothing else.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from storage.distance_store import check_distance_name
from storage.errors import InputError
from storage.filesystem import read_bytes
from storage.importers import is_imported
from storage.runs import Run
from sweeps.study import Study, Tracking
from sweeps.study_file import parse_mapping
from sweeps.validation import refuse_unknown, validated
from topology.pairwise import DistanceSpec


def _name(text: str) -> str:
    try:
        return check_distance_name(text)
    except InputError as error:
        raise ValueError(str(error)) from None


class RunSettings(BaseModel):
    """The keys that work on a finished run needs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    distances: dict[Annotated[str, AfterValidator(_name)], DistanceSpec] = Field(
        default_factory=dict
    )
    tracking: Tracking = Tracking()


class ImportedStudy(RunSettings):
    """What `toposweep import` writes; named distances and tracking may be added by hand."""

    name: str
    description: str = ""
    imported: Literal[True]


def settings_of_run(run: Run) -> RunSettings:
    """The distances and the tracking of a run, trained or imported.

    How a trained one was trained is not looked at: it may have been by code that is not here.

    Raises:
        InputError: it is not what it should be.
    """
    text, name = read_bytes(run.study_path).decode(), str(run.study_path)
    values = parse_mapping(text, name)
    if is_imported(run):
        return validated(ImportedStudy, values, name)
    refuse_unknown(values, Study.model_fields, name)
    asked = {key: values[key] for key in RunSettings.model_fields if key in values}
    return validated(RunSettings, asked, name)
