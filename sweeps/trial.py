"""One trial: train, commit every snapshot and metric before reporting it, go on after a death.

It runs in any process, without Ray, so that a breakpoint works; `tune_trial` is what Ray drives.
"""

import io
import json
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from storage import CorruptFile, LayerMask, MaskStore, MetricStore
from storage.attempts import Claim, claim_attempt, is_current, read_claims
from storage.checkpoints import list_checkpoints, prune_checkpoints, write_checkpoint
from storage.durations import parse_duration
from storage.filesystem import AnyPath, write_atomic
from storage.logs import log_handler
from storage.masks import Written
from storage.runs import Run
from sweeps.faults import EndedAlready, FencedError, GivenUp, Halted, checked_data_error
from sweeps.shipped_data import data_folder
from sweeps.task import TrialTask
from sweeps.training.imports import allow_imports_there
from sweeps.training.loop import Training

KEPT_CHECKPOINTS = 2  # the newest, and one before it in case the newest proves unreadable


@dataclass
class Timing:
    """Seconds of a trial's life by what they went to, for the log and the benchmarks."""

    training: float = 0.0
    streaming: float = 0.0
    checkpoints: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: {"snapshots": 0, "checkpoints": 0})


class Trial:
    """A trial in this process, begun afresh or from its newest checkpoint.

    Args:
        task: what to train and where to write.
        stop: while it is set, training stops at the next step, with a checkpoint.

    Raises:
        InputError: the configuration or the data cannot be trained.
        OSError: OUT cannot be written or read; that is not the trial's failure.
        GivenUp, FencedError: it has ended by its record.
    """

    def __init__(self, task: TrialTask, stop: threading.Event | None = None) -> None:
        self.task = task
        self._stop = stop or threading.Event()
        self.timing = Timing()
        self._run = Run.open(task.out)
        if self._run.record(task.trial_id).state == "failed":
            raise GivenUp("the trial has failed already")
        self._folder = self._run.checkpoint_folder(task.trial_id)
        self._masks = MaskStore(self._run.out)
        self._metrics = MetricStore(self._run.out)
        self._log = _open_log(self._run.log_path(task.trial_id), task.trial_id)
        self._pending: list[dict[str, Any]] = []
        self._last_row: dict[str, Any] = {}
        self.notes: list[str] = []  # what the user should know although the trial goes on
        self._snapshot_step = -1  # of the newest snapshot that this attempt took
        self._checkpoint_step = 0  # of the newest checkpoint; at step 0 there is nothing to keep
        # A commit mostly waits for the disk: a thread of its own lets training go on meanwhile.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshot")
        self._committing: Future[Any] | None = None

        try:
            allow_imports_there(task.imports)
            data = data_folder(self._run, task.config["data"]["checksum"], task.data_path)
            self.training = Training(task.config, data, task.device, task.threads, task.compute)
        except Exception as error:
            self.log_failure(error)
            self.close()
            if isinstance(error, OSError):
                raise checked_data_error(error) from error
            raise
        self._snapshot_steps = parse_duration(task.snapshot_every).steps(
            self.training.steps_per_epoch
        )
        self._checkpoint_steps = parse_duration(task.checkpoint_every).steps(
            self.training.steps_per_epoch
        )
        self.claim = self._claim()
        if self.claim.first_step < 0:
            self._log.info("attempt %d begins from scratch", self.claim.attempt)
            self._commit_snapshot()
        else:
            self._log.info("attempt %d goes on from step %d", self.claim.attempt,
                           self.claim.first_step)  # fmt: skip

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping has ended the training."""
        return self.training.finished

    @property
    def written(self) -> Written:
        """The snapshots that this attempt has committed so far."""
        return self._masks.written

    def step(self) -> dict[str, Any]:
        """Train one epoch; what is due is committed when this returns.

        Returns:
            The epoch's metrics with `epoch` and `step`. At the trial's end, `done` is true.

        Raises:
            TrainingFailed: the loss is not finite, or the accuracy fell to chance.
            FencedError: another attempt has taken over.
            Halted: it was asked to stop; what it has done is committed.
            OSError: OUT cannot be written or read.
        """
        try:
            if not self.finished:
                self._train_epoch()
            if self.finished:
                self._finish()
        except (FencedError, Halted, OSError):
            raise
        except Exception:
            self._flush_metrics()  # what it measured before it failed says why
            self._await_snapshot()
            raise
        return {**self._last_row, "done": self.finished}

    def _train_epoch(self) -> None:
        if self._stop.is_set():
            self._halt()
        started = time.perf_counter()
        before = self.timing.streaming + self.timing.checkpoints
        metrics = self.training.run_epoch(self._on_step)
        spent_writing = self.timing.streaming + self.timing.checkpoints - before
        self.timing.training += time.perf_counter() - started - spent_writing

        self._last_row = {
            "epoch": self.training.epoch,
            "step": self.training.step,
            "written_at": datetime.now(UTC),
            **metrics,
        }
        self._pending.append(self._last_row)
        shown = " ".join(f"{name}={value:.6g}" for name, value in metrics.items())
        self._log.info("epoch %d step %d %s", self.training.epoch, self.training.step, shown)
        if self.finished and self._snapshot_step != self.training.step:
            self._commit_snapshot()  # it stopped early: no step before knew that it was the last
        due = self.training.step % self._checkpoint_steps == 0
        if due or self.finished or self._stop.is_set():
            self._commit_checkpoint()
        elif self._snapshot_step == self.training.step:
            self._flush_metrics()
        self._await_snapshot()

    def _on_step(self, step: int) -> None:
        last = step == self.training.total_steps or self.training.ends_round(step)
        if last or step % self._snapshot_steps == 0:
            self._commit_snapshot()
        # At the end of an epoch the checkpoint waits until the epoch's metrics are known.
        ends_epoch = step % self.training.steps_per_epoch == 0
        if ends_epoch:
            return
        if step % self._checkpoint_steps == 0:
            self._commit_checkpoint()
        if self._stop.is_set():
            self._halt()

    def _halt(self) -> None:
        if self._checkpoint_step != self.training.step:
            self._commit_checkpoint()
            self._log.info("asked to stop at step %d", self.training.step)
        self._await_snapshot()
        raise Halted(f"at step {self.training.step}")

    def stop_here(self) -> None:
        """Leave a last snapshot and checkpoint: a scheduler has ended the trial before its time."""
        if self.finished:
            return
        if self._snapshot_step != self.training.step:
            self._commit_snapshot()
        self._commit_checkpoint()
        self._log.info("stopped by the scheduler at step %d", self.training.step)

    def close(self) -> None:
        """Let go of the writer and of the log file."""
        self._writer.shutdown()
        for handler in list(self._log.handlers):
            self._log.removeHandler(handler)
            with suppress(OSError):  # lines that a full disk has not taken are lost
                handler.close()

    def log_failure(self, error: Exception) -> None:
        """Leave the reason in the trial's log."""
        self._log.error("failed: %s", error, exc_info=error)

    def _claim(self) -> Claim:
        """Claim the next attempt, with the training's state set to the step it goes on from."""
        restored: dict[str, Any] = {}

        def first_step(claims: Sequence[Claim]) -> int:
            if self._run.record(self.task.trial_id).state in ("completed", "stopped"):
                raise EndedAlready("the trial has ended already")
            for checkpoint in list_checkpoints(self._folder, claims):
                try:
                    payload = checkpoint.read()
                except FileNotFoundError:  # pruned by an attempt that is still alive: look again
                    return first_step(read_claims(self._run.out, self.task.trial_id))
                except CorruptFile as error:
                    self._log.warning("%s; going on from an older checkpoint", error)
                    self.notes.append(f"{error}; the trial went on from an older checkpoint")
                    continue
                restored["state"] = torch.load(io.BytesIO(payload), weights_only=True)
                return checkpoint.step
            restored.clear()
            return -1

        claim = claim_attempt(self._run.out, self.task.trial_id, first_step)
        if restored:
            self.training.load_state_dict(restored["state"]["training"])
            self._checkpoint_step = self.training.step
            self._last_row = json.loads(restored["state"]["last_row"])
        return claim

    def _commit_snapshot(self) -> None:
        """Begin to commit the masks as they are; `_await_snapshot` sees it through."""
        self._await_snapshot()
        started = time.perf_counter()
        self._committing = self._writer.submit(
            self._masks.append,
            trial_id=self.task.trial_id,
            study=self.task.study,
            step=self.training.step,
            epoch=self.training.epoch,
            attempt=self.claim.attempt,
            layers=[LayerMask(*layer) for layer in self.training.sparse_masks()],
        )
        self._snapshot_step = self.training.step
        self.timing.streaming += time.perf_counter() - started
        self.timing.counts["snapshots"] += 1

    def _await_snapshot(self) -> None:
        """Until the last snapshot is on disk; raises what its commit raised."""
        if self._committing is not None:
            started = time.perf_counter()
            committing, self._committing = self._committing, None
            committing.result()
            self.timing.streaming += time.perf_counter() - started

    def _flush_metrics(self) -> None:
        if not self._pending:
            return
        started = time.perf_counter()
        self._metrics.append(self.task.trial_id, self.task.study, self.claim.attempt, self._pending)
        self._pending = []
        self.timing.streaming += time.perf_counter() - started

    def _commit_checkpoint(self) -> None:
        """Masks and metrics first: a checkpoint promises that nothing before it is made again."""
        self._flush_metrics()
        self._await_snapshot()
        started = time.perf_counter()
        self._check_current()
        buffer = io.BytesIO()
        state = {
            "training": self.training.state_dict(),
            "last_row": json.dumps(self._last_row, default=str),
        }
        torch.save(state, buffer)
        write_checkpoint(self._folder, self.training.step, self.claim.attempt, buffer.getvalue())
        self._checkpoint_step = self.training.step
        claims = read_claims(self._run.out, self.task.trial_id)
        prune_checkpoints(self._folder, claims, KEPT_CHECKPOINTS)
        self.timing.checkpoints += time.perf_counter() - started
        self.timing.counts["checkpoints"] += 1

    def _check_current(self) -> None:
        if not is_current(self._run.out, self.claim):
            raise FencedError(f"attempt {self.claim.attempt} has been replaced by a later one")

    def _finish(self) -> None:
        self._check_current()
        write_atomic(self._run.weights_path(self.task.trial_id), self.training.weights_bytes())
        self._log.info(
            "completed: %.2f s training, %.3f s streaming %d snapshots, %.3f s checkpoints",
            self.timing.training, self.timing.streaming,
            self.timing.counts["snapshots"], self.timing.checkpoints,
        )  # fmt: skip


def run_trial(task: TrialTask) -> dict[str, Any]:
    """Run one trial to its end in this process, without Ray; returns its last metrics."""
    trial = Trial(task)
    try:
        result = trial.step()
        while not result["done"]:
            result = trial.step()
    finally:
        trial.close()
    return result


def _open_log(path: AnyPath, trial_id: str) -> logging.Logger:
    logger = logging.getLogger(f"toposweep.trial.{trial_id}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)
    handler = log_handler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger
