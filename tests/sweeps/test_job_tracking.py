"""A real sweep whose MLflow server, on PostgreSQL, is killed in the middle."""

from pathlib import Path
from typing import Any

import pytest

from storage.tracking import Tracker
from sweeps import job
from sweeps.job import run_job, sync_job
from sweeps.study import check_study
from tests.tracking_servers import MlflowServer, PostgreSQL, wait_for

STUDY = {
    "name": "followed",
    "data": "digits",
    "model": {"name": "mlp", "hidden": [16, 12]},
    "method": {"name": "set", "density": 0.3},
    "optimizer": {"name": "sgd", "lr": 0.02, "batch_size": 128},
    "epochs": 5,
    "checkpoint_every": "1ep",
    "space": {"seed": [0, 1, 2, 3, 4]},
}
VALUES = (
    "select count(*), count(distinct (m.run_uuid, m.key, m.step)), "
    "count(distinct m.run_uuid) filter (where r.status = 'FINISHED') "
    "from metrics m join runs r using (run_uuid) join tags t using (run_uuid) "
    "where t.key = 'trial_id' and r.lifecycle_stage = 'active'"
)


@pytest.mark.usefixtures("ray_here")
def test_a_sweep_goes_on_without_its_server_and_a_sync_completes_it(
    tmp_path: Path,
    postgresql: PostgreSQL,
    server_on_postgresql: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server_on_postgresql.start()
    uri, out = server_on_postgresql.uri, tmp_path / "out"
    (before,) = postgresql.query(VALUES)

    class Killing(Tracker):
        """Looks all the time; as soon as values have arrived the server dies."""

        def _follow(self) -> None:
            while not self._left.wait(0.1):
                self.look()
                if server_on_postgresql.process and postgresql.query(VALUES) != [before]:
                    server_on_postgresql.kill()

        def __exit__(self, *given: Any) -> None:
            wait_for(lambda: server_on_postgresql.process is None)
            super().__exit__(*given)

    monkeypatch.setattr(job, "Tracker", Killing)
    outcome = run_job(check_study(STUDY), out, tracking_uri=uri)
    assert server_on_postgresql.process is None
    assert (outcome.failed, outcome.problems) == ([], [])
    assert "toposweep sync" in "".join(outcome.warnings)
    server_on_postgresql.start()
    result = sync_job(out, uri)
    assert (result.complete, result.trials) == (True, 5)
    metrics = outcome.run.metrics.load()
    names = set(metrics.columns) - {"study", "trial_id", "attempt", "epoch", "step", "written_at"}
    values = int(metrics[sorted(names)].notna().to_numpy().sum())
    sent = (before[0] + values, before[1] + values, before[2] + 5)
    assert postgresql.query(VALUES) == [sent]
    again = sync_job(out, uri)
    assert (again.complete, again.metrics_sent, again.artifacts) == (True, 0, 0)
    assert postgresql.query(VALUES) == [sent]
