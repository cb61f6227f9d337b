"""Packages of the user's own: which of them may be imported, and where they are found.

A study is data and may come from anywhere. So nothing is imported on its word but from packages
that it lists (``imports``), and only these are looked for in the current folder: whatever else
lies there never comes before a library of the same name.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module, invalidate_caches
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from storage.errors import InputError

INSTALLED = None
"""In place of a folder: wherever Python looks by itself."""

# Each package that this process may import from, and the folder that holds it.
_allowed: dict[str, str | None] = {}


class _Finder(MetaPathFinder):
    """Finds the packages allowed above, and nothing else, in their folders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        folder = _allowed.get(fullname)
        return None if path is not None or folder is None else _in_folder(fullname, folder)


def allow_imports(packages: Iterable[str], places: Sequence[str | None] | None = None) -> None:
    """Let this process import from some packages; imports none of them.

    Args:
        packages: packages or modules, by their first name.
        places: folders, or ``INSTALLED``, in which each is looked for; the first that holds it
            counts. None: the current folder, then what is installed, as for ``python -m``.

    Raises:
        InputError: one is in none of these places.
    """
    if places is None:
        places = (os.getcwd(), INSTALLED)
    for package in packages:
        if package in sys.modules:  # imported already, wherever it came from
            _allowed.setdefault(package, INSTALLED)
            continue
        found = [place for place in places if _is_in(package, place)]
        if not found:
            folders = [f"in the folder {place}" for place in places if place is not INSTALLED]
            raise InputError(
                f"imports: {package!r} is not allowed: no such package is "
                f"{' or '.join([*folders, 'installed'])}"
            )
        _allowed[package] = found[0]
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def allow_imports_there(folders: Mapping[str, str | None]) -> None:
    """The same in another process than the one that found them (``folders_of``).

    What this process would import by itself comes first: on a cluster that is what was shipped to
    it, and the folder may hold something older.
    """
    for package, folder in folders.items():
        allow_imports([package], (INSTALLED, *([] if folder is None else [folder])))


def folders_of(packages: Iterable[str]) -> dict[str, str | None]:
    """Where packages that are allowed were found, for another process: a folder or INSTALLED."""
    return {package: _allowed[package] for package in packages}


def is_allowed(package: str) -> bool:
    """Whether this process may import from it."""
    return package in _allowed


def import_entry(module: str, attribute: str) -> Any:
    """What a module of a user's own calls by that name.

    Raises:
        InputError: it cannot be imported; only the reason, and where it is.
    """
    try:
        imported = import_module(module)
    except (Exception, SystemExit) as error:  # whatever their code does when it is imported
        raise InputError(f"cannot be imported: {reason_of(error)}") from None
    try:
        return getattr(imported, attribute)
    except AttributeError:
        file = getattr(imported, "__file__", None)
        raise InputError(f"is not there: {module} ({file}) has no {attribute}") from None


def reason_of(error: BaseException) -> str:
    """An error of the user's own code in one line, with the file and the line that raised it."""
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    if isinstance(error, SyntaxError) or not frames:  # which names its file itself
        return what
    return f"{what} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})"


def _is_in(package: str, place: str | None) -> bool:
    if place is not INSTALLED:
        return _in_folder(package, place) is not None
    # Not find_spec: it would ask the finder above, which knows what was allowed before.
    others = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    return any(finder.find_spec(package, None) is not None for finder in others)


def _in_folder(package: str, folder: str) -> ModuleSpec | None:
    """A module or a package with an ``__init__.py``: any folder would be a package without one."""
    invalidate_caches()
    spec = PathFinder.find_spec(package, [folder])
    return spec if spec is not None and spec.has_location else None
