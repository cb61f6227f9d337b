"""The study file of a run whose networks were imported: what to compare, and nothing to train."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from storage.distance_store import check_distance_name
from storage.errors import InputError
from storage.filesystem import read_bytes
from storage.importers import is_imported
from storage.runs import Run
from sweeps.study import Study, Tracking
from sweeps.study_file import parse_mapping, parse_study
from sweeps.validation import validated
from topology.pairwise import DistanceSpec


def _name(text: str) -> str:
    try:
        return check_distance_name(text)
    except InputError as error:
        raise ValueError(str(error)) from None


class ImportedStudy(BaseModel):
    """What `toposweep import` writes; named distances and tracking may be added by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    description: str = ""
    imported: Literal[True]
    distances: dict[Annotated[str, AfterValidator(_name)], DistanceSpec] = Field(
        default_factory=dict
    )
    tracking: Tracking = Tracking()


def settings_of_run(run: Run) -> Study | ImportedStudy:
    """The study file of a run, trained or imported, for its distances and its tracking.

    Raises:
        InputError: it is not what it should be.
    """
    text, name = read_bytes(run.study_path).decode(), str(run.study_path)
    if not is_imported(run):
        return parse_study(text, name=name)
    return validated(ImportedStudy, parse_mapping(text, name), name)
