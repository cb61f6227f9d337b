"""Run: one OUT folder, and the way to everything in it."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from storage.attempts import list_claimed, read_claims
from storage.checkpoints import WEIGHTS
from storage.errors import CorruptFile, InputError
from storage.filesystem import (
    AnyPath,
    Location,
    read_json,
    run_folder,
    write_atomic,
    write_json,
)
from storage.records import (
    TrialRecord,
    flatten_config,
    list_trials,
    merged_order,
    read_record,
    read_records,
    write_record,
)
from storage.trial_ids import check_trial_id
from storage.version import SCHEMA_VERSION

if TYPE_CHECKING:  # `toposweep status` opens a run without pandas and Arrow
    import pandas as pd

    from storage.masks import MaskStore
    from storage.metrics import MetricStore

__all__ = ["Run", "TrialRecord", "flatten_config"]

_KEYS = {"uuid": str, "study": str, "created_at": str, "versions": dict, "schema_version": int}


class Run:
    """A run that exists; `Run.create` makes one, `Run.open` finds one.

    Attributes:
        out: its folder, absolute.
        info: the content of run.json: uuid, study, created_at (ISO 8601, UTC), versions,
            schema_version.
    """

    def __init__(self, out: AnyPath, info: dict[str, Any]) -> None:
        self.out = out
        self.info = info

    @classmethod
    def create(
        cls,
        out: Location,
        study_name: str,
        study_yaml: str,
        versions: Mapping[str, str],
    ) -> "Run":
        """Make a run in a folder that holds none.

        Args:
            out: the folder; made if need be.
            study_name: the study's name.
            study_yaml: the study file as resolved.
            versions: of the programs that matter, by name.

        Raises:
            InputError: the folder holds a run.
        """
        folder = run_folder(out)
        if (folder / "run.json").exists():
            raise InputError(f"{folder} holds a run already")
        info = {
            "uuid": str(uuid.uuid4()),
            "study": study_name,
            "created_at": datetime.now(UTC).isoformat(),
            "versions": dict(versions),
            "schema_version": SCHEMA_VERSION,
        }
        write_atomic(folder / "study.yaml", study_yaml.encode())
        write_json(folder / "run.json", info)  # last: this is what makes the folder a run
        return cls(folder, info)

    @classmethod
    def open(cls, out: Location) -> "Run":
        """The run in a folder.

        Raises:
            InputError: there is none, or one that this program cannot read.
        """
        folder = run_folder(out)
        path = folder / "run.json"
        try:
            info = read_json(path)
        except FileNotFoundError:
            raise InputError(f"no run in {folder}: run.json is missing") from None
        if not isinstance(info, dict):
            raise CorruptFile(path, "is no run's description")
        for key, kind in _KEYS.items():
            if not isinstance(info.get(key), kind):
                raise CorruptFile(path, f"is no run's description: {key} is missing or wrong")
        if info["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema version {info['schema_version']} cannot be read, "
                f"only {SCHEMA_VERSION}"
            )
        return cls(folder, info)

    def __repr__(self) -> str:
        return f"Run({str(self.out)!r}, study={self.study!r})"

    @property
    def uuid(self) -> str:
        """What tells this run from others of the same study."""
        return str(self.info["uuid"])

    @property
    def study(self) -> str:
        """The study's name."""
        return str(self.info["study"])

    @cached_property
    def masks(self) -> "MaskStore":
        """Every snapshot's masks."""
        from storage.masks import MaskStore

        return MaskStore(self.out)

    @cached_property
    def metrics(self) -> "MetricStore":
        """Every epoch's metrics."""
        from storage.metrics import MetricStore

        return MetricStore(self.out)

    def records(self) -> dict[str, TrialRecord]:
        """All trials' records, by trial_id."""
        return read_records(self.out)

    def record(self, trial_id: str) -> TrialRecord:
        """A trial's record; InputError when the run has no such trial."""
        return read_record(self.out, trial_id)

    def write_record(self, record: TrialRecord) -> None:
        """Commit a trial's record. Only the driver calls this."""
        write_record(self.out, record)

    def trials(self) -> "pd.DataFrame":
        """One row per trial, by trial_id.

        Returns:
            trial_id, state, reason, the flat configuration, and the last epoch's metrics as
            `final_<metric>`.
        """
        import pandas as pd

        rows = [
            {
                "trial_id": record.trial_id,
                "state": record.state,
                "reason": record.reason,
                **flatten_config(record.config),
                **{f"final_{name}": value for name, value in record.metrics.items()},
            }
            for record in self.records().values()
        ]
        columns = merged_order(rows) if rows else ["trial_id", "state", "reason"]
        return pd.DataFrame(rows, columns=columns)

    def distances(
        self, name: str, column: str = "network", group: int | None = None
    ) -> "pd.DataFrame":
        """A named distance matrix; see `storage.load_distances`."""
        from storage.distances import load_distances

        return load_distances(self.out, name, column=column, group=group)

    def verify(self) -> list[CorruptFile]:
        """Every file of records, claims, masks and metrics that is not what was written."""
        bad: list[CorruptFile] = []
        for read, trial_ids in (
            (read_record, list_trials(self.out)),
            (read_claims, list_claimed(self.out)),
        ):
            for trial_id in trial_ids:
                try:
                    read(self.out, trial_id)
                except CorruptFile as problem:
                    bad.append(problem)
        return [*bad, *self.masks.verify(), *self.metrics.verify()]

    def unreadable(self) -> list[str]:
        """Why the masks' index or the metrics cannot be read, a line each."""
        problems = []
        for read in (self.masks.index, self.metrics.load):
            try:
                read()
            except CorruptFile as problem:
                problems.append(str(problem))
        return problems

    @property
    def study_path(self) -> AnyPath:
        """The study file as resolved."""
        return self.out / "study.yaml"

    @property
    def report_folder(self) -> AnyPath:
        """Where the report is written."""
        return self.out / "report"

    def log_path(self, trial_id: str) -> AnyPath:
        """A trial's log."""
        return self.out / "logs" / f"{check_trial_id(trial_id)}.log"

    def checkpoint_folder(self, trial_id: str) -> AnyPath:
        """A trial's checkpoints."""
        return self.out / "checkpoints" / check_trial_id(trial_id)

    def weights_path(self, trial_id: str) -> AnyPath:
        """A trial's final weights."""
        return self.checkpoint_folder(trial_id) / WEIGHTS
