"""A fuzzer over study files: each mutation of a valid study plans, or costs one line.

`python -m tests.fuzz.study_mutations --n 1000 --seed 7` does to each mutated file, in one process,
what `toposweep run FILE --set ... --dry-run` does, and lists every other end: an exception that is
no InputError, more than one line, a line that names no key, too much time or memory.
"""

import argparse
import io
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml
from rich.console import Console

from storage.errors import InputError
from sweeps.checks import check_job
from sweeps.estimate import print_plan
from sweeps.sections import SECTIONS, known_fields
from sweeps.study import Study
from sweeps.study_file import load_study
from tests.fuzz.study_values import (
    BASES,
    KEYS,
    RAW,
    SEARCHES,
    SIZES,
    SPACES,
    STEPS,
    VALUES,
    WHERES,
)

MOST_SECONDS = 20.0  # of processor time; the slowest takes a few
MOST_MEMORY = 2**30
LONGEST_LINE = 1000  # characters


@dataclass(frozen=True)
class Mutation:
    """A mutated study: the bytes of its file, `--set` options, and what was done."""

    what: str
    content: bytes
    overrides: tuple[str, ...] = ()


@dataclass
class _Draft:
    """A study that is being mutated; `raw` texts take the place of their marks in the dump."""

    tree: Any
    raw: dict[str, str] = field(default_factory=dict)

    def mark(self, text: str) -> str:
        name = f"MARK{len(self.raw)}END"
        self.raw[name] = text
        return name

    def dump(self) -> str:
        text = yaml.safe_dump(self.tree, sort_keys=False, allow_unicode=True, width=10**9,
                              default_flow_style=None)  # fmt: skip
        for name, raw in self.raw.items():
            text = text.replace(name, raw)
        return text


def mutations(seed: int, count: int) -> Iterator[Mutation]:
    """`count` mutated studies; the k-th depends on `seed` and k alone."""
    for number in range(count):
        yield _mutated(Random(f"{seed}-{number}"))


def _mutated(rng: Random) -> Mutation:
    text = rng.choice(BASES)
    kind = rng.choices(["tree", "text", "override"], weights=[7, 2, 2])[0]
    if kind == "text":
        name, damage = rng.choice(list(_DAMAGES.items()))
        return Mutation(name, damage(text.encode(), rng))
    if kind == "override":
        given = tuple(_override(rng) for _ in range(rng.choice([1, 1, 2])))
        return Mutation(f"--set {given}", text.encode(), given)
    draft = _Draft(yaml.safe_load(text))
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        name, change = rng.choice(list(_CHANGES.items()))
        done.append(f"{name} {change(draft, rng)}")
    # Lone surrogates cannot be UTF-8: such a file is none that can be written.
    return Mutation("; ".join(done), draft.dump().encode("utf-8", "surrogatepass"))


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """Every (container, key, path) of a tree."""
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node))[:50]
    for key, value in items:
        yield node, key, (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def _place(draft: _Draft, rng: Random) -> tuple[Any, Any, tuple[Any, ...]]:
    # Short paths as often as long ones, or most mutations would be of lists' elements.
    found = list(_places(draft.tree))
    depth = rng.choice(sorted({len(path) for _, _, path in found}))
    return rng.choice([place for place in found if len(place[2]) == depth])


def _value(draft: _Draft, rng: Random) -> str:
    node, key, path = _place(draft, rng)
    node[key] = deepcopy(rng.choice(VALUES))
    return f"{path} = {node[key]!r:.80}"


def _raw(draft: _Draft, rng: Random) -> str:
    node, key, path = _place(draft, rng)
    raw = rng.choice(RAW)
    node[key] = draft.mark(raw)
    return f"{path} = {raw:.80}"


def _key(draft: _Draft, rng: Random) -> str:
    node, key, path = _place(draft, rng)
    if not isinstance(node, dict):
        return "nothing"
    new = rng.choice([*KEYS, *Study.model_fields, *SECTION_KEYS])
    value = node.pop(key) if rng.random() < 0.5 else deepcopy(rng.choice(VALUES))
    node[new] = value
    return f"{path} -> {new!r:.60}"


def _raw_key(draft: _Draft, rng: Random) -> str:
    node, key, path = _place(draft, rng)
    if not isinstance(node, dict):
        return "nothing"
    raw = rng.choice([r for r in RAW if len(r) < 10_000])
    node[draft.mark(raw)] = node.pop(key)
    return f"{path} -> {raw:.60}"


def _missing(draft: _Draft, rng: Random) -> str:
    node, key, path = _place(draft, rng)
    del node[key]
    return f"{path}"


def _swapped(draft: _Draft, rng: Random) -> str:
    node, key, path = _place(draft, rng)
    other, other_key, other_path = _place(draft, rng)
    if path[: len(other_path)] == other_path or other_path[: len(path)] == path:
        return "nothing"
    node[key], other[other_key] = other[other_key], node[key]
    return f"{path} {other_path}"


def _space(draft: _Draft, rng: Random) -> str:
    draft.tree["space"] = deepcopy(rng.choice(SPACES))
    draft.tree["search"] = deepcopy(rng.choice(SEARCHES))
    if draft.tree["search"] is None:
        del draft.tree["search"]
    return f"{str(draft.tree['space'])[:80]} {draft.tree.get('search')}"


def _distances(draft: _Draft, rng: Random) -> str:
    spec: dict[str, Any] = {}
    if rng.random() < 0.7:
        where = rng.choice(WHERES)
        # YAML has no lone surrogates but as an escape.
        spec["where"] = draft.mark('"\\ud800"') if "\ud800" in where else where
    if rng.random() < 0.4:
        spec["steps"] = deepcopy(rng.choice(STEPS))
    if rng.random() < 0.4:
        spec["against"] = deepcopy(rng.choice(STEPS))
    if rng.random() < 0.2:
        spec[rng.choice(["method", "chance", "shared_indices", "include_dense"])] = deepcopy(
            rng.choice(VALUES)
        )
    draft.tree["distances"] = {rng.choice(["d", "final", "a b", "..", "", "x" * 99, "é"]): spec}
    return f"{spec!r:.120}"


def _scale(draft: _Draft, rng: Random) -> str:
    """Allowed types, extreme sizes."""
    key = rng.choice(list(SIZES))
    draft.tree[key] = deepcopy(rng.choice(SIZES[key]))
    return f"{key} = {str(draft.tree[key])[:80]}"


SECTION_KEYS = sorted({key for section in SECTIONS for key in known_fields(section)})
_CHANGES: dict[str, Callable[[_Draft, Random], str]] = {
    "value": _value, "raw": _raw, "key": _key, "raw key": _raw_key, "missing": _missing,
    "swapped": _swapped, "space": _space, "distances": _distances, "scale": _scale,
}  # fmt: skip


def _override(rng: Random) -> str:
    key = rng.choice([
        *Study.model_fields, *(f"{s}.{f}" for s in SECTIONS for f in known_fields(s)),
        *(str(k) for k in KEYS if len(str(k)) < 1000), "space.seed", "space.method.density",
        "space.",
        "distances.final.where", "distances.final.steps", "distances.x.against", "search.algorithm",
        "tracking.uri", "space.x", "name.x", "epochs.x.y",
    ])  # fmt: skip
    value = rng.choice([
        *(r for r in RAW if len(r) < 10_000), *WHERES,
        *(str(v) for v in VALUES if len(str(v)) < 9999),
        *(repr(s) for s in STEPS if len(str(s)) < 9999),
    ])  # fmt: skip
    return rng.choice(
        [f"{key}={value}", f"{key}={value}", f"{key}", f"={value}", f"{key}=={value}"]
    )


def _truncated(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _flipped(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _inserted(content: bytes, rng: Random) -> bytes:
    odd = [b"\t", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\x85", "\u2028".encode(), b"\r", b"\n\n",
    b": ",
           b"- ", b"#", b"'", b'"', b"{", b"]", b"%YAML 9.9\n---\n", b"---\n", b"...\n", b"&a ",
           b"*a ",
           b"!!str ", b"| ", b"> ", b"? ", b"\x1b[31m", rng.randbytes(9)]  # fmt: skip
    place = rng.choice([0, rng.randrange(len(content)), len(content)])
    return content[:place] + rng.choice(odd) + content[place:]


def _shuffled(content: bytes, rng: Random) -> bytes:
    lines = content.splitlines(keepends=True)
    where = rng.randrange(len(lines))
    lines.insert(
        rng.randrange(len(lines)), lines[where] if rng.random() < 0.5 else lines.pop(where)
    )
    return b"".join(lines)


def _recoded(content: bytes, rng: Random) -> bytes:
    return content.decode().encode(rng.choice(["utf-16", "utf-32", "utf-8-sig", "cp037"]))


_DAMAGES: dict[str, Callable[[bytes, Random], bytes]] = {
    "truncated": _truncated, "flipped": _flipped, "inserted": _inserted, "lines": _shuffled,
    "recoded": _recoded, "tabs": lambda content, rng: content.replace(b"  ", b"\t"),
    "empty": lambda content, rng: b"", "noise": lambda content, rng: rng.randbytes(300),
    "long": lambda content, rng: content + b"# " + b"x" * 3_000_000,
    "many": lambda content, rng: content + b"".join(b"k%d: [1, 2]\n" % k for k in range(99_999)),
}  # fmt: skip

_WORDS = {*Study.model_fields, *SECTION_KEYS, "line ", "--set ", "mutated.yaml", "study"}


class Defect(AssertionError):
    """Neither a plan nor one line; the message says what it was."""


def outcome(mutation: Mutation, folder: Path) -> str | None:
    """What `toposweep run FILE --set ... --dry-run` ends with: None for a plan, else its line.

    Raises:
        Defect: it is neither.
    """
    path = folder / "mutated.yaml"
    path.write_bytes(mutation.content)
    printed = io.StringIO()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = time.process_time()
    line = None
    try:
        with _at_most(4 * MOST_SECONDS):
            study = load_study(path, mutation.overrides)
            job = check_job(study, folder / "out", None, None)
            print_plan(study, job, Console(file=printed, markup=False, width=120))
    except InputError as error:
        line = str(error)
    except Exception:
        raise Defect(traceback.format_exc()) from None
    seconds = time.process_time() - started
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if seconds > MOST_SECONDS:
        raise Defect(f"took {seconds:.1f} s, ended with {line or 'a plan'}"[:500])
    if grown > MOST_MEMORY:
        raise Defect(f"took {grown / 2**20:.0f} MB, ended with {line or 'a plan'}"[:500])
    if line is None and not printed.getvalue():
        raise Defect("printed no plan")
    if line is not None:
        check_line(line)
    if (folder / "out").exists():
        raise Defect("a dry run made OUT")
    return line


def check_line(line: str) -> None:
    """One line, printable, not endless, that names a key or a place."""
    if not line.isprintable() or len(line) > LONGEST_LINE or not line.strip():
        raise Defect(f"no line of at most {LONGEST_LINE} signs: {line[:300]!r} ({len(line)})")
    if not any(word in line for word in _WORDS):
        raise Defect(f"names no key: {line}")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """A hang becomes an exception."""

    def stop(signum: int, frame: Any) -> None:
        raise TimeoutError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def main() -> None:
    """Run, print what came of it, exit with 1 where something was neither a plan nor a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print each line")
    asked = parser.parse_args()
    ends: Counter[str] = Counter()
    slowest = (0.0, "")
    with tempfile.TemporaryDirectory() as folder:
        for number, mutation in enumerate(mutations(asked.seed, asked.n)):
            started = time.process_time()
            try:
                line = outcome(mutation, Path(folder))
            except Defect as defect:
                ends["defects"] += 1
                print(f"DEFECT {asked.seed}-{number}: {mutation.what:.300}\n{defect}", flush=True)
            else:
                ends["plans" if line is None else "lines"] += 1
                if asked.show:
                    print(f"{number}: {mutation.what:.100}\n    {line}")
            slowest = max(
                slowest, (time.process_time() - started, f"{number}: {mutation.what:.100}")
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"seed {asked.seed}: {dict(ends)}; slowest {slowest[0]:.1f} s ({slowest[1]}); {peak:.0f} MB"
    )
    sys.exit(1 if ends["defects"] else 0)


if __name__ == "__main__":
    main()
