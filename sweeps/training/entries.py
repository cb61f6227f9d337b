"""Registries: what a study can name, ours and the user's own.

A name is one of ours; or that of an entry point of an installed package (to install it is to
consent to its import); or a dotted path, ``package.module:Class``, into a package that the study
lists. Nothing of the last two kinds is imported before it is asked for by its name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from pydantic import create_model

from storage.errors import InputError
from sweeps.training.imports import import_entry, is_allowed
from sweeps.training.settings import Settings
from sweeps.validation import shown

_NAME = r"[^\W\d]\w*"
DOTTED = rf"{_NAME}(\.{_NAME})*:{_NAME}"
"""A dotted path, as a regular expression."""


class Registry(Mapping[str, Any]):
    """The classes that one section of a study can name.

    Args:
        section: the study's key: ``method``.
        group: the entry points' group: ``toposweep.methods``.
        builtin: ours. An entry point of the same name never takes their place.
        base: what a class must be a subclass of.
        needs: what it must have besides ``Settings``.
        settings: what its ``Settings`` must be a subclass of.
        fields: what they must have.
    """

    def __init__(
        self,
        section: str,
        group: str,
        builtin: Mapping[str, Any],
        *,
        base: type = object,
        needs: tuple[str, ...] = (),
        settings: type[Settings] = Settings,
        fields: tuple[str, ...] = (),
    ) -> None:
        self.section = section
        self.group = group
        self.builtin = builtin
        self._base = base
        self._needs = needs
        self._settings = settings
        self._fields = fields
        self._imported: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The class of that name.

        Raises:
            KeyError: there is none.
            InputError: it may not be imported, cannot be, or is not what it must be.
        """
        if name in self.builtin:
            return self.builtin[name]
        if name not in self._imported:
            try:
                own = self._dotted(name) if ":" in name else self._installed(name)
                self._check(own)
                self._imported[name] = _named(own, name)
            except InputError as error:
                raise InputError(f"{self.section}.name: {shown(name)} {error}") from None
        return self._imported[name]

    def __iter__(self) -> Iterator[str]:
        """Ours and the entry points'; dotted paths cannot be listed."""
        return iter(dict.fromkeys([*self.builtin, *self._points]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    @cached_property
    def _points(self) -> dict[str, set[EntryPoint]]:
        found: dict[str, set[EntryPoint]] = {}
        for point in sorted(entry_points(group=self.group)):
            found.setdefault(point.name, set()).add(point)
        return found

    def _dotted(self, name: str) -> Any:
        package = package_of(name)
        if not is_allowed(package):
            raise InputError(_not_listed(package))
        return import_entry(*name.split(":"))

    def _installed(self, name: str) -> Any:
        values = sorted({point.value for point in self._points[name]})
        if len(values) > 1:
            raise InputError(f"is not one entry point but several: {' and '.join(values)}")
        if not re.fullmatch(DOTTED, values[0]):
            raise InputError(f"is the entry point {shown(values[0])}, not package.module:Class")
        return import_entry(*values[0].split(":"))

    def _check(self, own: Any) -> None:
        """It is what the section asks for.

        Raises:
            InputError: the first thing that is missing.
        """
        if not isinstance(own, type):
            raise InputError(f"is not a class but {shown(own)}")
        if not issubclass(own, self._base):
            base = f"{self._base.__module__}.{self._base.__qualname__}"
            raise InputError(f"is not allowed: it is no subclass of {base}")
        settings = getattr(own, "Settings", None)
        if not (isinstance(settings, type) and issubclass(settings, self._settings)):
            base = f"{self._settings.__module__}.{self._settings.__qualname__}"
            raise InputError(f"has no Settings, a subclass of {base}")
        for need in self._needs:
            if not callable(getattr(own, need, None)):
                raise InputError(f"has no {need}(); needed: {', '.join(self._needs)}")
        for field in self._fields:
            if field not in settings.model_fields:
                raise InputError(f"has Settings without the field {field}")


def check_listed(section: str, name: str, imports: Collection[str]) -> None:
    """A name that leads into a package of the user's own leads into a listed one.

    Raises:
        InputError: it does not, and so must not be looked up.
    """
    if ":" not in name:
        return
    try:
        package = package_of(name)
        if package not in imports:
            raise InputError(_not_listed(package))
    except InputError as error:
        raise InputError(f"{section}.name: {shown(name)} {error}") from None


def package_of(name: str) -> str:
    """The package that a dotted path leads into.

    Raises:
        InputError: it is none.
    """
    if not re.fullmatch(DOTTED, name):
        raise InputError("is not allowed: a class of your own is package.module:Class")
    return re.split(r"[.:]", name, maxsplit=1)[0]


def _not_listed(package: str) -> str:
    return (
        f"is not allowed: it is code of the package {package}, which is not listed; to let it be "
        f"imported: `imports: [{package}]`"
    )


def _named(own: Any, name: str) -> Any:
    """The same class under the name that the study gives it: its Settings take that one alone."""
    settings: Any = own.Settings
    named = create_model(
        settings.__name__,
        __base__=settings,
        __module__=settings.__module__,
        __doc__=settings.__doc__,
        name=(Literal[name], name),  # type: ignore[arg-type]
    )
    kept = {key: getattr(own, key) for key in ("__module__", "__qualname__", "__doc__")}
    return type(own)(own.__name__, (own,), {**kept, "Settings": named})
