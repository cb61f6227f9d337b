"""Which cluster an address means, and whether one answers there: known before Ray is asked.

Ray itself tries a wrong address for half a minute to several minutes.
"""

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 5.0  # how long a cluster's port may take to open, and then to answer

ALLOWED = "auto, HOST:PORT or ray://HOST:PORT"
CLIENT = "ray://"

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^\s:/\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")

# What Ray's job supervisor gives the program that `ray job submit` starts, and nobody else.
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"

# The opening of an HTTP/2 connection with an empty SETTINGS frame; a gRPC server answers with its
# own SETTINGS, frame type 4 (RFC 9113, 3.4 and 6.5).
_HTTP2_OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4

# Calls that only these services know; any other gRPC server says so at once.
_CLUSTER_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_CLIENT_CALL = "/ray.rpc.RayletDriver/ClusterInfo"


@dataclass(frozen=True)
class Target:
    """Where to go. `address` None: Ray on this machine. `note`: what a user may not expect."""

    address: str | None
    note: str | None = None

    @property
    def is_client(self) -> bool:
        """Whether only Ray's client port is there: no driver can run on this machine."""
        return self.address is not None and self.address.startswith(CLIENT)


def resolve_address(address: str | None, environment: Mapping[str, str] | None = None) -> Target:
    """What an address given by a user means.

    Without one, a program that `ray job submit` started joins the cluster that it was submitted to.
    Anywhere else RAY_ADDRESS alone changes nothing, since it may be left over in a shell: `auto`
    follows it, and else finds the Ray that `ray start` started on this machine.

    Args:
        address: None or what `check_address` takes.
        environment: the environment's variables; None: this process's.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("RAY_ADDRESS", "")
    if address is None and _JOB in environment:
        return Target(named or "auto", "in a Ray job: joining the cluster that it was submitted to")
    if address is None and named:
        note = f"RAY_ADDRESS is set but not followed: --address auto joins {named}"
        return Target(None, note)
    if address == "auto" and named:
        return Target(named, f"RAY_ADDRESS names the cluster: {named}")
    return Target(address)


def job_runtime_env(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The runtime environment of the Ray job that this program is; empty outside of one."""
    environment = os.environ if environment is None else environment
    config = json.loads(environment.get(_JOB, "{}"))
    return dict(config.get("runtime_env") or {})


def check_address(address: str | None) -> None:
    """Refuse at once an address that is none, or where no Ray answers.

    Raises:
        ValueError: naming the address and what is allowed.
    """
    target = resolve_address(address)
    if target.address is None or target.address == "auto":
        return
    named = target.address if address is None else address
    shown = f"{named!r}" if named == target.address else f"{named!r} (RAY_ADDRESS={target.address})"
    match = _ADDRESS.fullmatch(target.address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"{shown} is not allowed: {ALLOWED}")
    if target.is_client and find_spec("grpc") is None:
        raise ValueError(f"{shown} needs Ray's client: pip install 'ray[client]'")
    host, port = match["host"].strip("[]"), int(match["port"])
    try:
        speaks = _speaks_http2(host, port)
    except OSError as error:
        raise ValueError(f"{shown}: nothing answers there ({error})") from None
    if not speaks:
        raise ValueError(f"{shown}: what answers there is not Ray; {_ports()}")
    if find_spec("grpc") is not None and not _uses_tls():
        problem = _problem_of_service(f"{match['host']}:{port}", target.is_client)
        if problem:
            raise ValueError(f"{shown}: {problem}")


def _ports() -> str:
    return "a head listens on 6379 (HOST:PORT) and, for its client, on 10001 (ray://HOST:PORT)"


def _uses_tls() -> bool:
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _speaks_http2(host: str, port: int) -> bool:
    """Whether a gRPC server listens; what cannot be told, behind TLS, is taken for one.

    Raises:
        OSError: nothing listens.
    """
    with socket.create_connection((host, port), ANSWER_SECONDS) as connection:
        if _uses_tls():
            return True
        try:
            connection.sendall(_HTTP2_OPENING)
            answer = b""
            while len(answer) < 4 and (more := connection.recv(64)):
                answer += more
        except OSError:  # silent, or it hangs up
            return False
    return len(answer) >= 4 and answer[3] == _SETTINGS


def _problem_of_service(address: str, is_client: bool) -> str | None:
    """Why a gRPC server is not the one that is meant, or why it would not let us in."""
    import grpc

    token = _token()
    channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
    call = channel.unary_unary(_CLIENT_CALL if is_client else _CLUSTER_CALL)
    metadata = [("authorization", f"Bearer {token}")] if token else []
    try:
        call(b"", timeout=ANSWER_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        code = error.code()
    else:
        return None
    finally:
        channel.close()
    if code == grpc.StatusCode.UNAUTHENTICATED:
        places = "RAY_AUTH_TOKEN, or in a file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"
        if token:
            return f"the cluster refuses the token in {places}"
        return f"the cluster wants a token: RAY_AUTH_MODE=token, and the token in {places}"
    unknown = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE,
               grpc.StatusCode.DEADLINE_EXCEEDED)  # fmt: skip
    if code in unknown:
        meant = "the port of Ray's client" if is_client else "a Ray cluster's head"
        return f"what answers there is not {meant}; {_ports()}"
    return None  # it knows the call, if not this empty one


def _token() -> str:
    """The token that Ray would send; with an explicit address it looks only in this mode."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return ""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    try:
        return Path(path).expanduser().read_text().strip()
    except OSError:
        return ""
