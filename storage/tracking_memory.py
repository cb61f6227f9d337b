"""What a process knows of a run and of its runs in MLflow, from one sync to the next.

A tracker looks at a growing run again and again. It need not read what cannot have changed, nor ask
MLflow for what it has sent there itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from storage.attempts import list_attempts, read_claims
from storage.checkpoints import covered_step
from storage.filesystem import for_each
from storage.layout import StagedFile
from storage.metric_reader import MetricFiles, MetricReader
from storage.mlflow_experiment import StoredRun
from storage.records import TrialRecord, list_trials, read_record
from storage.runs import Run
from storage.tracking_runs import NEVER_AGAIN, record_digest


@dataclass(frozen=True)
class Look:
    """All that decides what MLflow should hold of a trial; equal looks, equal content.

    Attributes:
        record: its digest.
        attempts: claimed so far.
        covered: the steps that no restart makes again; None: all of them.
        staged: its staged metric files.
        manifest: the number of the metrics' manifest.
    """

    record: str
    attempts: tuple[int, ...]
    covered: int | None
    staged: frozenset[StagedFile]
    manifest: int


class Memory:
    """For as long as the process holds OUT's lock: nobody else writes these runs then.

    Attributes:
        run: the run.
        metrics: its metrics, each file read once.
        parent: its run in MLflow; None: ask MLflow for it and for the children.
        children: the trials' runs in MLflow, by trial_id.
        sent: what the trials that go on were like when they were sent, by trial_id.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.metrics = MetricReader(run.out)
        self.parent: StoredRun | None = None
        self.children: dict[str, StoredRun] = {}
        self.sent: dict[str, Look] = {}
        self._over: dict[str, TrialRecord] = {}

    def forget_mlflow(self) -> None:
        """Ask MLflow again; after a sync that failed nobody knows how far it got."""
        self.parent = None
        self.children.clear()
        self.sent.clear()

    def records(self) -> dict[str, TrialRecord]:
        """All trials' records, by trial_id; those of trials that are over are read once."""
        out = self.run.out
        trial_ids = list_trials(out)
        left = [trial_id for trial_id in trial_ids if trial_id not in self._over]
        read = for_each(lambda trial_id: read_record(out, trial_id), left, out)
        records = self._over | dict(zip(left, read, strict=True))
        self._over = {key: r for key, r in records.items() if r.state in NEVER_AGAIN}
        return {trial_id: records[trial_id] for trial_id in trial_ids}

    def look(
        self, records: Sequence[TrialRecord], parent_run_id: str
    ) -> tuple[dict[str, Look], MetricFiles]:
        """What there is of some trials now: names are listed, no more."""
        files = self.metrics.files([record.trial_id for record in records])
        looks = for_each(lambda r: self._look(r, parent_run_id, files), records, self.run.out)
        return {r.trial_id: look for r, look in zip(records, looks, strict=True)}, files

    def _look(self, record: TrialRecord, parent_run_id: str, files: MetricFiles) -> Look:
        trial_id, out = record.trial_id, self.run.out
        attempts = tuple(list_attempts(out, trial_id))
        covered = None
        if record.state not in NEVER_AGAIN:
            # Of one attempt all checkpoints count, whatever it went on from.
            claims = read_claims(out, trial_id) if len(attempts) > 1 else []
            covered = covered_step(self.run.checkpoint_folder(trial_id), claims)
        return Look(
            record_digest(record, parent_run_id),
            attempts,
            covered,
            files.staged[trial_id],
            files.manifest,
        )
