"""Reading a growing run in parts gives what reading all of it gives, and no file is read twice."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_runs import STEPS, metric_rows

from storage.attempts import claim_attempt, list_attempts
from storage.layout import StagedFile
from storage.metric_reader import MetricReader
from storage.runs import Run
from storage.staged import StagedTable

TRIALS = [f"{number:012x}" for number in range(3)]


def check_equal(reader: MetricReader, run: Run) -> None:
    read = reader.load(TRIALS, reader.files(TRIALS))
    for trial_id in TRIALS:
        whole = run.metrics.load([trial_id])
        mine = read[trial_id]
        assert len(mine) == len(whole)
        if len(whole):
            shared = mine[[name for name in mine.columns if name in whole.columns]]
            others = mine.drop(columns=shared.columns)
            assert others.isna().to_numpy().all()  # metrics that only other trials have
            pd.testing.assert_frame_equal(shared.reset_index(drop=True), whole[shared.columns])


@pytest.mark.parametrize("seed", range(6))
def test_any_history_reads_the_same_in_parts_as_whole(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    run = Run.create(tmp_path / "out", "tiny", "name: tiny\n", {})
    reader = MetricReader(run.out)
    done = {}  # epochs, by trial and attempt
    for trial_id in TRIALS:
        claim_attempt(run.out, trial_id, -1)
        done[trial_id, 1] = 0
    for _ in range(40):
        trial_id = chance.choice(TRIALS)
        attempts = list_attempts(run.out, trial_id)
        match chance.choice(["append", "append", "append", "zombie", "restart", "compact", "load"]):
            case "append" | "zombie" as who:
                attempt = attempts[-1] if who == "append" else chance.choice(attempts)
                first = done[trial_id, attempt] + 1
                epochs = range(first, first + chance.randint(1, 3))
                rows = metric_rows(attempt, epochs, metrics=chance.randint(2, 4))
                run.metrics.append(trial_id, "tiny", attempt, rows)
                done[trial_id, attempt] = epochs[-1]
            case "restart":
                kept = chance.randint(0, done[trial_id, attempts[-1]])
                claim = claim_attempt(run.out, trial_id, STEPS * kept or -1)
                done[trial_id, claim.attempt] = kept
            case "compact":
                run.metrics.compact()
            case "load":
                check_equal(reader, run)
    check_equal(reader, run)


def test_a_staged_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    read_staged = StagedTable.read_staged

    def counted(table: StagedTable, file: StagedFile, *given: Any) -> Any:
        opened[f"{file.trial_id}/{file.path.name}"] += 1
        return read_staged(table, file, *given)

    monkeypatch.setattr(StagedTable, "read_staged", counted)
    run = Run.create(tmp_path / "out", "tiny", "name: tiny\n", {})
    reader = MetricReader(run.out)
    for trial_id in TRIALS:
        claim_attempt(run.out, trial_id, -1)
    for epoch in range(1, 6):
        for trial_id in TRIALS:
            run.metrics.append(trial_id, "tiny", 1, metric_rows(0, range(epoch, epoch + 1)))
        for _ in range(2):
            rows = reader.load(TRIALS, reader.files(TRIALS))
            assert [len(rows[trial_id]) for trial_id in TRIALS] == [epoch] * 3
    assert set(opened.values()) == {1}
    assert len(opened) == 15
    reader.forget(TRIALS[:1])
    assert len(reader.load(TRIALS, reader.files(TRIALS))[TRIALS[0]]) == 5
    assert Counter(opened.values()) == {1: 10, 2: 5}
