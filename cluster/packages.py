"""The driver's own packages, shipped to every worker of a cluster, and those of its user.

Workers that lack toposweep, or have another version of it, import the driver's code; so they do
with packages of the user's own, wherever the driver found them. The folder
that Ray unpacks it into is named for its content, so the same code is sent once a cluster, and
kernels that a node has compiled are found again beside it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cluster.address import job_runtime_env

DISTRIBUTION = "toposweep"
PACKAGES = ("sweeps", "topology", "storage", "cluster")

# Python's and numba's caches: of no use beside sources with other times of change.
_CACHES = shutil.ignore_patterns("__pycache__", "*.pyc", "*.nbi", "*.nbc", ".*")


@contextmanager
def shipped(packages: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The runtime environment to connect with; connecting uploads it, inside this context.

    Args:
        packages: packages or modules besides toposweep's own, by name.

    It holds code and nothing else. The environment's variables are left out on purpose, storage
    credentials (AWS_*, GOOGLE_*, AZURE_*) above all: a runtime environment is kept in the cluster's
    own store and shown on its dashboard. Each node has credentials of its own, as an instance role,
    a mounted secret, or variables set where `ray start` runs.

    The code goes as `working_dir`, for then Ray does not put the driver's current folder before it.
    Inside a Ray job that has a `working_dir` or `py_modules` of its own, those stay, and ours come
    before them as `py_modules`.
    """
    own = job_runtime_env()
    with tempfile.TemporaryDirectory(prefix="toposweep-") as folder:
        copied = [str(module) for module in _copy_packages(Path(folder), packages)]
        if "working_dir" in own or "py_modules" in own:
            with _joined_with_the_job():
                yield {"py_modules": [*copied, *own.get("py_modules", [])]}
        else:
            yield {"working_dir": folder}


@contextmanager
def _joined_with_the_job() -> Iterator[None]:
    """Ray refuses `py_modules` beside those of its job without being told that it is meant."""
    name = "RAY_OVERRIDE_JOB_RUNTIME_ENV"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _copy_packages(folder: Path, more: Sequence[str]) -> Iterator[Path]:
    for package in dict.fromkeys([*PACKAGES, *more]):
        spec = find_spec(package)
        if spec is None:
            continue
        for place in spec.submodule_search_locations or ():
            yield Path(shutil.copytree(place, folder / package, ignore=_CACHES))
        if spec.submodule_search_locations is None and spec.origin and spec.has_location:
            yield Path(shutil.copy(spec.origin, folder))  # a module of one file
    # A driver that runs from what was shipped (ray://) is asked for its version as well.
    try:
        number = version(DISTRIBUTION)
    except PackageNotFoundError:
        return
    metadata = folder / f"{DISTRIBUTION}-{number}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {number}\n"
    )
    yield metadata
