"""How many snapshots a run has, and since when, from listings: no staged file is opened.

A staged file's name says all that decides whether its rows count. Claims are read only of trials
that were started more than once, and of compacted parts only the columns of keys.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from storage.attempts import Claim, entitled, read_claims
from storage.errors import CorruptFile
from storage.filesystem import AnyPath, FileStat, for_each, list_files
from storage.layout import STAGED_NAME
from storage.manifest import Part, read_manifest
from storage.trial_ids import is_trial_id

_CHECKPOINT_NAME = re.compile(r"(\d{8,18})-a(\d{1,5})-[0-9a-f]{8}\.pt", re.ASCII)

Commits = dict[int, float | None]  # step -> when, by the storage's clock; None: not known
_Row = tuple[str, int, int, float | None]  # trial_id, step, attempt, when


@dataclass(frozen=True)
class Census:
    """The snapshots of a run, and the steps that its checkpoints cover.

    Attributes:
        snapshots: by trial_id; each snapshot that counts once.
        checkpoints: by trial_id, those that a restart may go on from.
        files, bytes: of all masks.
        problems: what could not be counted, a line each.
    """

    snapshots: Mapping[str, Commits]
    checkpoints: Mapping[str, Commits]
    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def n_snapshots(self) -> int:
        """How many there are."""
        return sum(map(len, self.snapshots.values()))


def take_census(out: AnyPath) -> Census:
    """Count, at any moment of a run.

    Raises:
        OSError: the storage is away.
    """
    while True:
        try:
            return _take_census(out)
        except FileNotFoundError:  # a compaction has replaced a part meanwhile
            continue


def _take_census(out: AnyPath) -> Census:
    masks = out / "masks"
    folders = [masks / "staging", masks / "compact", out / "checkpoints"]
    listings = for_each(lambda folder: list(list_files(folder)), folders, out)
    staged, compacted, checkpoints = listings
    problems: list[str] = []
    snapshots = list(_named(staged, STAGED_NAME))
    # After staging: a compaction publishes its manifest before it deletes what it has gathered.
    for part in _parts(masks, problems):
        try:
            snapshots += [(*key, None) for key in _keys(masks / "compact" / part.file)]
        except CorruptFile as error:
            problems.append(str(error))
        except FileNotFoundError as error:
            if part not in _parts(masks, []):
                raise
            problems.append(f"{error.filename}: is missing, but the manifest names it")
    covered = list(_named(checkpoints, _CHECKPOINT_NAME))
    claims = _claims(out, problems)  # last: a row is seen only after its attempt's claim was made
    files = [
        file
        for file in (*staged, *compacted)
        if file.name.endswith(".parquet") and not file.name.rpartition("/")[2].startswith(".")
    ]
    return Census(
        snapshots=_counting(snapshots, claims),
        checkpoints=_counting(covered, claims),
        files=len(files),
        bytes=sum(file.size for file in files),
        problems=tuple(problems),
    )


def _named(files: Iterable[FileStat], name: re.Pattern[str]) -> Iterator[_Row]:
    """Files `<trial_id>/<step>-a<attempt>...` of a listing."""
    for file in files:
        trial_id, _, rest = file.name.partition("/")
        match = name.fullmatch(rest)
        if match and is_trial_id(trial_id):
            yield trial_id, int(match[1]), int(match[2]), file.written_at


def _parts(table: AnyPath, problems: list[str]) -> Sequence[Part]:
    try:
        manifest = read_manifest(table)
    except CorruptFile as error:
        problems.append(str(error))
        return ()
    return manifest.parts if manifest else ()


@lru_cache(maxsize=256)
def _keys(path: AnyPath) -> frozenset[tuple[str, int, int]]:
    """(trial_id, step, attempt) of the snapshots in a part; parts never change."""
    from storage.parquet import open_parquet
    from storage.schema import KEY_COLUMNS

    with open_parquet(path) as source:
        keys = source.read(columns=KEY_COLUMNS)
        return frozenset(zip(*(keys.column(k).to_pylist() for k in KEY_COLUMNS), strict=True))


def _claims(out: AnyPath, problems: list[str]) -> dict[str, list[Claim]]:
    """The claims of trials that have several."""
    numbers: dict[str, int] = defaultdict(int)
    for file in list_files(out / "attempts"):
        trial_id, _, name = file.name.partition("/")
        if is_trial_id(trial_id) and name.endswith(".json") and not name.startswith("."):
            numbers[trial_id] += 1

    def read(trial_id: str) -> list[Claim] | CorruptFile:
        try:
            return read_claims(out, trial_id)
        except CorruptFile as error:
            return error

    several = [trial_id for trial_id, count in numbers.items() if count > 1]
    claims = {}
    for trial_id, found in zip(several, for_each(read, several, out), strict=True):
        if isinstance(found, CorruptFile):
            problems.append(str(found))
        else:
            claims[trial_id] = found
    return claims


def _counting(found: Iterable[_Row], claims: Mapping[str, list[Claim]]) -> dict[str, Commits]:
    """By trial, the steps of which a row counts, and when the first such row was written."""
    steps: dict[str, Commits] = defaultdict(dict)
    for trial_id, step, attempt, when in found:
        if trial_id in claims and not entitled(step, attempt, claims[trial_id]):
            continue
        known = steps[trial_id].get(step, when)
        steps[trial_id][step] = when if known is None or when is None else min(known, when)
    return dict(steps)
