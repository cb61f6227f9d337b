"""What is installed where this runs; sent to a node by its code, so it needs nothing of ours."""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_SOURCES = (".py", ".yaml", ".jinja", ".md")


def installed(libraries: Sequence[str]) -> dict[str, str | None]:
    """Versions of Python and of libraries, by name; None: it is not there. Imports none of them."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for library in libraries:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = None
    return versions


def sources(packages: Sequence[str]) -> tuple[str, str]:
    """A digest of the packages' files as they would be imported here, and where the first is.

    A package that is missing makes the place empty.
    """
    digest = hashlib.sha256()
    places = []
    for package in packages:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return "", ""
        place = Path(next(iter(spec.submodule_search_locations)))
        places.append(str(place))
        files = [file for file in place.rglob("*") if file.suffix in _SOURCES]
        for file in sorted(files, key=lambda file: file.relative_to(place).as_posix()):
            digest.update(f"{package}/{file.relative_to(place).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest(), places[0]


def look(
    libraries: Sequence[str], packages: Sequence[str]
) -> tuple[dict[str, str | None], tuple[str, str]]:
    """`installed` and `sources` in one go."""
    return installed(libraries), sources(packages)
