import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from topology.plot_grid import NUMBERS_LIMIT, Cell, heatmap_grid, scale_end
from topology.plot_style import Style, styles


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def looks(n: int) -> dict[str, Style]:
    rows = [(f"network {k}", "imported", float("nan")) for k in range(n)]
    return styles(pd.DataFrame(rows, columns=["label", "method", "density"]))


def square(n: int, seed: int, highest: float = 0.5) -> np.ndarray:
    half = np.triu(np.random.default_rng(seed).uniform(0.1, highest, (n, n)), 1)
    return half + half.T


def cells(n: int, rows: int, columns: int) -> dict[tuple[str, str], Cell]:
    return {
        (f"row {r}", f"epoch {c}"): Cell(square(n, 10 * r + c), f"mean {r}.{c}\nby chance 0.7")
        for r in range(rows)
        for c in range(columns)
    }


def draw(given: dict[tuple[str, str], Cell], n: int, **more: object) -> Figure:
    of = looks(n)
    return heatmap_grid(given, list(of), of, **more)  # type: ignore[arg-type]


def panels(figure: Figure) -> list:
    return [panel for panel in figure.axes if panel.images]


def test_each_cell_is_in_its_row_and_column_under_its_note_and_all_share_one_scale() -> None:
    given = cells(4, rows=2, columns=3)
    figure = draw(given, 4)
    shown = panels(figure)
    assert len(shown) == 6
    assert len(figure.axes) == 7  # and one colour bar
    lefts = sorted({round(panel.get_position().x0, 6) for panel in shown})
    tops = sorted({round(-panel.get_position().y1, 6) for panel in shown})
    for panel, ((row, column), cell) in zip(shown, given.items(), strict=True):
        assert (np.asarray(panel.images[0].get_array()) == cell.matrix).all()
        assert panel.images[0].get_clim() == (0, scale_end(c.matrix for c in given.values()))
        place = panel.get_position()
        assert f"epoch {lefts.index(round(place.x0, 6))}" == column
        assert f"row {tops.index(round(-place.y1, 6))}" == row
        assert cell.note in [text.get_text() for text in panel.texts]
    assert [panel.get_title() for panel in shown] == ["epoch 0", "epoch 1", "epoch 2", "", "", ""]
    assert [panel.get_ylabel() for panel in shown] == ["row 0", "", "", "row 1", "", ""]


def test_a_scale_may_be_given_so_that_figures_share_it() -> None:
    figure = draw(cells(3, 1, 1), 3, end=0.9)
    assert panels(figure)[0].images[0].get_clim() == (0, 0.9)


@pytest.mark.parametrize(
    ("highest", "end"), [(0.0, 0.05), (0.05, 0.05), (0.051, 0.1), (0.3, 0.3), (1.0, 1.0)]
)
def test_a_scale_ends_at_the_next_twentieth(highest: float, end: float) -> None:
    matrix = np.array([[0.0, highest], [np.nan, 0.0]])
    assert scale_end([matrix, np.full((2, 2), np.nan)]) == pytest.approx(end)
    assert scale_end([]) == pytest.approx(0.05)


def test_few_networks_have_their_distances_in_numbers_and_many_do_not() -> None:
    matrix = square(3, 0)
    matrix[0, 2] = matrix[2, 0] = np.nan
    (panel,) = panels(draw({("a", "b"): Cell(matrix)}, 3))
    numbers = {text.get_position(): text.get_text() for text in panel.texts if text.get_text()}
    assert numbers == {
        (j, i): f"{matrix[i, j]:.2f}"
        for i, j in itertools.product(range(3), repeat=2)
        if i != j and {i, j} != {0, 2}
    }
    (panel,) = panels(draw({("a", "b"): Cell(square(9, 0))}, NUMBERS_LIMIT + 3))
    assert not [text for text in panel.texts if text.get_text()]


@pytest.mark.parametrize(("n", "rows", "columns"), [(2, 1, 1), (5, 4, 3), (6, 2, 6), (40, 6, 2)])
def test_no_text_overlaps_another(n: int, rows: int, columns: int) -> None:
    figure = draw(cells(n, rows, columns), n)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    words: list[Text] = []
    for panel in figure.axes:
        words += [panel.title, panel._left_title, panel.xaxis.label, panel.yaxis.label]
        words += [*panel.get_xticklabels(), *panel.get_yticklabels(), *panel.texts]
    boxes = [(w.get_text(), w.get_window_extent(renderer)) for w in words if w.get_text()]
    touching = [
        (a, b)
        for (a, x), (b, y) in itertools.combinations(boxes, 2)
        if x.padded(-1).overlaps(y.padded(-1))
    ]
    assert not touching
