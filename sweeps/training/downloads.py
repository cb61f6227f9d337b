"""Data sets' files: downloaded with checksums into the user's cache, or in a folder of theirs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from storage.errors import InputError

# Path, size and time of change of each file: a file that was replaced since is read again.
Stamps = tuple[tuple[Path, int, int], ...]


def stamps_of(files: list[Path]) -> Stamps:
    """What a cache of loaded data sets goes by."""
    stats = [(file, file.stat()) for file in files]
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)


def data_path(path: str) -> Path:
    """The folder that a user names; InputError where there is none."""
    folder = Path(os.path.expanduser(path)).absolute()
    if not _is_folder(folder):
        raise InputError(f"data.path: {path[:200]!r} is not allowed: no such folder")
    return folder


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name
        return False


def cached_files(name: str, mirror: str, sha256: dict[str, str]) -> Any:
    """A data set's files in the user's cache folder, or in TOPOSWEEP_DATA where that is set."""
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    files = pooch.create(
        path=pooch.os_cache("toposweep"), base_url=mirror, registry=sha256, env="TOPOSWEEP_DATA"
    )
    files.path = files.abspath / name
    return files


def download(name: str, mirrors: list[str], sha256: dict[str, str]) -> None:
    """Have a data set's files in the cache, from the first mirror that gives them all.

    Raises InputError where no mirror does, saying where the files belong.
    """
    reasons = []
    for mirror in mirrors:
        files = cached_files(name, mirror, sha256)
        try:
            for file in sha256:
                files.fetch(file)
        except Exception as error:  # whatever the network raises, the user's way out is the same
            reasons.append(f"{mirror}: {type(error).__name__}")
        else:
            return
    raise InputError(
        f"data.name: {name!r} is not in {files.path} and could not be downloaded "
        f"({'; '.join(reasons)}); put {', '.join(sha256)} there, "
        "or name their folder with data.path"
    )
