"""Which snapshots of which networks lie in the files and folders that are to be imported.

A network's name and its step come from names of files and folders, never from where these lie: the
same folder imported elsewhere gives the same names.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.errors import InputError
from storage.import_formats import ARRAYS, EXTENSIONS, format_of, natural
from storage.import_pattern import Pattern
from storage.schema import check_key

_EXPECTED = (
    f"NAME/epoch_N/weight_lK.npz, or files that end in {', '.join(EXTENSIONS[2:])}; "
    "--pattern says how others are named"
)

_EPOCH_FOLDER = re.compile(r"epoch_(\d{1,9})", re.ASCII)
_LAYER_FILE = re.compile(r"weight_l(\d{1,4})\.npz", re.ASCII)
# Only after a blank or a dot, dash or underscore: `resnet18` and `seed3` are names.
_NUMBER = re.compile(
    r"(?:^|[._\- ]+)(?:(?P<epoch>epoch|ep)|step|iteration|iter|it)[._\-= ]?(?P<count>\d{1,17})"
    r"(?=$|[._\- ])",
    re.ASCII | re.IGNORECASE,
)
# Names that say what a file is and not whose: the folder's name tells that.
_GENERIC = {"", "best", "checkpoint", "ckpt", "final", "last", "latest", "mask", "masks", "model",
            "network", "pytorch_model", "state_dict", "weights"}  # fmt: skip


@dataclass(frozen=True)
class FoundSnapshot:
    """One network at one step, not read yet.

    Attributes:
        name: the network's.
        origin: what the name stands for: networks of one name and two origins are two.
        step: optimiser steps done.
        epoch: epochs done.
        format: `set-npz`, `arrays`, `torch` or `safetensors`.
        layers: the file of each layer, by name and in order; empty where `file` holds all.
        file: the file of the whole network; None where each layer has its own.
    """

    name: str
    origin: Path
    step: int
    epoch: int
    format: str
    layers: Mapping[str, Path] = field(default_factory=dict)
    file: Path | None = None

    @property
    def place(self) -> str:
        """The file, or the folder of the files."""
        return str(self.file or next(iter(self.layers.values())).parent)

    def same_files(self, other: "FoundSnapshot") -> bool:
        """Whether it is the same one, found a second time."""
        return (self.file, dict(self.layers)) == (other.file, dict(other.layers))


def find_snapshots(
    sources: Sequence[str | os.PathLike[str]],
    pattern: str | None = None,
    name_prefix: str = "",
    steps_per_epoch: int = 1,
) -> list[FoundSnapshot]:
    """Every snapshot in the sources, by name and step; no mask is read.

    Args:
        sources: files or folders.
        pattern: how files are named; see `storage.import_pattern.Pattern`.
        name_prefix: put before every name.
        steps_per_epoch: optimiser steps in an epoch, of all networks.

    Raises:
        InputError: nothing there, or two different networks of one name, or twice the same step.
    """
    if steps_per_epoch < 1:
        raise InputError(f"--steps-per-epoch {steps_per_epoch}: expected at least 1")
    named = Pattern(pattern) if pattern is not None else None
    found: dict[tuple[str, int], FoundSnapshot] = {}
    origins: dict[str, Path] = {}
    for source in sources:
        for snapshot in _of_source(Path(source), named, steps_per_epoch):
            checked = _named(snapshot, name_prefix)
            origin = origins.setdefault(checked.name, checked.origin)
            if origin != checked.origin:
                raise InputError(
                    f"{checked.place}: a second network named {checked.name!r}, beside that in "
                    f"{origin}: import one at a time with --name-prefix, or name them by --pattern"
                )
            other = found.setdefault((checked.name, checked.step), checked)
            if not other.same_files(checked):
                raise InputError(
                    f"{checked.place}: network {checked.name!r} has step {checked.step} in "
                    f"{other.place} as well: say with --pattern where names and steps stand"
                )
    return sorted(found.values(), key=lambda s: (natural(s.name), s.step))


def _of_source(source: Path, pattern: Pattern | None, steps_per_epoch: int) -> list[FoundSnapshot]:
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if not path.exists():
        raise InputError(f"{source}: is not there: expected a file or folder of networks")
    files = _files(path) if path.is_dir() else [path]
    if pattern is not None:
        found = _pattern_snapshots(files, pattern, steps_per_epoch)
        if not found:
            raise InputError(f"{source}: expected a file named like {pattern.text}, found none")
        return found
    if not path.is_dir():
        format_of(path)
        return [_network_file(path, steps_per_epoch)]
    found = list(_set_folders(path, files, steps_per_epoch))
    found += [
        _network_file(file, steps_per_epoch)
        for file in files
        if file.suffix.lower() in EXTENSIONS and file.suffix.lower() not in ARRAYS
    ]
    if not found:
        raise InputError(f"{source}: holds no network: expected {_EXPECTED}")
    return found


def _named(snapshot: FoundSnapshot, prefix: str) -> FoundSnapshot:
    name = prefix + snapshot.name
    if not name or len(name) > 200 or not name.isprintable():
        raise InputError(
            f"{snapshot.place}: the name {name!r}: expected 1 to 200 signs that can be printed"
        )
    check_key(snapshot.step, 1)
    if snapshot.epoch >= 2**31:
        raise InputError(f"{snapshot.place}: epoch {snapshot.epoch}: expected less than {2**31}")
    return replace(snapshot, name=name)


def _files(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones, in the order of their names."""
    found = []
    for top, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(top, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: natural(str(path)))


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read: {error.strerror}")


def _set_folders(
    folder: Path, files: Sequence[Path], steps_per_epoch: int
) -> Iterator[FoundSnapshot]:
    """The folders NAME/epoch_N/weight_lK.npz that the authors of SET write."""
    of_epoch: dict[Path, dict[int, Path]] = {}
    for file in files:
        match = _LAYER_FILE.fullmatch(file.name)
        if match and _EPOCH_FOLDER.fullmatch(file.parent.name):
            of_epoch.setdefault(file.parent, {})[int(match[1])] = file
    if not of_epoch:
        return
    for parent in {epoch.parent for epoch in of_epoch if epoch != folder}:
        for sibling in sorted(parent.iterdir()):
            if _EPOCH_FOLDER.fullmatch(sibling.name) and sibling.is_dir():
                of_epoch.setdefault(sibling, {})
    for place, layers in of_epoch.items():
        for number in range(max(layers, default=0) + 1):
            if number not in layers:
                raise InputError(f"{place}: expected weight_l{number}.npz in it")
        match = _EPOCH_FOLDER.fullmatch(place.name)
        assert match
        epoch = int(match[1])
        yield FoundSnapshot(
            name=place.parent.name,
            origin=place.parent,
            step=epoch * steps_per_epoch,
            epoch=epoch,
            format="set-npz",
            layers={file.stem: file for _, file in sorted(layers.items())},
        )


def _network_file(path: Path, steps_per_epoch: int) -> FoundSnapshot:
    """A whole network in a file, its step a number beside the word epoch or step in its name."""
    numbers = list(_NUMBER.finditer(path.stem))
    if len(numbers) > 1:
        raise InputError(f"{path}: its name has two steps: say with --pattern which one it is")
    step = epoch = 0
    if numbers:
        count, by_epoch = int(numbers[0]["count"]), bool(numbers[0]["epoch"])
        step = count * steps_per_epoch if by_epoch else count
        epoch = count if by_epoch else count // steps_per_epoch
    name = _NUMBER.sub("", path.stem).strip("._- ")
    generic = name.lower() in _GENERIC
    return FoundSnapshot(
        name=path.parent.name if generic else name,
        origin=path.parent if generic else path.parent / name,
        step=step,
        epoch=epoch,
        format=format_of(path),
        file=path,
    )


def _pattern_snapshots(
    files: Sequence[Path], pattern: Pattern, steps_per_epoch: int
) -> list[FoundSnapshot]:
    """The snapshots of the files that a pattern names."""
    found: dict[tuple[Path, int], FoundSnapshot] = {}
    for file in files:
        match = pattern.match(file)
        if match is None:
            continue
        step = match.count if match.unit == "step" else match.count * steps_per_epoch
        snapshot = FoundSnapshot(
            name=match.name,
            origin=match.origin,
            step=step,
            epoch=match.count if match.unit == "epoch" else step // steps_per_epoch,
            format=format_of(file),
            file=file if match.layer is None else None,
            layers={} if match.layer is None else {match.layer: file},
        )
        first = found.setdefault((match.origin, step), snapshot)
        if first is snapshot:
            continue
        if match.layer is None or match.layer in first.layers:
            taken = first.file or first.layers[match.layer or ""]
            raise InputError(f"{file}: {pattern.text} gives it the same names as {taken}")
        layers = {**first.layers, match.layer: file}
        found[match.origin, step] = replace(
            first, layers=dict(sorted(layers.items(), key=lambda item: natural(item[0])))
        )
    return list(found.values())
