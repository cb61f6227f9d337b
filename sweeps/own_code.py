"""A study's use of code that is not ours: its user's methods, models, data sets, optimisers."""

from dataclasses import dataclass

from storage.errors import InputError
from sweeps.sections import SECTIONS
from sweeps.study import Study
from sweeps.training.imports import allow_imports_there, folders_of


@dataclass(frozen=True)
class OwnCode:
    """What another process needs to find it.

    Attributes:
        imports: the packages that the study lists, and the folder that holds each on the driver;
            None: it is installed.
        names: (section, name) of every entry that the study names.
    """

    imports: dict[str, str | None]
    names: tuple[tuple[str, str], ...]

    def problem_here(self) -> str | None:
        """Why this process cannot import it; None: it can, and has."""
        try:
            allow_imports_there(self.imports)
            for section, name in self.names:
                if name not in SECTIONS[section]:
                    return f"{section}.name: {name!r}: no package installed there has that name"
        except InputError as error:
            return str(error)
        return None


def own_code(study: Study) -> OwnCode:
    """The own code of a checked study."""
    names = tuple((section, name) for section in SECTIONS for name in sorted(study.own[section]))
    return OwnCode(folders_of(study.imports), names)


def own_code_lines(study: Study) -> list[str]:
    """What a study imports and from where, a line each, for people."""
    return [
        f"importing {package}, which the study lists, from {folder or 'where it is installed'}"
        for package, folder in folders_of(study.imports).items()
    ]
