"""Sets of distances by their small JSON files: what is finished, what was begun."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage.errors import CorruptFile
from storage.filesystem import AnyPath, read_json, write_json

SPEC, BEGUN = "spec.json", "begun.json"


@dataclass(frozen=True)
class StoredDistances:
    """A finished set of distances, by its spec.json.

    Attributes:
        against: what each snapshot is compared with in its own trial; None for all pairs.
        groups: number of snapshots in each group.
        layers: names of the layers' columns.
    """

    name: str
    method: str
    against: str | None
    snapshots: int
    pairs: int
    groups: tuple[int, ...]
    layers: tuple[str, ...]
    path: AnyPath

    @classmethod
    def of(cls, folder: AnyPath, spec: Mapping[str, Any]) -> "StoredDistances":
        """The set in a folder, whose spec.json holds `spec`.

        Raises:
            CorruptFile: it holds something else.
        """
        try:
            return cls(
                name=folder.name,
                method=str(spec["method"]),
                against=spec["against"],
                snapshots=int(spec["snapshots"]),
                pairs=int(spec["pairs"]),
                groups=tuple(spec["groups"]),
                layers=tuple(spec["layers"]),
                path=folder,
            )
        except KeyError as error:
            raise CorruptFile(folder / SPEC, f"{error} is missing") from None
        except (TypeError, ValueError) as error:
            raise CorruptFile(folder / SPEC, f"is no description of distances: {error}") from None

    def describe(self) -> str:
        """One line for people."""
        what = "all pairs" if self.against is None else f"against {self.against}"
        apart = f" in {len(self.groups)} groups" if len(self.groups) > 1 else ""
        return (
            f"{self.name}: {self.snapshots} snapshots{apart}, {self.pairs} pairs "
            f"({self.method}, {what})"
        )


@dataclass(frozen=True)
class BegunDistances:
    """What a distance stage sets out to do; begun.json is there from its start to its end.

    Attributes:
        tiles: of the whole plan.
        there: tiles that had been computed before.
        pairs: of the whole plan.
        options: the keys of the set's spec that differ from their default.
    """

    tiles: int
    there: int
    pairs: int
    options: dict[str, Any]

    def write(self, folder: AnyPath) -> None:
        """Commit it to the folder of the set, before the first tile."""
        write_json(folder / BEGUN, asdict(self))

    @classmethod
    def read(cls, folder: AnyPath) -> "BegunDistances":
        """What was begun in a folder.

        Raises:
            FileNotFoundError: nothing, or it has ended.
            CorruptFile: its file is damaged.
        """
        path = folder / BEGUN
        stored = read_json(path)
        try:
            begun = cls(**stored)
            if not all(isinstance(n, int) for n in (begun.tiles, begun.there, begun.pairs)):
                raise TypeError("a count is no number")
            begun.options.items()
        except (TypeError, AttributeError) as error:
            raise CorruptFile(path, f"is no description of distances: {error}") from None
        return begun

    @staticmethod
    def end(folder: AnyPath) -> None:
        """The stage is complete."""
        (folder / BEGUN).unlink(missing_ok=True)
