import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from snapshots import append, assert_masks, keys, trial

from storage import MaskStore, MetricStore
from storage.attempts import claim_attempt

HERE = Path(__file__).parent


def add_metrics(out, number, attempt, *epochs):
    rows = [{"epoch": epoch, "step": 10 * epoch, "loss": epoch / 7} for epoch in epochs]
    MetricStore(out).append(trial(number), "tiny", attempt, rows)


def rows_of(table):
    table = table.drop(columns=["gap", "bits"], errors="ignore")
    order = [name for name in ("trial_id", "step", "layer_index") if name in table.columns]
    return table.sort_values(order, ignore_index=True)[sorted(table.columns)]


def crash_everywhere(action, template, tmp_path):
    """Copies of a run, the action on each killed one file operation later; done in the last one."""
    folder = tmp_path / "copies"
    folder.mkdir()
    script = subprocess.run(
        [sys.executable, str(HERE / "crash.py"), action, str(template), str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])},
    )
    status, count = map(int, script.stdout.split())
    assert status == 0, script.stderr
    return [folder / str(number) for number in range(count)]


def test_an_append_killed_at_any_moment_is_there_whole_or_not_at_all(tmp_path):
    template = tmp_path / "template"
    append(MaskStore(template), trial(1), 0)
    seen = []
    for out in crash_everywhere("append", template, tmp_path):
        store, metrics = MaskStore(out), MetricStore(out)
        found = keys(store), len(metrics.load())
        assert store.verify() == metrics.verify() == []
        assert set(found[0]) - {(trial(9), 70, 1)} == {(trial(1), 0, 1)}
        seen.append((len(found[0]) - 1, found[1]))
        append(store, trial(9), 70)  # as if nothing had been
        assert keys(store) == [(trial(1), 0, 1), (trial(9), 70, 1)]
        assert_masks(store, [(trial(1), 0), (trial(9), 70)])
    assert list(dict.fromkeys(seen)) == [(0, 0), (1, 0), (1, 1)]


def test_a_compaction_killed_at_any_moment_loses_and_doubles_nothing(tmp_path):
    """Killed before each of its file operations in turn, a part to be replaced among them."""
    template = tmp_path / "template"
    store = MaskStore(template)
    for number in (1, 2, 3):
        claim_attempt(template, trial(number), -1)
        for step in (0, 10, 20):
            append(store, trial(number), step)
        add_metrics(template, number, 1, 1, 2)
    store.compact()
    MetricStore(template).compact()
    claim_attempt(template, trial(2), 0)
    append(store, trial(2), 10, attempt=2)
    append(store, trial(3), 30)
    append(store, trial(4), 0)
    add_metrics(template, 2, 2, 1)
    add_metrics(template, 4, 1, 1)
    right_keys, right_metrics = keys(store), MetricStore(template).load()
    right_index = store.index()

    copies = crash_everywhere("compact", template, tmp_path)
    assert len(copies) > 40
    for out in copies:
        store, metrics = MaskStore(out), MetricStore(out)
        for _ in range(2):  # as the dead compaction left it, and after the next one
            assert keys(store) == right_keys, out
            pd.testing.assert_frame_equal(metrics.load(), right_metrics, check_like=True)
            assert store.verify() == metrics.verify() == []
            store.compact()
            metrics.compact()
        assert_masks(store, [(trial_id, step) for trial_id, step, _ in right_keys])
        # Nothing is left that a plain reader of the folder would count twice.
        for name, right in (("masks", right_index), ("metrics", right_metrics)):
            plain = pd.read_parquet(out / name / "compact")
            pd.testing.assert_frame_equal(rows_of(plain), rows_of(right), check_dtype=False)
            assert list((out / name / "staging").rglob("*.parquet")) == []
