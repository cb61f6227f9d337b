"""Optuna's suggestions as trials, none of them trained twice."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from storage.errors import InputError
from storage.lock import RunLock
from storage.runs import Run, TrialRecord
from sweeps.plan import PlannedTrial, resolve
from sweeps.space import Grid
from sweeps.study import Study
from sweeps.task import make_task, pending_record


class StudySearcher(Searcher):
    """Asks Ray Tune's OptunaSearch for points of the space and hands out resolved trials.

    A point whose trial has a result gets that result at once; one whose trial is running gets it
    when it is there. Either counts as a sample, so a small space ends the search. Trials that OUT
    holds are told to Optuna first, and those that an earlier run left unfinished go first.
    """

    def __init__(
        self, study: Study, run: Run, lock: RunLock, records: dict[str, TrialRecord]
    ) -> None:
        super().__init__(metric=study.search.metric, mode=study.search.direction)
        self._study = study
        self._lock = lock
        self._run = run
        self._records = records
        self._space = IndexedSpace(study.grids()[0])
        self._numbers = itertools.count()
        self._running: dict[str, PlannedTrial] = {}  # by Tune's id
        self._asked: dict[str, list[str]] = {}  # trial_id -> Optuna's ids that wait for its result
        self._unfinished: list[PlannedTrial] = []
        self._unheard: dict[str, dict[str, Any]] = {}  # of those, what Optuna will be told
        mine = self._recalled()
        self._samples = len(mine)
        self._optuna = _optuna_search(study, self._space, already=len(mine))
        for parameters, trial, record in mine:
            if record.state in ("completed", "stopped"):
                self._optuna.add_evaluated_point(parameters, record.metrics[self.metric])
            elif record.state != "failed":
                self._unfinished.append(trial)
                self._unheard[trial.trial_id] = parameters

    @property
    def left(self) -> int:
        """Samples still to come, unfinished trials included."""
        return max(0, self._study.search.num_samples - self._samples) + len(self._unfinished)

    def suggest(self, trial_id: str) -> Any:
        """A trial for Tune to run, as the configuration of its actor, or FINISHED."""
        trial = self._unfinished.pop() if self._unfinished else self._next_new()
        if trial is None:
            return str(Searcher.FINISHED)
        self._running[trial_id] = trial
        if trial.trial_id not in self._records:
            self._lock.check()
            self._records[trial.trial_id] = pending_record(self._study, trial)
            self._run.write_record(self._records[trial.trial_id])
        return {"task": asdict(make_task(self._study, self._run, trial, self._lock))}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Every suggestion that came to this trial gets its result."""
        trial = self._running.pop(trial_id, None)
        if trial is None:
            return
        failed = error or not result or bool(result.get("failed"))
        parameters = self._unheard.pop(trial.trial_id, None)
        if parameters is not None and not failed and result:
            self._optuna.add_evaluated_point(parameters, result[self.metric])
        for asked in self._asked.pop(trial.trial_id, []):
            self._optuna.on_trial_complete(asked, None if failed else result, error=failed)

    def _next_new(self) -> PlannedTrial | None:
        while self._samples < self._study.search.num_samples:
            self._samples += 1
            asked = f"suggestion-{next(self._numbers)}"
            try:
                trial = resolve(self._study, self._space.point(self._optuna.suggest(asked)))
            except InputError:  # a combination that cannot be trained is a sample that failed
                self._optuna.on_trial_complete(asked, error=True)
                continue
            record = self._records.get(trial.trial_id)
            waiting = any(t.trial_id == trial.trial_id for t in self._running.values())
            if record is None or (record.state == "pending" and not waiting):
                self._asked[trial.trial_id] = [asked]
                return trial
            if waiting:
                self._asked.setdefault(trial.trial_id, []).append(asked)
            else:
                failed = record.state == "failed"
                self._optuna.on_trial_complete(
                    asked, None if failed else record.metrics, error=failed
                )
        return None

    def _recalled(self) -> list[tuple[dict[str, Any], PlannedTrial, TrialRecord]]:
        """The trials in OUT that this search would have suggested; others are none of ours."""
        mine = []
        for record in self._records.values():
            try:
                parameters = self._space.parameters(record.config)
                trial = resolve(self._study, self._space.point(parameters))
            except (InputError, KeyError, ValueError):
                continue
            if trial.trial_id == record.trial_id:
                mine.append((parameters, trial, record))
        return mine

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher into OUT/tune; nothing ever reads it back.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: OUT is what a search goes on from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


class IndexedSpace:
    """A grid as Optuna sees it: samplers as ranges, lists and choices as indices into them.

    Indices, because an option may be a list (`model.hidden: [[64], [64, 64]]`), which Optuna
    does not take.
    """

    def __init__(self, grid: Grid) -> None:
        self._options = {key: tuple(values) for key, values in grid.lists.items()}
        self._ranges = {}
        for key, sampler in grid.samplers.items():
            if sampler.kind == "choice":
                self._options[key] = sampler.options
            else:
                self._ranges[key] = sampler

    def distributions(self) -> dict[str, Any]:
        """Optuna's distributions by key."""
        from optuna import distributions as optuna

        space: dict[str, Any] = {
            key: optuna.CategoricalDistribution(range(len(options)))
            for key, options in self._options.items()
        }
        for key, sampler in self._ranges.items():
            if sampler.kind == "randint":
                space[key] = optuna.IntDistribution(int(sampler.low), int(sampler.high) - 1)
            else:
                log = sampler.kind == "loguniform"
                space[key] = optuna.FloatDistribution(sampler.low, sampler.high, log=log)
        return space

    def point(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The point of the study's space that Optuna's parameters name."""
        return {
            key: self._options[key][value] if key in self._options else value
            for key, value in parameters.items()
        }

    def parameters(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Optuna's parameters for a resolved configuration; an unused key takes its first value.

        Raises:
            KeyError, ValueError: the configuration is not in this space.
        """
        found: dict[str, Any] = {}
        for key, options in self._options.items():
            value = _value_at(config, key)
            found[key] = 0 if value is None else options.index(value)
        for key, sampler in self._ranges.items():
            value = _value_at(config, key)
            found[key] = sampler.ends()[0] if value is None else value
        return found


def _value_at(config: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return config.get(section, {}).get(name) if name else config[section]


def _optuna_search(study: Study, space: IndexedSpace, already: int) -> Any:
    """Ray Tune's Optuna; with `already` trials known, another stream of the seed's, since the
    first one would begin by suggesting what they are."""
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError:
        raise InputError(
            "search.algorithm: optuna is not installed: pip install 'toposweep[optuna]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = study.search
    seed = int(np.random.SeedSequence([search.seed, already]).generate_state(1)[0])
    return OptunaSearch(
        space=space.distributions(), metric=search.metric, mode=search.direction, seed=seed
    )
