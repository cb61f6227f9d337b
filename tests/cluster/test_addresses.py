"""Addresses: what they mean, and what a wrong one costs."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from cluster import check_address, resolve_address
from cluster.address import job_runtime_env

JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"working_dir": "gcs://x.zip"}})}


@pytest.mark.parametrize(
    ("given", "environment", "meant"),
    [
        (None, {}, None),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, None),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379", **JOB}, "10.0.0.1:6379"),
        (None, JOB, "auto"),
        ("auto", {}, "auto"),
        ("auto", {"RAY_ADDRESS": "ray://10.0.0.1:10001"}, "ray://10.0.0.1:10001"),
        ("10.0.0.2:6379", {"RAY_ADDRESS": "10.0.0.1:6379"}, "10.0.0.2:6379"),
        ("10.0.0.2:6379", {"RAY_ADDRESS": "10.0.0.1:6379", **JOB}, "10.0.0.2:6379"),
    ],
)
def test_what_an_address_means(
    given: str | None, environment: dict[str, str], meant: str | None
) -> None:
    assert resolve_address(given, environment).address == meant


def test_what_the_environment_decides_or_is_not_asked_is_said() -> None:
    stray = resolve_address(None, {"RAY_ADDRESS": "10.0.0.1:6379"})
    assert "not followed" in str(stray.note)
    assert "10.0.0.1:6379" in str(stray.note)
    assert "Ray job" in str(resolve_address(None, JOB).note)
    assert "10.0.0.1:6379" in str(resolve_address("auto", {"RAY_ADDRESS": "10.0.0.1:6379"}).note)
    assert resolve_address(None, {}).note is None


def test_the_runtime_environment_of_a_job_is_known() -> None:
    assert job_runtime_env(JOB) == {"working_dir": "gcs://x.zip"}
    assert job_runtime_env({}) == {}


class Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of something that is no Ray, as Ray's dashboard is none."""
    with http.server.HTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def another_grpc_server() -> Iterator[int]:
    """The port of a gRPC server that knows no service of Ray's."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


@pytest.fixture
def silent_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that opens and says nothing."""
    monkeypatch.setattr("cluster.address.ANSWER_SECONDS", 0.3)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("kind", ["web_server", "another_grpc_server", "silent_port"])
def test_what_listens_but_is_not_ray_is_refused_and_both_ports_are_named(
    kind: str, scheme: str, request: pytest.FixtureRequest
) -> None:
    port = request.getfixturevalue(kind)
    with pytest.raises(ValueError, match=r"answers there is not .* 6379 .* 10001"):
        check_address(f"{scheme}127.0.0.1:{port}")


def test_where_nothing_listens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ValueError, match="nothing answers there"):
            check_address(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ValueError, match=r"'auto' \(RAY_ADDRESS=.*nothing answers"):
            check_address("auto")


@pytest.mark.parametrize("address", ["somewhere", "http://127.0.0.1:8265", "host:99999", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="auto, HOST:PORT or ray://HOST:PORT"):
        check_address(address)
