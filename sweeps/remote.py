"""`--address ray://HOST:PORT`: the whole command runs on the cluster's head; this end shows it."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

from cluster import resolve_address
from storage.errors import InputError
from sweeps.preflight import reached

STUDY_FILE = "study.yaml"

# What the head's command takes from this end. Tracking only: credentials of storage are each
# node's own (see cluster/packages.py).
_VARIABLES = ("MLFLOW_TRACKING_URI", "TERM", "COLORTERM", "NO_COLOR")


def is_remote(address: str | None) -> bool:
    """Whether only Ray's client reaches the cluster, so that no driver can run here."""
    return resolve_address(address).is_client


def run_remotely(
    address: str | None,
    words: Sequence[str],
    out: str | None,
    study: str | None = None,
    show: Callable[[bytes, bytes], None] | None = None,
) -> int:
    """Run a toposweep command on the head of the cluster, and show what it prints as it comes.

    Paths in it, OUT and the data's among them, are the head's.

    Args:
        address: `ray://HOST:PORT`, or what means one.
        words: the command, without its address.
        out: the OUT that it names: an absolute path or a URI.
        study: the text of a study file, which the command finds as `study.yaml`.
        show: called with what it prints, standard output and standard error; None: passed on.

    Returns:
        The command's exit code.

    Raises:
        InputError: OUT is neither absolute nor a URI, or no cluster is at the address.
    """
    if out is None or not (os.path.isabs(out) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", out)):
        raise InputError(
            f"--out: {out!r} is not allowed with ray://, where the cluster's head runs everything: "
            "an absolute path there that all nodes share, or s3://, gs:// or abfs://"
        )
    from cluster.head import run_on_head

    files = {} if study is None else {STUDY_FILE: study}
    with reached(address) as cluster:
        import ray

        head = ray.get_runtime_context().gcs_address
        try:
            return run_on_head(
                cluster,
                ["sweeps.cli", *words, "--address", head],
                files,
                _variables(os.environ),
                _terminal_size() if show is None else None,
                show or _pass_on,
            )
        except ValueError as error:
            raise InputError(f"--address {address}: {error}") from None


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _VARIABLES if name in environment}


def _terminal_size() -> tuple[int, int] | None:
    if not sys.stdout.isatty():
        return None
    size = shutil.get_terminal_size()
    return size.lines, size.columns


def _pass_on(out: bytes, err: bytes) -> None:
    for stream, data in ((sys.stdout, out), (sys.stderr, err)):
        if data:
            stream.buffer.write(data)
            stream.flush()
