"""How far a run is and how fast it goes, told from OUT alone by any machine that reads it.

Two clocks are at work and neither is the reader's: records carry the driver's, files the
storage's. A driver renews its lock every few seconds, which ties both to now.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from storage.distance_sets import BEGUN, SPEC, BegunDistances, StoredDistances
from storage.errors import CorruptFile
from storage.filesystem import AnyPath, FileStat, for_each, list_files, names_in, read_json
from storage.lock import RENEW_EVERY_S, Holder, RunLock, Seen
from storage.records import ENDED, TrialRecord, list_trials, read_record
from storage.snapshot_census import Census, Commits, take_census

WINDOWS_S = (300.0, 900.0, 3600.0)
SHORTEST_WINDOW_S = 10.0
# A rate over fewer commits than these jumps about: then a longer window is taken.
ENOUGH_COMMITS = 10


@dataclass(frozen=True)
class Rate:
    """What was done a minute, over the last `minutes`."""

    minutes: float
    trials: float
    epochs: float
    snapshots: float


@dataclass(frozen=True)
class UnfinishedDistances:
    """A set of distances that was begun and has not ended.

    Attributes:
        done: tiles that are there of `begun.tiles`.
        seconds_left: at the speed so far; None: not known.
    """

    name: str
    begun: BegunDistances
    done: int
    seconds_left: float | None


@dataclass(frozen=True)
class RunProgress:
    """A run at one moment.

    Attributes:
        records: by trial_id.
        states: how many trials are in each state.
        epochs_done, epochs_total: of trials that ended otherwise, only what they did counts.
        rate: None while there is no driver, or nothing to tell it from.
        finished: sets of distances.
        unfinished: sets of distances that are being computed, or were when the driver died.
        driver: who holds the lock; None: nobody.
        problems: what could not be read, a line each.
    """

    records: Mapping[str, TrialRecord]
    states: Mapping[str, int]
    census: Census
    epochs_done: float
    epochs_total: float
    rate: Rate | None
    finished: tuple[StoredDistances, ...]
    unfinished: tuple[UnfinishedDistances, ...]
    driver: Holder | None
    problems: tuple[str, ...]

    @property
    def seconds_left(self) -> float | None:
        """Until all trials are trained, at the speed of the last minutes; None: not known."""
        left = self.epochs_total - self.epochs_done
        if self.rate is None or self.rate.epochs <= 0 or left <= 0:
            return None
        return 60 * left / self.rate.epochs


def read_progress(out: AnyPath, planned: int = 0) -> RunProgress:
    """Look at a run.

    Args:
        out: the run's folder.
        planned: trials that there will be, where not all of them have a record yet.

    Raises:
        CorruptFile: its lock cannot be read.
        OSError: the storage is away.
    """
    seen = RunLock(out, "status").look()
    problems: list[str] = []
    records = _records(out, problems)
    census = take_census(out)
    now = _now(seen, census)
    elapsed = _elapsed(seen, now) if seen else None
    finished, unfinished = _distances(out, now, elapsed, problems)
    steps = {trial_id: _steps_done(record, census) for trial_id, record in records.items()}
    return RunProgress(
        records=records,
        states=Counter(record.state for record in records.values()),
        census=census,
        epochs_done=sum(steps[key] / _per_epoch(records[key]) for key in steps),
        epochs_total=_epochs_total(records, steps, planned),
        rate=None if elapsed is None else _rate(now, elapsed, records, census),
        finished=finished,
        unfinished=unfinished,
        driver=seen.holder if seen else None,
        problems=(*problems, *census.problems),
    )


def _records(out: AnyPath, problems: list[str]) -> dict[str, TrialRecord]:
    def read(trial_id: str) -> TrialRecord | CorruptFile:
        try:
            return read_record(out, trial_id)
        except CorruptFile as error:
            return error

    trial_ids = list_trials(out)
    found = dict(zip(trial_ids, for_each(read, trial_ids, out), strict=True))
    problems += [str(record) for record in found.values() if isinstance(record, CorruptFile)]
    return {key: record for key, record in found.items() if isinstance(record, TrialRecord)}


def _per_epoch(record: TrialRecord) -> int:
    return max(1, record.steps_per_epoch)


def _steps_done(record: TrialRecord, census: Census) -> int:
    if record.state == "completed":
        # Early stopping may have ended it before all steps were done.
        return int(record.metrics.get("step", record.total_steps))
    committed = (census.snapshots, census.checkpoints)
    done = max(max(commits.get(record.trial_id, {}), default=0) for commits in committed)
    return min(done, record.total_steps)


def _epochs_total(
    records: Mapping[str, TrialRecord], steps: Mapping[str, int], planned: int
) -> float:
    total = sum(
        (steps[key] if record.state in ENDED else record.total_steps) / _per_epoch(record)
        for key, record in records.items()
    )
    return total * max(planned, len(records)) / max(1, len(records))


# Rates


def _now(seen: Seen | None, census: Census) -> float:
    """The storage's time: the reader's clock, as far as the driver's last renewal bears it out."""
    if seen is None:
        return time.time()
    clock = min(max(time.time(), seen.renewed_at), seen.renewed_at + 2 * RENEW_EVERY_S)
    newest = (when for when in _times(census.snapshots) if when is not None)
    return max([clock, *newest])


def _times(commits: Mapping[str, Commits]) -> Iterable[float | None]:
    return (when for steps in commits.values() for when in steps.values())


@dataclass(frozen=True)
class _Elapsed:
    """How long the driver has been at work, in seconds, and the time by its own clock."""

    seconds: float
    drivers_now: float


def _elapsed(seen: Seen, now: float) -> _Elapsed | None:
    try:
        since = datetime.fromisoformat(seen.holder.since).timestamp()
        renewed = datetime.fromisoformat(seen.holder.renewed_at).timestamp()
    except ValueError:  # somebody has edited it
        return None
    drivers_now = renewed + now - seen.renewed_at
    return _Elapsed(drivers_now - since, drivers_now)


def _rate(
    now: float, driver: _Elapsed, records: Mapping[str, TrialRecord], census: Census
) -> Rate | None:
    elapsed = driver.seconds
    try:
        ended = [
            datetime.fromisoformat(record.updated_at).timestamp()
            for record in records.values()
            if record.state in ENDED and record.updated_at
        ]
    except ValueError:
        return None
    times = [when for when in _times(census.snapshots) if when is not None]
    window = elapsed
    for shorter in WINDOWS_S:
        if shorter < elapsed and sum(when > now - shorter for when in times) >= ENOUGH_COMMITS:
            window = shorter
            break
    if window < SHORTEST_WINDOW_S:
        return None
    begin = now - window
    epochs = sum(
        _steps_between(_committed(trial_id, census, now - elapsed), begin, now) / _per_epoch(record)
        for trial_id, record in records.items()
    )
    if epochs <= 0:
        return None
    minutes = window / 60
    return Rate(
        minutes=minutes,
        trials=sum(when > driver.drivers_now - window for when in ended) / minutes,
        epochs=epochs / minutes,
        snapshots=sum(when > begin for when in times) / minutes,
    )


def _committed(trial_id: str, census: Census, started: float) -> list[tuple[float, int]]:
    """(when, step) of a trial's commits by step; none before the driver started."""
    steps = {**census.snapshots.get(trial_id, {}), **census.checkpoints.get(trial_id, {})}
    return [
        (started if when is None else max(when, started), step)
        for step, when in sorted(steps.items())
    ]


def _steps_between(commits: list[tuple[float, int]], begin: float, end: float) -> float:
    """Steps done in a span of time, each commit's steps spread over the time since the last one."""
    done = 0.0
    for (earlier, first), (later, last) in itertools.pairwise(commits):
        if later <= begin or earlier > end:
            continue
        if later <= earlier:  # within the clock's grain
            done += last - first
        else:
            inside = min(later, end) - max(earlier, begin)
            done += (last - first) * max(0.0, inside) / (later - earlier)
    return done


# Distances


def _distances(
    out: AnyPath, now: float, driver: _Elapsed | None, problems: list[str]
) -> tuple[tuple[StoredDistances, ...], tuple[UnfinishedDistances, ...]]:
    """Finished sets and those that are begun."""
    folder = out / "distances"
    files: dict[str, dict[str, FileStat]] = {name: {} for name in names_in(folder)}
    for file in list_files(folder):
        name, _, rest = file.name.partition("/")
        if name in files:
            files[name][rest] = file
    finished, unfinished = [], []
    for name, there in files.items():
        try:
            if BEGUN in there:
                begun = BegunDistances.read(folder / name)
                unfinished.append(_unfinished(name, begun, there, now, driver))
            if "matrix.parquet" in there and SPEC in there:
                spec = read_json(folder / name / SPEC)
                finished.append(StoredDistances.of(folder / name, spec))
        except FileNotFoundError:  # it has ended meanwhile, or is being written anew
            continue
        except CorruptFile as error:
            problems.append(str(error))
    return tuple(finished), tuple(unfinished)


def _unfinished(
    name: str,
    begun: BegunDistances,
    there: Mapping[str, FileStat],
    now: float,
    driver: _Elapsed | None,
) -> UnfinishedDistances:
    started = there[BEGUN].written_at
    tiles = [file.written_at for rest, file in there.items() if _is_tile(rest)]
    # Older tiles are of those that were counted then, or of another plan.
    new = sum(when >= started for when in tiles)
    done = min(begun.tiles, begun.there + new)
    left = None
    # A driver that has not come to this set yet says nothing of how long it will take.
    at_work = driver is not None and started >= now - driver.seconds - 1  # files may have whole s
    if at_work and new and now > started:
        left = (begun.tiles - done) * (now - started) / new
    return UnfinishedDistances(name, begun, done, left)


def _is_tile(name: str) -> bool:
    return (
        name.startswith("tiles/") and name.endswith(".parquet") and not name.startswith("tiles/.")
    )
