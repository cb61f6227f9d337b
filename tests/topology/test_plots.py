import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from topology.heatmaps import block_means, heatmaps
from topology.plot_blocks import TICKS_LIMIT, blocks_of
from topology.plot_style import (
    FIXED,
    LEGEND_LIMIT,
    Style,
    method_colours,
    shaded_by_density,
    styles,
)
from topology.plots import (
    BANDS_LIMIT,
    ROWS_LIMIT,
    curves,
    dots,
    embedding,
    mean_and_spread,
    to_png,
)


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """matplotlib warns where text does not fit, a glyph is missing or a limit makes no sense."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def looks(
    methods: tuple[str, ...], densities: tuple[float, ...], dense: bool = True
) -> dict[str, Style]:
    rows = [("dense", "dense", float("nan"))] if dense else []
    rows += [(f"{m} {d:.1%}", m, d) for m in methods for d in densities]
    return styles(pd.DataFrame(rows, columns=["label", "method", "density"]))


def training(of: dict[str, Style], seeds: int, epochs: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = itertools.product(of, range(seeds), range(1, epochs + 1))
    frame = pd.DataFrame(rows, columns=["label", "seed", "epoch"])
    return frame.assign(value=rng.random(len(frame)))


def square(n: int, seed: int = 0) -> np.ndarray:
    half = np.triu(np.random.default_rng(seed).random((n, n)), 1)
    return half + half.T


def texts(figure: Figure) -> list[str]:
    """Every word of the legends, titles and axes."""
    figure.draw_without_rendering()
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for panel in figure.axes:
        found += [panel.get_title(), panel.get_xlabel(), panel.get_ylabel()]
        ticks = [*panel.get_xticklabels(which="both"), *panel.get_yticklabels(which="both")]
        found += [tick.get_text() for tick in ticks]
    return [text for text in found if text]


SOME = looks(("static", "SET"), (0.05, 0.2), dense=False)


def test_a_heatmap_shows_the_matrix_in_the_order_given_on_the_scale_0_to_1() -> None:
    labels = [label for label in SOME for _ in range(3)]
    matrices = {"whole network": square(12), "layer 1": square(12, seed=1)}
    figure = heatmaps(matrices, labels, SOME)
    panels = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title() for panel in panels] == list(matrices)
    for panel, matrix in zip(panels, matrices.values(), strict=True):
        image = panel.images[0]
        assert (np.asarray(image.get_array()) == matrix).all()
        assert image.get_clim() == (0, 1)
        assert image.cmap.name == "viridis"
        left, right, bottom, top = image.get_extent()
        assert (left, right, bottom, top) == (-0.5, 11.5, 11.5, -0.5)  # row 0 on top
    bars = [panel for panel in figure.axes if not panel.images]
    assert len(bars) == 1
    assert {"0  same connections", "1  none in common"} <= set(texts(figure))


def test_a_missing_distance_is_neither_near_nor_far() -> None:
    matrix = square(4)
    matrix[0, 1] = matrix[1, 0] = np.nan
    figure = heatmaps({"network": matrix}, ["SET 5.0%"] * 4, SOME)
    image = next(panel.images[0] for panel in figure.axes if panel.images)
    colours = image.to_rgba(image.get_array())
    assert np.allclose(colours[0, 1], colours[1, 0])
    assert np.ptp(colours[0, 1, :3]) == 0  # grey, which viridis has not


def test_each_block_has_its_name_at_its_centre_and_each_row_its_tick() -> None:
    labels = [label for label in SOME for _ in range(3)]
    figure = heatmaps({"network": square(12)}, labels, SOME, ticks=["0", "1", "2"] * 4)
    panel = next(panel for panel in figure.axes if panel.images)
    assert [tick.get_text() for tick in panel.get_yticklabels()] == list(SOME)
    assert panel.get_yticks().tolist() == [1, 4, 7, 10]
    assert [t.get_text() for t in panel.get_yticklabels(minor=True)] == ["0", "1", "2"] * 4
    assert panel.get_ylabel() == "configuration, seed"


def test_many_rows_have_no_ticks_and_many_blocks_are_named_by_method() -> None:
    many = looks(("static", "SET", "RigL"), tuple(k / 100 for k in range(1, 21)), dense=False)
    labels = [label for label in many for _ in range(2)]
    assert len(labels) > TICKS_LIMIT
    figure = heatmaps({"network": square(120)}, labels, many, ticks=["0", "1"] * 60)
    panel = next(panel for panel in figure.axes if panel.images)
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["static", "SET", "RigL"]
    assert not panel.get_yticklabels(minor=True)


@pytest.mark.parametrize("n_panels", [1, 2, 3, 4, 5, 7])
def test_no_text_of_a_heatmap_overlaps_another(n_panels: int) -> None:
    labels = [label for label in SOME for _ in range(3)]
    matrices = {f"layer {k}": square(12, k) for k in range(n_panels)}
    figure = heatmaps(matrices, labels, SOME, ticks=["0", "1", "2"] * 4)
    assert not overlapping(figure)


@pytest.mark.parametrize("tick", ["0", "10", "0·12", "3/14/15·2.5"])
@pytest.mark.parametrize("n_each", [2, 7])
def test_long_ticks_leave_room_for_the_names_of_blocks(tick: str, n_each: int) -> None:
    labels = [label for label in SOME for _ in range(n_each)]
    ticks = [tick] * len(labels)
    figure = heatmaps({"a": square(len(labels)), "b": square(len(labels))}, labels, SOME, ticks)
    assert not overlapping(figure)


@pytest.mark.parametrize("n", [2, 5, 12, 40])
def test_no_text_overlaps_whatever_the_number_of_configurations(n: int) -> None:
    many = looks(("static", "a method with a long name"), tuple((k + 1) / 100 for k in range(n)))
    values = training(many, seeds=2)
    labels = [label for label in many for _ in range(2)]
    n_rows = len(labels)
    figures = [
        curves(values, {"value": ""}, many, y_label="accuracy (%)"),
        dots(values, "value", many, "accuracy (%)"),
        heatmaps({"network": square(n_rows), "layer": square(n_rows)}, labels, many),
        embedding(np.random.default_rng(0).random((n_rows, 2)), labels, many, labels, [0] * n_rows),
    ]
    for figure in figures:
        assert not overlapping(figure)


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    words = [text for legend in figure.legends for text in legend.get_texts()]
    for panel in figure.axes:
        words += [panel.title, panel._left_title, panel.xaxis.label, panel.yaxis.label]
        words += [*panel.get_xticklabels(which="both"), *panel.get_yticklabels(which="both")]
    boxes = [
        (word.get_text(), word.get_window_extent(renderer))
        for word in words
        if word.get_text() and word.get_visible()
    ]
    return [
        (a, b)
        for (a, x), (b, y) in itertools.combinations(boxes, 2)
        if x.padded(-1.5).overlaps(y.padded(-1.5))
    ]


def test_a_line_is_the_mean_and_its_band_goes_from_least_to_greatest() -> None:
    values = pd.DataFrame(
        {"label": ["SET 5.0%"] * 6, "epoch": [1, 2] * 3, "value": [1.0, 5.0, 2.0, 7.0, 6.0, 9.0]}
    )
    figure = curves(values, {"value": ""}, SOME)
    line = figure.axes[0].lines[0]
    assert line.get_xydata().tolist() == [[1, 3], [2, 7]]
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 1
    assert band[:, 1].max() == 9
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SET 5.0%"]


def test_values_that_are_not_there_are_left_out_of_mean_and_spread() -> None:
    values = pd.DataFrame(
        {"label": "a", "epoch": [1, 1, 1, 2], "value": [1.0, 3.0, np.nan, np.inf]}
    )
    found = mean_and_spread(values, "epoch", "value").to_dict("records")
    assert found == [{"label": "a", "epoch": 1, "mean": 2.0, "low": 1.0, "high": 3.0, "n": 2}]


def test_curves_of_many_configurations_have_neither_bands_nor_a_long_legend() -> None:
    many = looks(("static", "SET"), tuple(k / 100 for k in range(1, LEGEND_LIMIT)))
    assert len(many) > max(BANDS_LIMIT, LEGEND_LIMIT)
    figure = curves(training(many, seeds=2), {"value": ""}, many)
    assert len(figure.axes[0].lines) == len(many)
    assert not figure.axes[0].collections
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["dense", "static", "SET"]
    assert str(len(many)) in figure.legends[0].get_title().get_text()


def test_a_single_epoch_and_no_value_at_all_are_shown_as_such() -> None:
    one = training(SOME, seeds=1, epochs=1)
    assert all(
        line.get_marker() != "None" for line in curves(one, {"value": ""}, SOME).axes[0].lines
    )
    assert not dots(one.assign(value=np.nan), "value", SOME, "x").axes[0].lines
    to_png(curves(one.assign(value=np.nan), {"value": ""}, SOME))


def test_every_value_is_a_dot_in_the_row_of_its_configuration() -> None:
    values = training(SOME, seeds=3, epochs=1)
    panel = dots(values, "value", SOME, "accuracy (%)").axes[0]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == list(SOME)
    for row, label in enumerate(SOME):
        points, mean = panel.lines[2 * row].get_xydata(), panel.lines[2 * row + 1].get_xdata()
        mine = values.loc[values["label"] == label, "value"]
        assert sorted(points[:, 0]) == sorted(mine)
        assert set(points[:, 1]) == {row}
        assert mean == pytest.approx([mine.mean()] * 2)


def test_equal_values_of_a_configuration_are_all_visible() -> None:
    values = pd.DataFrame({"label": ["SET 5.0%"] * 3, "value": [1.0, 1.0, 2.0]})
    points = dots(values, "value", SOME, "x").axes[0].lines[0].get_xydata()
    assert len({tuple(point) for point in points}) == 3
    assert points[2].tolist() == [2, 0]
    assert abs(points[:, 1]).max() < 0.3  # still in their row


def test_only_the_best_of_very_many_configurations_get_a_row_of_dots() -> None:
    many = looks(("SET",), tuple(k / 100 for k in range(1, ROWS_LIMIT + 20)), dense=False)
    values = pd.DataFrame({"label": list(many), "value": np.arange(float(len(many)))})
    shown = [tick.get_text() for tick in dots(values, "value", many, "x").axes[0].get_yticklabels()]
    assert shown == list(many)[-ROWS_LIMIT:]


def test_the_plane_has_equal_axes_and_a_trials_snapshots_are_joined() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
    labels = ["SET 5.0%"] * 3 + ["static 5.0%"]
    figure = embedding(points, labels, SOME, ["a", "a", "a", "b"], [0, 20, 10, 0])
    panel = figure.axes[0]
    assert panel.get_aspect() == 1
    (path,) = panel.lines
    assert path.get_xydata().tolist() == [[0, 0], [2, 0.1], [1, 0]]  # in the order of the steps
    drawn = np.concatenate([np.asarray(marks.get_offsets()) for marks in panel.collections])
    assert sorted(drawn.tolist()) == sorted(points.tolist())


def test_block_means_leave_out_a_trial_with_itself() -> None:
    matrix = square(5)
    labels, trials = ["a", "a", "a", "b", "b"], ["t", "t", "u", "v", "w"]
    means = block_means(matrix, labels, trials)
    assert means.at["a", "a"] == pytest.approx((matrix[0, 2] + matrix[1, 2]) / 2)
    assert means.at["b", "b"] == pytest.approx(matrix[3, 4])
    assert means.at["a", "b"] == means.at["b", "a"] == pytest.approx(matrix[:3, 3:].mean())
    assert np.isnan(block_means(matrix[:1, :1], ["a"], ["t"]).at["a", "a"])


def test_blocks_are_neighbours_with_one_label() -> None:
    assert [tuple(b) for b in blocks_of(["a", "a", "b", "a"])] == [
        ("a", 0, 2), ("b", 2, 3), ("a", 3, 4),
    ]  # fmt: skip
    assert blocks_of([]) == []


def test_a_method_has_one_colour_and_a_density_one_mark_across_methods() -> None:
    of = looks(("static", "SET", "mine"), (0.05, 0.2))
    assert of["dense"].method_colour == FIXED["dense"]
    assert of["SET 5.0%"].method_colour == of["SET 20.0%"].method_colour == FIXED["set"]
    assert len({look.method_colour for look in of.values()}) == 4
    assert of["SET 5.0%"].line == of["mine 5.0%"].line != of["SET 20.0%"].line
    assert of["SET 5.0%"].marker == of["mine 5.0%"].marker != of["SET 20.0%"].marker
    assert of["SET 20.0%"].colour == FIXED["set"]  # paler means sparser


def test_configurations_of_one_density_still_look_different() -> None:
    rows = [("SET lr 0.1", "SET", 0.1), ("SET lr 0.2", "SET", 0.1)]
    of = styles(pd.DataFrame(rows, columns=["label", "method", "density"]))
    assert not shaded_by_density(pd.DataFrame(rows, columns=["label", "method", "density"]))
    assert of["SET lr 0.1"].line != of["SET lr 0.2"].line
    assert of["SET lr 0.1"].marker != of["SET lr 0.2"].marker


def test_unknown_methods_get_the_same_colours_in_any_order_and_any_number() -> None:
    names = [f"method {k}" for k in range(40)]
    assert method_colours(names) == {n: method_colours(names[::-1])[n] for n in names}
    assert not set(method_colours(names[:8]).values()) & set(FIXED.values())


def test_names_are_shown_letter_by_letter() -> None:
    rows = [("$x_1$ ^ \\alpha", "$x_1$", 0.1), ("_hidden", "_hidden", 0.1), ("x" * 200, "x", 0.1)]
    of = styles(pd.DataFrame(rows, columns=["label", "method", "density"]))
    figure = curves(training(of, seeds=1), {"value": ""}, of)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown[0].replace("\\$", "$") == rows[0][0]
    assert shown[1].strip() == "_hidden"
    assert len(shown[2]) < 50
    to_png(figure)


def test_the_same_figure_gives_the_same_bytes() -> None:
    def draw() -> bytes:
        return to_png(curves(training(SOME, seeds=2), {"value": ""}, SOME))

    assert draw() == draw()
