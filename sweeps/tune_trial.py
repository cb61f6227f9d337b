"""The thin class that Ray Tune drives: one trial after another in one process, one epoch a step."""

import traceback
from typing import Any

from ray import tune

from storage import InputError
from sweeps.task import TrialTask
from sweeps.training import TrainingFailed
from sweeps.trial import FencedError, Trial


class TuneTrial(tune.Trainable):
    """What Ray Tune drives. An error of the trial is a result (`failure`), never an exception:
    Tune restarts what dies, and a trial that raised would only raise again."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take note of the trial; it begins with the first step.

        Tune may start a process for a trial and then give the trial to another one that has
        become free: a claim made here would fence the attempt that really runs.
        """
        self._task = TrialTask(**config["task"])
        self._trial: Trial | None = None
        self._failure: dict[str, Any] | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process; nothing of the last one is kept."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch."""
        try:
            if self._trial is None:
                self._trial = Trial(self._task)
            return self._tell(self._trial.step())
        except FencedError:
            raise  # Tune starts the trial again where it is Tune's; nobody does for a zombie
        except Exception as error:
            self._failure = _failure(error)
            if self._trial is not None:
                self._trial.log_failure(error)
            return {"done": True, "failed": True, "failure": self._failure, **_WORST}

    def _tell(self, result: dict[str, Any]) -> dict[str, Any]:
        """What Tune and the driver look at: the judged metrics, and the row for the record."""
        row = {name: value for name, value in result.items() if name not in ("written_at", "done")}
        judged = {name: row.get(name, worst) for name, worst in _WORST.items()}
        return {
            "done": result["done"],
            "failed": False,
            "epoch": row["epoch"],
            "row": row,
            **judged,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Tune asks for this once, at a trial's end; the state itself stays in OUT."""
        if self._trial is not None and self._failure is None:
            self._trial.stop_here()
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to do: a trial finds its own checkpoint in OUT."""

    def cleanup(self) -> None:
        """Let go of the trial."""
        if self._trial is not None:
            self._trial.close()
        self._trial = None


# Tune refuses a result that lacks the metric it judges by; a failed trial is the worst there is.
_WORST = {"validation_accuracy": float("-inf"), "validation_loss": float("inf")}


def _failure(error: Exception) -> dict[str, Any]:
    text = str(error).strip() or "no reason given"
    ours = isinstance(error, TrainingFailed | InputError)
    reason = text if ours else f"{type(error).__name__}: {text}"
    return {"reason": reason.splitlines()[0], "traceback": traceback.format_exc()}
