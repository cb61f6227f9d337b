"""The command line with OUT in an object store, from the sweep to the report."""

import time
from pathlib import Path

import pandas as pd
import pytest

from storage import Run, load_distances
from storage.filesystem import names_in, run_folder, walk_files
from sweeps.training import load_model
from tests.end_to_end.kill_and_resume import toposweep
from tests.object_store import SECRET, S3Server

STUDY = """
name: small
data: {name: digits}
model: {name: mlp, hidden: [16, 12]}
method: {name: set, density: 0.3}
optimizer: {name: sgd, lr: 0.02, batch_size: 128}
epochs: 4
snapshot_every: 1ep
checkpoint_every: 2ep
space: {seed: [0, 1, 2]}
scheduler: {name: asha, grace_period: 1, reduction_factor: 4}
distances: {final: {steps: last}}
"""


def test_a_run_in_an_object_store_that_is_away_for_a_while_equals_one_in_a_folder(
    bucket: str, s3_server: S3Server, tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.replace("scheduler", "#"))
    runs = []
    for out in (f"{bucket}/runs/a", str(tmp_path / "a")):
        tracking = f"sqlite:///{tmp_path}/mlflow.db"
        words = ["run", str(study), "--out", out, "--tracking-uri", tracking]
        process = toposweep(*words, wait=False)
        if out.startswith("s3"):
            while not names_in(run_folder(out) / "masks" / "staging"):
                assert process.poll() is None
                time.sleep(0.1)
            with s3_server.cut_off():  # the sweep waits, and goes on as if nothing had been
                time.sleep(5)
        printed = process.communicate()[0].decode()
        assert process.returncode == 0, printed
        toposweep("verify", out)
        runs.append(Run.open(out))
    remote, local = runs
    columns = ["trial_id", "step", "layer", "crc32", "nnz", "attempt"]
    pd.testing.assert_frame_equal(remote.masks.index()[columns], local.masks.index()[columns])
    times = ["seconds", "written_at"]
    pd.testing.assert_frame_equal(
        remote.metrics.load().drop(columns=times), local.metrics.load().drop(columns=times)
    )
    pd.testing.assert_frame_equal(
        load_distances(remote.out, "final"), load_distances(local.out, "final")
    )
    trial_id = next(iter(remote.records()))
    one, other = (load_model(run.weights_path(trial_id)).state_dict() for run in runs)
    assert all(one[name].equal(other[name]) for name in other)
    assert names_in(remote.report_folder) == names_in(local.report_folder)
    assert names_in(remote.out / "tune") == []
    assert not any(SECRET.encode() in path.read_bytes() for path, _ in walk_files(remote.out))


@pytest.mark.cluster
def test_a_scheduler_may_stop_trials_of_a_run_in_an_object_store(
    bucket: str, tmp_path: Path
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    words = ["--out", f"{bucket}/asha", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    toposweep("run", str(study), *words)
    run = Run.open(f"{bucket}/asha")
    assert {record.state for record in run.records().values()} <= {"completed", "stopped"}
    assert set(run.masks.index()["trial_id"]) == set(run.records())
