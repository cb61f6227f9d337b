"""Reading and writing a study: YAML, overrides, the built-in ones."""

import re
from collections.abc import Iterable
from importlib import resources as package_resources
from pathlib import Path
from typing import Any

import yaml

from storage.errors import InputError
from storage.tracking_uri import redacted
from sweeps.sections import SECTIONS
from sweeps.study import Study, check_study
from sweeps.validation import cut

# Far beyond what a study holds: reading more would take minutes.
_MOST_CHARACTERS = 1_000_000
_MOST_VALUES = 100_000  # every alias counted as what it stands for
_DEEPEST = 30


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; a study must not.

    Nor may it be larger than above, hold itself, or hold a number of thousands of digits.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _expanded(node, 0, {})
        return node

    def construct_yaml_int(self, node: Any) -> int:
        if len(self.construct_scalar(node)) > 1000:
            raise InputError(f"line {node.start_mark.line + 1}: a number of too many digits")
        value: int = super().construct_yaml_int(node)
        return value


def _expanded(node: yaml.Node, depth: int, known: dict[int, int]) -> int:
    """How many values a node holds; 0 in `known` stands for one that is not finished."""
    where = f"line {node.start_mark.line + 1}"
    if id(node) in known:
        if known[id(node)] == 0:
            raise InputError(f"{where}: an alias of what it is a part of is not allowed")
        return known[id(node)]
    if depth > _DEEPEST:
        raise InputError(f"{where}: more than {_DEEPEST} levels are not allowed")
    known[id(node)] = 0
    parts = node.value if isinstance(node, yaml.CollectionNode) else ()
    inner = [n for part in parts for n in (part if isinstance(part, tuple) else (part,))]
    size = 1 + sum(_expanded(part, depth + 1, known) for part in inner)
    if size > _MOST_VALUES:
        raise InputError(f"{where}: more than {_MOST_VALUES} values are not allowed")
    known[id(node)] = size
    return size


def _own(value: Any) -> Any:
    """A copy that shares nothing with itself, so that to change one alias changes no other."""
    if isinstance(value, dict):
        return {key: _own(part) for key, part in value.items()}
    return [_own(part) for part in value] if isinstance(value, list) else value


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue  # `<<: *base`, whose keys may be given again
        key = loader.construct_object(key_node)
        if not isinstance(key, str | int | float):
            raise InputError(f"line {key_node.start_mark.line + 1}: a key must be a plain name")
        if key in seen:
            line = key_node.start_mark.line + 1
            raise InputError(f"line {line}: {cut(str(key))} is given twice")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


# YAML 1.1 reads 1e-4 as text because it has no point; everyone who writes it means the number.
_UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"), list("-+0123456789")
)
_UniqueKeys.add_constructor("tag:yaml.org,2002:int", _UniqueKeys.construct_yaml_int)
_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_study(source: str | Path, overrides: Iterable[str] = ()) -> Study:
    """The study in a file, or the built-in one of that name, with `KEY=VALUE` overrides applied.

    Raises:
        InputError: no such study, not YAML, or anything that `Study` refuses; one line.
    """
    path = Path(source)
    if is_file(source):
        if not _exists(path):
            raise InputError(f"{source}: no such study file")
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_MOST_CHARACTERS + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: cannot be read as text: {error}") from None
    else:
        text = builtin_text(str(source))
    return parse_study(text, overrides, name=str(source))


def is_file(source: str | Path) -> bool:
    """Whether `source` means a file, which may be missing, and not a built-in study."""
    path = Path(source)
    return path.suffix in (".yaml", ".yml") or _exists(path)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long a name
        return False


def parse_study(text: str, overrides: Iterable[str] = (), name: str = "study") -> Study:
    """A study from its YAML text; `name` stands in messages."""
    raw = parse_mapping(text, name)
    if raw.get("imported") is True:
        raise InputError(
            f"{name}: its networks were imported, there is nothing to train: toposweep import adds "
            "networks, toposweep distances compares them"
        )
    for override in overrides:
        _override(raw, override)
    return check_study(raw)


def parse_mapping(text: str, name: str) -> dict[Any, Any]:
    """The keys and values of a study's text, not checked any further; `name` as above."""
    raw = _yaml(text, name)
    if not isinstance(raw, dict):
        what = "an empty file" if raw is None else f"a {type(raw).__name__}"
        raise InputError(f"{name}: a study is a mapping of keys to values, not {what}")
    return raw


def _yaml(text: str, name: str) -> Any:
    if len(text) > _MOST_CHARACTERS:
        raise InputError(f"{name}: more than {_MOST_CHARACTERS} characters are not allowed")
    try:
        return _own(yaml.load(text, Loader=_UniqueKeys))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except RecursionError:
        raise InputError(f"{name}: is not YAML: nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{name}: is not YAML: {where}{what[:200]}") from None
    except Exception:  # PyYAML's constructors trust a tag such as !!int or !!map
        raise InputError(f"{name}: is not YAML: a value is not what its tag says") from None


def _override(raw: dict[Any, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(
            f"--set {cut(override)}: is not allowed: KEY=VALUE, such as method.density=0.1"
        )
    if key.startswith("space."):
        _override_space(raw, key.removeprefix("space."), _yaml(text, f"--set {cut(key)}"))
        return
    for grid in _grids(raw):  # the override is the only value from now on
        grid.pop(key, None)
    *parents, last = key.split(".")
    node: Any = raw
    for parent in parents:
        if isinstance(node.get(parent), str) and parent in SECTIONS:
            node[parent] = {"name": node[parent]}
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise InputError(f"--set {cut(key)}: {cut(parent)} holds a value, not keys")
    node[last] = _yaml(text, f"--set {cut(key)}")


def _override_space(raw: dict[Any, Any], key: str, value: Any) -> None:
    """Set one key in every grid of the space."""
    if raw.get("space") is None:
        raw["space"] = {}
    for grid in _grids(raw):
        grid[key] = value


def _grids(raw: dict[Any, Any]) -> list[dict[Any, Any]]:
    space = raw.get("space")
    return [grid for grid in (space if isinstance(space, list) else [space])
            if isinstance(grid, dict)]  # fmt: skip


def builtin_names() -> list[str]:
    """The names of the built-in studies, sorted."""
    folder = package_resources.files("sweeps") / "studies"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir()
                  if item.name.endswith(".yaml"))  # fmt: skip


def builtin_text(name: str) -> str:
    """The YAML of a built-in study."""
    names = builtin_names()
    if name not in names:
        raise InputError(f"{name}: no such study file, nor a built-in study ({', '.join(names)})")
    return (package_resources.files("sweeps") / "studies" / f"{name}.yaml").read_text("utf-8")


def study_yaml(study: Study) -> str:
    """The study as YAML, every default written out; a password in tracking.uri is left out."""
    content = study.model_dump()
    if "snapshot_every" not in study.model_fields_set:
        del content["snapshot_every"]  # the default may be longer than training, what is given not
    if study.tracking.uri is not None:
        content["tracking"]["uri"] = redacted(study.tracking.uri)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
