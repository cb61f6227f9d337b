"""A fuzzer over the files of OUT: whoever reads a damaged one says so in a line, or is right.

`python -m tests.fuzz.damaged_files --n 500 --seed 7` damages one file of a small run at a time, and
has everyone read the run: storage's stores, verify, compaction, the distance stage, a resume.
"""

import argparse
import faulthandler
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import CorruptFile, InputError
from storage.footers import FOOTER_KEY
from tests.fuzz.small_run import files_of, make_run, readings

LONGEST_LINE = 1000
# Text for people to change: no checksum, and another value is another study.
_BY_HAND = ("study",)


@dataclass(frozen=True)
class Damage:
    """What was done to which file of OUT; `forged`: so that no checksum can tell."""

    what: str
    kind: str
    path: Path
    forged: bool = False


class Defect(AssertionError):
    """A reader failed in another way than with a line, or read something else."""


def damage(out: Path, rng: Random) -> Damage:
    """Damage one file of a run."""
    files = files_of(out)
    kind = rng.choice(list(files))
    path = rng.choice(files[kind])
    others = [file for file in files[kind] if file != path]
    forges = {".json": _forge_json, ".parquet": _forge_parquet}
    if path.suffix in forges and rng.random() < 0.35:
        what = forges[path.suffix](path, rng)
        return Damage(what, kind, path, forged=True)
    name = rng.choice(list(_DAMAGES))
    if name == "swapped" and others:
        other = rng.choice(others)
        content, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(content)
        return Damage(f"swapped with {other.relative_to(out)}", kind, path)
    if name == "link" and others:
        path.unlink()
        path.symlink_to(rng.choice(others))
        return Damage(f"a link to {path.readlink()}", kind, path)
    return Damage(_DAMAGES[name](path, rng) or name, kind, path)


def _flip(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    bits = [rng.randrange(8 * len(content)) for _ in range(rng.choice([1, 1, 1, 2, 8]))]
    if rng.random() < 0.4:  # where Parquet has its footer, JSON and safetensors their last numbers
        bits = [max(0, 8 * len(content) - 1 - rng.randrange(8 * 900)) for _ in bits]
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return f"flipped bits {bits}"


def _cut(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])
    return f"cut to {path.stat().st_size} of {len(content)} bytes"


def _extend(path: Path, rng: Random) -> str:
    more = rng.choice([b"\0", b"\n", b"{}", b"PAR1", rng.randbytes(100), path.read_bytes()])
    with path.open("ab") as file:
        file.write(more)
    return f"extended by {len(more)} bytes"


def _overwrite(path: Path, rng: Random) -> str:
    content = bytearray(path.read_bytes())
    start, length = rng.randrange(len(content)), rng.choice([2, 16, 200])
    part = content[start : start + length]
    content[start : start + length] = rng.choice([bytes(len(part)), rng.randbytes(len(part))])
    path.write_bytes(content)
    return f"{len(part)} bytes at {start} overwritten"


def _digit(path: Path, rng: Random) -> str:
    """Another digit for one that is there: text that still parses."""
    content = bytearray(path.read_bytes())
    places = [k for k, byte in enumerate(content) if 48 <= byte <= 57]
    place = rng.choice(places or [0])
    content[place] = 48 + (content[place] - 48 + rng.randrange(1, 10)) % 10
    path.write_bytes(content)
    return f"another digit at {place}"


def _as_folder(path: Path, rng: Random) -> None:
    path.unlink()
    path.mkdir()


def _as_link(target: str) -> Callable[[Path, Random], None]:
    def replaced(path: Path, rng: Random) -> None:
        path.unlink()
        path.symlink_to(target.format(name=path.name))

    return replaced


def _folder_as_file(path: Path, rng: Random) -> None:
    folder = path.parent
    if (folder / "run.json").exists():
        _as_folder(path, rng)  # OUT itself
        return
    shutil.rmtree(folder)
    folder.write_bytes(b"not a folder")


_DAMAGES: dict[str, Callable[[Path, Random], str | None]] = {
    "flipped": _flip, "flipped again": _flip, "cut": _cut, "extended": _extend,
    "overwritten": _overwrite, "digit": _digit, "a folder": _as_folder, "swapped": _flip,
    "link": _cut, "empty": lambda path, rng: path.write_bytes(b"") and None,
    "noise": lambda path, rng: path.write_bytes(rng.randbytes(500)) and None,
    "a link to nothing": _as_link("nowhere"), "a link to itself": _as_link("{name}"),
    "its folder a file": _folder_as_file,
}  # fmt: skip

_JSON: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, 1e300, "", "x", "../../x", "../x.parquet", [], {}, [1],
    {"a": 1}, "0" * 12, "nan", "1e400", 2**31, [[]], "é\u2028", {"uuid": 1}, [None],
]  # fmt: skip


def _forge_json(path: Path, rng: Random) -> str:
    """A value anywhere replaced, a key taken away or added; without a checksum to tell."""
    stored = json.loads(path.read_bytes())
    stored.pop("crc32", None)
    node: Any = stored
    place: list[Any] = []
    while isinstance(node, dict | list) and node and (not place or rng.random() < 0.7):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        place.append(key)
        parent, node = node, node[key]
    new = rng.choice(_JSON)
    if rng.random() < 0.2:
        del parent[place[-1]]
        path.write_text(json.dumps(stored))
        return f"without {place}"
    parent[place[-1]] = new
    path.write_text(json.dumps(stored))
    return f"{place} = {new!r}"


def _forge_parquet(path: Path, rng: Random) -> str:
    """A cell replaced, a column renamed, rows taken away or doubled; the file is a good one."""
    with pq.ParquetFile(path) as file:
        table, metadata = file.read(), dict(file.metadata.metadata or {})
    metadata.pop(FOOTER_KEY.encode(), None)
    number = rng.randrange(table.num_columns)
    name, column = table.column_names[number], table.column(number)
    what = rng.choice(["cell", "cell", "cell", "rename", "drop", "rows", "double", "type"])
    if what == "rename":
        table = table.rename_columns([*table.column_names[:number], "other",
                                      *table.column_names[number + 1 :]])  # fmt: skip
    elif what == "drop":
        table = table.drop_columns([name])
    elif what == "rows":
        table = table.slice(0, rng.randrange(table.num_rows))
    elif what == "double":
        table = pa.concat_tables([table, table.slice(rng.randrange(table.num_rows), 1)])
    elif what == "type":
        table = table.set_column(number, name, pa.array([str(v) for v in column.to_pylist()]))
    else:
        values = column.to_pylist()
        row = rng.randrange(len(values))
        values[row] = new = rng.choice(_cells(column.type))
        what = f"{name}[{row}] = {new!r:.40}"
        table = table.set_column(number, pa.field(name, column.type), pa.array(values, column.type))
    table = table.replace_schema_metadata(None)
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.add_key_value_metadata(metadata)
        writer.write_table(table, row_group_size=max(1, table.num_rows))
    return f"{what} {name}"


def _cells(kind: pa.DataType) -> list[Any]:
    if pa.types.is_integer(kind):
        most = 2 ** (kind.bit_width - 1) - 1
        return [None, 0, -1, 1, most, -most - 1, 3, 10]
    if pa.types.is_floating(kind):
        return [None, float("nan"), float("inf"), -1.0, 0.0, 1e308]
    if pa.types.is_list(kind):
        return [None, [], [0], [-1], [2**31 - 1] * 9, [1, 2, None]]
    if pa.types.is_binary(kind):
        return [None, b"", b"\xff", b"\0" * 9999]
    if pa.types.is_boolean(kind):
        return [None, True, False]
    if pa.types.is_timestamp(kind):
        return [None, 0, 2**62]
    return [None, "", "../x", "0" * 12, "x" * 5000, "gap", "bits", "full", "é\n", "hidden"]


class Fuzzer:
    """A run as it is, what everyone reads from it, and copies to damage."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = folder / "whole"
        make_run(self.whole)
        self.right = {name: read() for name, read in readings(self.whole, folder / "copies")}

    def check(self, seed: str) -> tuple[Damage, dict[str, str]]:
        """Damage a copy and read it.

        Returns:
            What was done; and for each reader `right`, `other` (of a forged file), or its line.

        Raises:
            Defect: a reader did something else.
        """
        out = self.folder / "damaged"
        if out.is_dir():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)  # where run.json's folder was made a file
        shutil.copytree(self.whole, out)
        done = damage(out, Random(seed))
        ends = {}
        for name, read in readings(out, self.folder / "copies"):
            try:
                found = read()
            except InputError as error:
                ends[name] = _line(error, name)
                continue
            except OSError as error:  # of which the command line makes a line as well
                ends[name] = _line(InputError(f"{error.filename}: {error.strerror}"), name)
                continue
            except Exception:
                raise Defect(f"{_told(done, out)}: {name}:\n{traceback.format_exc()}") from None
            ends[name] = "right" if found == self.right[name] else "other"
            if name == "verify" and found != "[]":
                ends[name] = found
            elif ends[name] == "other" and not done.forged and done.kind not in _BY_HAND:
                raise Defect(
                    f"{_told(done, out)}: {name} read\n{_difference(self.right[name], found)}"
                )
        named = [n for n, end in ends.items() if n != "verify" and str(done.path) in end]
        if named and ends["verify"] == "right" and done.kind not in (*_BY_HAND, "lock", "spec"):
            raise Defect(
                f"{_told(done, out)}: {named[0]} names it, verify does not: {ends[named[0]]}"
            )
        return done, ends


def _told(done: Damage, out: Path) -> str:
    return f"{done.kind} {done.path.relative_to(out)} {done.what}"


def _line(error: InputError, name: str) -> str:
    line = str(error)
    if not line.isprintable() or len(line) > LONGEST_LINE or not line.strip():
        raise Defect(f"{name}: no line: {line[:300]!r} ({len(line)})")
    if isinstance(error, CorruptFile) and error.path not in line:
        raise Defect(f"{name}: names no file: {line}")
    return line


def _difference(right: str, found: str) -> str:
    places = (k for k, (x, y) in enumerate(zip(right, found, strict=False)) if x != y)
    place = next(places, min(len(right), len(found)))
    start = max(0, place - 60)
    return f"    {right[start : place + 60]}\n    {found[start : place + 60]}"


def main() -> None:
    """Run, print what came of it, exit with 1 where there was a defect."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print what each reader said")
    asked = parser.parse_args()
    faulthandler.enable()
    ends: Counter[str] = Counter()
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        for number in range(asked.first, asked.first + asked.n):
            started = time.process_time()
            try:
                done, found = fuzzer.check(f"{asked.seed}-{number}")
            except Defect as defect:
                ends["defects"] += 1
                print(f"DEFECT {asked.seed}-{number}: {defect}", flush=True)
                continue
            slowest = max(slowest, (time.process_time() - started, f"{number}: {done.what}"))
            for name, end in found.items():
                ends[
                    "right" if end in ("right", "[]") else "other" if end == "other" else "lines"
                ] += 1
                if asked.show and end != "right":
                    print(f"{number}: {done.kind} {done.what}: {name}: {end}", flush=True)
    print(f"seed {asked.seed}: {dict(ends)}; slowest {slowest[0]:.1f} s ({slowest[1]})")
    sys.exit(1 if ends["defects"] else 0)


if __name__ == "__main__":
    main()
