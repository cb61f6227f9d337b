import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from snapshots import append, keys, masks_of, trial

from storage import MaskStore, MetricStore
from storage.attempts import claim_attempt, is_current

HERE = Path(__file__).parent


class Writer(threading.Thread):
    """A trial that commits a snapshot and a metric a step, and is restarted now and then."""

    def __init__(self, out, number, steps):
        super().__init__()
        self.store, self.metrics = MaskStore(out), MetricStore(out)
        self.trial_id = trial(number)
        self.steps = steps
        self.committed = []  # grows only: whoever copies it may ask for all that is in it
        self.error = None

    def run(self):
        try:
            claim = claim_attempt(self.store.out, self.trial_id, -1)
            for step in range(self.steps):
                if step % 7 == 6:
                    claim = claim_attempt(self.store.out, self.trial_id, step - 1)
                assert is_current(self.store.out, claim)
                append(self.store, self.trial_id, step, claim.attempt)
                self.metrics.append(
                    self.trial_id, "tiny", claim.attempt, [{"step": step, "epoch": step}]
                )
                self.committed.append((self.trial_id, step, claim.attempt))
        except BaseException as error:
            self.error = error


def committed(writers):
    return [key for writer in writers for key in list(writer.committed)]


def check_reader(store, metrics, writers):
    """Everything committed before a read is in it, once, and nothing that was never written."""
    before = committed(writers)
    seen = keys(store)  # fails where a row is doubled
    assert set(before) <= set(seen)
    table = metrics.load()
    rows = list(zip(table.trial_id, table.step, table.attempt, strict=True))
    assert len(set(rows)) == len(rows)
    assert set(before) <= set(rows)
    sample = before[:: max(1, len(before) // 5)]
    loaded = store.load_many([key[:2] for key in sample])
    for key, masks in zip(sample, loaded, strict=True):
        for name, mask in masks_of(*key[:2]).items():
            np.testing.assert_array_equal(masks[name].toarray(), mask)
    assert {(t, s) for t, s, _ in store.iter()} >= {key[:2] for key in before}


@pytest.mark.parametrize("killed", [False, True], ids=["compacting", "compacting, killed"])
def test_readers_beside_writers_and_a_compaction_see_every_row_once(tmp_path, killed):
    store, metrics = MaskStore(tmp_path), MetricStore(tmp_path)
    writers = [Writer(tmp_path, number, steps=40) for number in range(3)]
    command = [sys.executable, str(HERE / "compact_forever.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}

    def start():
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    compactor = start()
    assert compactor.stdout.readline() == "compacted\n"
    try:
        for writer in writers:
            writer.start()
        rounds = 0
        while any(writer.is_alive() for writer in writers):
            check_reader(store, metrics, writers)
            rounds += 1
            if killed and rounds % 3 == 0:
                compactor.kill()
                compactor.wait()
                compactor.stdout.close()
                compactor = start()
        for writer in writers:
            writer.join()
            assert writer.error is None
        check_reader(store, metrics, writers)
        assert compactor.poll() is None
    finally:
        compactor.kill()
        compactor.wait()
        compactor.stdout.close()
    check_reader(store, metrics, writers)
    assert store.verify() == metrics.verify() == []
    assert store.compact().rows == 3 * len(committed(writers)) == 3 * 3 * 40
    assert metrics.compact().rows == 3 * 40
    check_reader(store, metrics, writers)


def test_verify_beside_a_compaction_blames_nothing(tmp_path):
    store = MaskStore(tmp_path)
    for number in range(4):
        for step in range(10):
            append(store, trial(number), step)
    found = []

    def verify():
        for _ in range(5):
            found.extend(store.verify())

    thread = threading.Thread(target=verify)
    thread.start()
    store.compact()
    for step in range(10, 14):
        append(store, trial(1), step)
        store.compact()
    thread.join()
    assert found == []
