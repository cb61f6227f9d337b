"""The page: what it is made of, and how that becomes one self-contained HTML file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

DOTS_PER_CSS_PIXEL = 1.5  # pictures are drawn at 150 dots an inch and shown at 100


@dataclass(frozen=True)
class Picture:
    """A PNG with its words.

    Attributes:
        file: its name beside the page.
        title: what is plotted.
        caption: how to read it.
    """

    file: str
    png: bytes
    title: str
    caption: str

    @property
    def source(self) -> str:
        """The image inside the page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def width(self) -> int:
        """CSS pixels."""
        return _pixels(self.png[16:20])

    @property
    def height(self) -> int:
        """CSS pixels."""
        return _pixels(self.png[20:24])


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        columns: heads.
        kinds: of each column `text`, `number` (right-aligned) or `code`.
        note: under the table.
    """

    title: str
    columns: Sequence[str]
    kinds: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass
class Section:
    """A heading and what comes under it, pictures before tables; `anchor` is its id in the page."""

    anchor: str
    title: str
    intro: str = ""
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Page:
    """The whole report.

    Attributes:
        facts: what stands in the head, name and value.
        guide: how to read the page.
        problems: what went wrong, a line each.
        code: lines of Python that load the data.
        folders: where it is: path within OUT, what it holds.
        versions: one line.
    """

    title: str
    description: str
    facts: Sequence[tuple[str, str]]
    guide: str
    sections: Sequence[Section]
    problems: Sequence[str] = ()
    code: str = ""
    folders: Sequence[tuple[str, str]] = ()
    versions: str = ""


def titled(title: str, group: str) -> str:
    """A title with the group of networks that it is about, if there are several."""
    return f"{title}, {group}" if group else title


def render(page: Page) -> str:
    """HTML that needs no other file, no script and no network."""
    environment = Environment(
        loader=PackageLoader("sweeps", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(page=page)


def _pixels(field: bytes) -> int:
    """A size in a PNG's head (big-endian, dots) as CSS pixels."""
    return round(int.from_bytes(field, "big") / DOTS_PER_CSS_PIXEL)
