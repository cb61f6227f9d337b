"""The thin class that Ray Tune drives: one trial after another in one process, one epoch a step."""

import signal
import threading
import time
import traceback
from typing import Any

from ray import tune

from cluster import metrics
from cluster.draining import node_is_leaving
from storage import InputError
from sweeps.faults import ProcessLeaves, StorageFailed, describe_os_error, pack_error
from sweeps.stop_watch import StopWatch
from sweeps.task import TrialTask
from sweeps.training import TrainingFailed
from sweeps.trial import FencedError, Halted, Trial

HALTED_PAUSE_S = 0.2  # between two answers of a trial that waits for the driver to end it


class TuneTrial(tune.Trainable):
    """What Ray Tune drives. An error of the trial is a result (`failure`), never an exception:
    Tune restarts what dies, and a trial that raised would only raise again.

    A trial that was asked to stop, or whose OUT cannot be written, answers with results that say so
    (`halted`, `storage`) until the driver ends it; they repeat the last epoch's values.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take note of the trial; it begins with the first step.

        Tune may start a process for a trial and then give the trial to another one that has
        become free: a claim made here would fence the attempt that really runs.
        """
        self._task = TrialTask(**config["task"])
        self._trial: Trial | None = None
        self._failure: dict[str, Any] | None = None
        self._told: dict[str, Any] = {"epoch": 0, **_WORST}
        self._watch = StopWatch(self._task.out, self._task.lock_generation, node_is_leaving)
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
        self._counted = (0, 0, 0.0)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process; nothing of the last one is kept."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        try:
            if self._trial is None:
                if self._watch.stop.is_set():
                    raise Halted("before it began")
                self._trial = Trial(self._task, self._watch.stop)
            return self._tell(self._trial.step())
        except Halted:
            if self._watch.leaves:
                raise ProcessLeaves("this process is about to end") from None
            time.sleep(HALTED_PAUSE_S)
            return self._answer(halted=True)
        except FencedError:
            raise  # Tune starts the trial again where it is Tune's; nobody does for a zombie
        except OSError as error:
            self._log_failure(error)
            time.sleep(HALTED_PAUSE_S)
            return self._answer(storage=pack_error(error))
        except Exception as error:
            self._failure = _failure(error)
            self._log_failure(error)
            return {"done": True, "failed": True, "failure": self._failure, **_WORST}
        finally:
            self._count()

    def _tell(self, result: dict[str, Any]) -> dict[str, Any]:
        """What Tune and the driver look at: the judged metrics, and the row for the record."""
        row = {name: value for name, value in result.items() if name not in ("written_at", "done")}
        judged = {name: row.get(name, worst) for name, worst in _WORST.items()}
        self._told = {"epoch": row["epoch"], "row": row, **judged}
        return self._answer(done=result["done"], completed=result["done"])

    def _answer(self, **said: Any) -> dict[str, Any]:
        notes = self._trial.notes if self._trial else []
        return {"done": False, "failed": False, "notes": notes, **self._told, **said}

    def _log_failure(self, error: Exception) -> None:
        if self._trial is not None:
            self._trial.log_failure(error)

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Tune asks for this once, at a trial's end; the state itself stays in OUT."""
        if self._trial is not None and self._failure is None:
            try:
                self._trial.stop_here()
            except OSError as error:
                raise StorageFailed(describe_os_error(error)) from error
            self._count()
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to do: a trial finds its own checkpoint in OUT."""

    def cleanup(self) -> None:
        """Let go of the trial."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
        self._watch.close()
        if self._trial is not None:
            self._trial.close()
            metrics.show_running(0, study=self._task.study)
        self._trial = None

    def _on_signal(self, signum: int, frame: Any) -> None:
        """SIGTERM: a batch system or Ray ends this process soon."""
        if self._trial is None:
            self._before(signum, frame)  # Ray's own: the process ends
        self._watch.leave()

    def _count(self) -> None:
        """Tell Prometheus what the trial has written since the last time."""
        if self._trial is None:
            return
        written, timing = self._trial.written, self._trial.timing
        totals = written.snapshots, written.bytes, timing.streaming + timing.checkpoints
        names = metrics.SNAPSHOTS, metrics.SNAPSHOT_BYTES, metrics.STORAGE_SECONDS
        for name, total, before in zip(names, totals, self._counted, strict=True):
            metrics.count(name, total - before, study=self._task.study)
        self._counted = totals
        metrics.show_running(1, study=self._task.study)


# Tune refuses a result that lacks the metric it judges by; a failed trial is the worst there is.
_WORST = {"validation_accuracy": float("-inf"), "validation_loss": float("inf")}


def _failure(error: Exception) -> dict[str, Any]:
    text = str(error).strip() or "no reason given"
    ours = isinstance(error, TrainingFailed | InputError)
    reason = text if ours else f"{type(error).__name__}: {text}"
    return {"reason": reason.splitlines()[0], "traceback": traceback.format_exc()}
