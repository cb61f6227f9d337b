"""Other people's sparse networks into a run's folder, as if its own trials had left them there.

First everything is read once and checked, against itself and against OUT; only then is anything
written, network by network. Importing the same again adds nothing, and completes what was cut off.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd
import yaml

from storage.errors import CorruptFile, InputError
from storage.filesystem import AnyPath, Location, run_folder
from storage.import_checks import (
    CheckedSnapshot,
    check_layers,
    find_news,
    imported_id,
    layer_keys,
)
from storage.import_reading import ImportOptions, read_masks
from storage.import_sources import find_snapshots
from storage.lock import RunLock
from storage.records import TrialRecord, write_record
from storage.runs import Run

__all__ = ["ImportOptions", "ImportResult", "import_networks", "imported_id", "is_imported"]

OnProgress = Callable[[int, int, str], None]  # snapshots done, snapshots in all, what is done

_ATTEMPT = 1  # a network is imported once, however often that is begun


@dataclass
class ImportedTrial:
    """What came of one network.

    Attributes:
        name: the network's.
        added: epochs of the snapshots that are new.
        present: how many were there already.
        layers: their names.
        density: connections over possible ones, of all layers, at the last step in OUT.
    """

    name: str
    trial_id: str
    added: list[int] = field(default_factory=list)
    present: int = 0
    layers: tuple[str, ...] = ()
    density: float = 1.0


@dataclass
class ImportResult:
    """What an import did; `corrupt` are files of OUT that are not what was written."""

    run: Run
    trials: list[ImportedTrial]
    corrupt: list[CorruptFile] = field(default_factory=list)


def import_networks(
    sources: Sequence[str | os.PathLike[str]],
    out: Location,
    options: ImportOptions | None = None,
    versions: Mapping[str, str] | None = None,
    progress: OnProgress = lambda done, total, what: None,
) -> ImportResult:
    """Import every network in some files and folders.

    Args:
        sources: files and folders; see `storage.import_sources.find_snapshots`.
        out: the run's folder: new, or one that holds imported networks.
        options: how to read them.
        versions: of the programs that matter, for a new run.
        progress: called after each snapshot read and written.

    Raises:
        InputError: a file is not what it should be, networks do not fit, or OUT holds something
            else; nothing was written.
    """
    options = options or ImportOptions()
    if options.pattern is None and (options.transpose or options.bias_row != "none"):
        raise InputError("--transpose and --bias-row: are for matrices that --pattern names")
    folder = run_folder(out)
    exists = (folder / "run.json").exists()
    if exists:
        _check_imported(Run.open(folder))
    found = find_snapshots(sources, options.pattern, options.name_prefix, options.steps_per_epoch)
    checked = []
    for snapshot in found:
        checked.append(CheckedSnapshot(snapshot, layer_keys(read_masks(snapshot, options))))
        progress(len(checked), len(found), "checked")
    if exists:  # before the lock, which is a file of OUT
        find_news(Run.open(folder), checked, options.steps_per_epoch)
    else:
        check_layers(checked, {})
    with RunLock(folder, purpose="import") as lock:
        run = _open_run(folder, versions or {})
        news = find_news(run, checked, options.steps_per_epoch)
        for number, item in enumerate(news, start=1):
            lock.check()
            _write(run, item, options)
            progress(number, len(news), "written")
        trials = _write_records(run, checked, news, options)
        corrupt = run.masks.compact(lock).corrupt
    return ImportResult(run, trials, corrupt)


def is_imported(run: Run) -> bool:
    """Whether a run's trials were imported, and not trained by toposweep."""
    try:
        study = yaml.safe_load(run.study_path.read_text("utf-8"))
    except Exception:  # PyYAML's constructors trust a tag such as !!int or !!map
        return False
    return isinstance(study, dict) and study.get("imported") is True


def _check_imported(run: Run) -> None:
    if not is_imported(run):
        raise InputError(
            f"{run.out}: holds trials of the study {run.study!r}: expected a new folder, or one "
            "of imported networks"
        )


def _open_run(folder: AnyPath, versions: Mapping[str, str]) -> Run:
    if (folder / "run.json").exists():
        run = Run.open(folder)
        _check_imported(run)
        return run
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name).lstrip("_.-")[:100] or "imported"
    study = {"name": name, "description": "Imported networks.", "imported": True}
    return Run.create(folder, name, yaml.safe_dump(study, sort_keys=False), versions)


def _write(run: Run, item: CheckedSnapshot, options: ImportOptions) -> None:
    found, masks = item.found, read_masks(item.found, options)
    if layer_keys(masks) != item.layers:
        raise InputError(f"{found.place}: has changed while it was imported")
    run.masks.append(item.trial_id, run.study, found.step, found.epoch, _ATTEMPT, masks)


def _write_records(
    run: Run,
    checked: Sequence[CheckedSnapshot],
    news: Sequence[CheckedSnapshot],
    options: ImportOptions,
) -> list[ImportedTrial]:
    """A record for each network that has none, or one from before its last steps came."""
    index = run.masks.index(with_config=False)
    records = run.records()
    trials: dict[str, ImportedTrial] = {}
    added = {(item.trial_id, item.found.step) for item in news}
    for item in checked:
        trial = trials.setdefault(item.trial_id, ImportedTrial(item.found.name, item.trial_id))
        if (item.trial_id, item.found.step) in added:
            trial.added.append(item.found.epoch)
        else:
            trial.present += 1
    formats = {item.trial_id: item.found.format for item in reversed(checked)}
    for trial_id, rows in index[index["trial_id"].isin(trials)].groupby("trial_id"):
        trial, last = trials[str(trial_id)], int(rows["step"].max())
        trial.layers = tuple(rows.loc[rows["step"] == last, "layer"])
        trial.density = _density(rows[rows["step"] == last])
        known = records.get(trial.trial_id)
        if trial.added or known is None or known.total_steps != last:
            write_record(
                run.out,
                TrialRecord(
                    trial_id=trial.trial_id,
                    study=run.study,
                    config=known.config if known is not None else
                    {"imported": {"name": trial.name, "format": formats[trial.trial_id]}},
                    state="completed",
                    steps_per_epoch=options.steps_per_epoch,
                    total_steps=last,
                    metrics={"density": trial.density},
                    updated_at=datetime.now(UTC).isoformat(timespec="microseconds"),
                ),
            )  # fmt: skip
    return list(trials.values())


def _density(rows: pd.DataFrame) -> float:
    return float(rows["nnz"].sum() / (rows["n_out"].astype("int64") * rows["n_in"]).sum())
