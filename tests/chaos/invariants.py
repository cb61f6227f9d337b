"""What must hold of a run that was disturbed: it equals the run that was not, times aside."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from storage import Run
from storage.checkpoints import verify_checkpoints
from storage.distance_store import finished_distances
from storage.distances import verify_distances
from storage.tracking import sync

TIME_COLUMNS = {"attempt", "written_at", "seconds"}

Shown = Mapping[tuple[str, int, str], int]  # trial_id, step and layer of each mask: its CRC


def shown(run: Run) -> Shown:
    """The masks that readers see at this moment.

    Raises:
        AssertionError: they see one twice.
    """
    index = run.masks.index(with_config=False)
    keys = index[["trial_id", "step", "layer"]]
    assert not keys.duplicated().any(), f"doubled: {keys[keys.duplicated()].to_dict('records')}"
    return dict(zip(keys.itertuples(index=False, name=None), index["crc32"], strict=True))


def assert_shows_nothing_else(run: Run, peace: Shown) -> Shown:
    """In the middle of a run: readers see masks of `peace`, each once, and nothing else."""
    seen = shown(run)
    wrong = [key for key, crc in seen.items() if peace.get(key) != crc]
    assert not wrong, f"not as in the undisturbed run: {wrong[:5]}"
    return seen


def assert_same_results(run: Run, peace: Run) -> None:
    """Every snapshot, metric, matrix, weight and end of `peace`, once, and nothing else."""
    keys = ["trial_id", "step", "layer_index"]
    mine, theirs = (
        store.index().sort_values(keys).reset_index(drop=True) for store in (run.masks, peace.masks)
    )
    pd.testing.assert_frame_equal(
        mine.drop(columns=TIME_COLUMNS & set(mine)), theirs.drop(columns=TIME_COLUMNS & set(theirs))
    )
    for trial_id, step in theirs[["trial_id", "step"]].drop_duplicates().itertuples(index=False):
        a, b = run.masks.load(trial_id, step), peace.masks.load(trial_id, step)
        assert a.keys() == b.keys()
        assert all((a[layer] != b[layer]).nnz == 0 for layer in a)
    mine, theirs = run.metrics.load(), peace.metrics.load()
    pd.testing.assert_frame_equal(
        mine.drop(columns=TIME_COLUMNS & set(mine)),
        theirs.drop(columns=TIME_COLUMNS & set(theirs)),
        check_exact=True,
    )
    ends = [{k: (r.state, r.reason) for k, r in x.records().items()} for x in (run, peace)]
    assert ends[0] == ends[1]
    assert {state for state, _ in ends[0].values()} <= {"completed", "failed"}
    assert finished_distances(run.out) == finished_distances(peace.out)
    for name in finished_distances(peace.out):
        for file in ("matrix.parquet", "labels.parquet"):
            mine_t, theirs_t = (
                pq.read_table(r.out / "distances" / name / file) for r in (run, peace)
            )
            assert mine_t.equals(theirs_t), f"distances {name}: another {file}"
    for trial_id, record in peace.records().items():
        if record.state == "completed":
            mine_w, theirs_w = (load_file(r.weights_path(trial_id)) for r in (run, peace))
            assert mine_w.keys() == theirs_w.keys()
            assert all(np.array_equal(mine_w[name], theirs_w[name]) for name in theirs_w)


def assert_sound(run: Run) -> None:
    """What `toposweep verify` says: every file is what was written."""
    bad = [*run.verify(), *verify_checkpoints(run.out), *verify_distances(run.out)]
    assert not bad, f"verify: {[str(problem) for problem in bad]}"


def assert_tracked_once(run: Run, database: Path) -> None:
    """MLflow has what OUT has: a sync completes it, another adds nothing, no value is there twice.

    Args:
        run: the run; nobody works in it.
        database: MLflow's SQLite file.
    """
    uri = f"sqlite:///{database}"
    first = sync(run, uri)
    assert first.complete, first.warning
    second = sync(run, uri)
    assert (second.complete, second.metrics_sent, second.artifacts) == (True, 0, 0), second
    connection = sqlite3.connect(database)
    try:
        ours = """select run_uuid from tags where key = 'run_uuid' and value = ?"""
        # Of trials: the parent run's own numbers, such as trials done, change while it runs.
        doubled = f"""select key, step, count(*) from metrics where run_uuid in ({ours})
                      and run_uuid in (select run_uuid from tags where key = 'trial_id')
                      group by run_uuid, key, step having count(*) > 1"""
        children = f"""select value, count(*) from tags where key = 'trial_id'
                       and run_uuid in ({ours}) and run_uuid in
                       (select run_uuid from runs where lifecycle_stage = 'active')
                       group by value"""
        assert connection.execute(doubled, [run.uuid]).fetchall() == []
        assert dict(connection.execute(children, [run.uuid])) == dict.fromkeys(run.records(), 1)
    finally:
        connection.close()
