"""`--address ray://HOST:PORT`: the whole command runs on the cluster's head; this end shows it."""

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.errors import InputError

if TYPE_CHECKING:
    from sweeps.progress import Progress
    from sweeps.study import Study

STUDY_FILE = "study.yaml"  # as the command on the head finds it

# What that command takes from this end's environment. Credentials of storage are each node's own
# (see cluster/packages.py).
_VARIABLES = ("MLFLOW_TRACKING_URI", "TERM", "COLORTERM", "NO_COLOR")


def option_words(**options: Any) -> list[str]:
    """Options as they stand on a command line; what is None or False is left out."""
    words = []
    for key, value in options.items():
        if value is None or value is False:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return words


def run_remotely(
    address: str | None,
    words: Sequence[str],
    out: str | None,
    study: "Study | None" = None,
    progress: "Progress | None" = None,
) -> int:
    """Run a toposweep command on the head of the cluster, and show what it prints as it comes.

    Paths in it, OUT and the data's among them, are the head's.

    Args:
        address: `ray://HOST:PORT`, or what means one.
        words: the command, without its address.
        out: the OUT that it names: an absolute path or a URI.
        study: what it finds as `STUDY_FILE`.
        progress: where to show that the cluster is being reached.

    Returns:
        The command's exit code.

    Raises:
        InputError: OUT is neither absolute nor a URI, or no cluster is at the address.
        KeyboardInterrupt: twice: the command was killed.
    """
    if out is None or not (os.path.isabs(out) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", out)):
        raise InputError(
            f"--out: {out!r} is not allowed with ray://, where the cluster's head runs everything: "
            "an absolute path there that all nodes share, or s3://, gs:// or abfs://"
        )
    from cluster.head import run_on_head
    from sweeps.connection import reached

    files = {}
    if study is not None:
        from sweeps.study_file import study_yaml

        files[STUDY_FILE] = study_yaml(study)
    packages = [] if study is None else study.imports
    with reached(address, progress, packages=packages) as cluster:
        try:
            return run_on_head(
                cluster, ["sweeps.cli", *words], files, _variables(os.environ), _terminal_size()
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
