"""What every test may use."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.object_store import S3Server, s3_environment
from tests.tracking_servers import MlflowServer, PostgreSQL, why_no_postgresql

# Before torch or Ray load: one thread each, as in a trial; nothing is sent anywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)

# A busy machine is no failure.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray on this machine with two CPUs, started once; a job finds it and leaves it running."""
    from cluster import connect

    with connect(cpus=2):
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server that the environment names."""
    with s3_environment() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """The URI of a bucket of the test's own."""
    return s3_server.make_bucket()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of the tests' own, with an empty database for MLflow."""
    reason = why_no_postgresql()
    if reason is not None:
        pytest.skip(reason)
    server = PostgreSQL()
    try:
        server.start()
        server.create_database()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def server_on_postgresql(
    postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """`mlflow server` above it; not started, and a test may leave it stopped."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), postgresql.uri)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def no_tracking_uri_is_left_behind() -> Iterator[None]:
    """`mlflow.set_tracking_uri` puts the address into the environment, where a job would see it."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


# A busy machine is no failure.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
