import numpy as np
import pandas as pd
import pytest

from topology.plot_intervals import Difference, differences, means_over
from topology.plot_style import styles

LOOKS = styles(
    pd.DataFrame(
        {"label": ["dense", "static", "SET"], "method": ["dense", "static", "SET"],
         "density": [np.nan] * 3}
    )
)  # fmt: skip
VALUES = pd.DataFrame(
    {"label": ["SET", "SET", "static"], "x": [0.1, 0.001, 0.01], "mean": [95.0, 80.0, 90.0],
     "half": [1.0, 2.0, np.nan]}
)  # fmt: skip


def test_means_are_drawn_in_the_order_of_x_with_bars_of_the_intervals_width() -> None:
    panel = means_over(VALUES, LOOKS, "density", "accuracy").axes[0]
    means = [container.lines[0] for container in panel.containers]
    lines = {line.get_color(): line.get_xydata() for line in means}
    assert lines[LOOKS["SET"].colour].tolist() == [[0.001, 80.0], [0.1, 95.0]]
    bars = [segment.tolist() for part in panel.collections for segment in part.get_segments()]
    assert [[0.001, 78.0], [0.001, 82.0]] in bars
    assert [[0.1, 94.0], [0.1, 96.0]] in bars
    assert panel.get_xscale() == "log"


def test_what_has_no_x_is_a_line_across_with_its_band() -> None:
    figure = means_over(VALUES, LOOKS, "density", "accuracy", level=("dense", 97.0, 0.5))
    panel = figure.axes[0]
    assert any((np.asarray(line.get_ydata()) == 97.0).all() for line in panel.lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense", "static", "SET"]


@pytest.mark.parametrize("lines", [True, False])
def test_a_share_is_told_in_percent(lines: bool) -> None:
    figure = means_over(VALUES, LOOKS, "density", "accuracy", lines=lines)
    figure.draw_without_rendering()
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert {"0.1%", "1%", "10%"} <= set(ticks)


def test_a_difference_has_its_single_values_mean_and_interval_in_one_row() -> None:
    rows = [
        Difference("SET − static", (1.0, 2.0, 3.0), 2.0, 2.5, "#0072b2"),
        Difference("SET − dense", (-1.0,), -1.0, np.nan, "#0072b2"),
    ]
    panel = differences(rows, "points").axes[0]
    drawn = [line.get_xydata().tolist() for line in panel.lines]
    assert [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]] in drawn
    assert [[2.0, 0.0]] in drawn
    assert [[-1.0, 1.0]] in drawn
    segments = [s.tolist() for part in panel.collections for s in part.get_segments()]
    assert segments == [[[-0.5, 0.0], [4.5, 0.0]]]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["SET − static", "SET − dense"]


def test_bars_are_cut_where_no_value_can_be() -> None:
    values = VALUES.assign(half=[30.0, 2.0, np.nan])
    figure = means_over(values, LOOKS, "density", "accuracy", bounds=(0.0, 100.0))
    low, high = figure.axes[0].get_ylim()
    assert 0 < low < 65
    assert 100 < high < 102


def test_marks_at_the_same_place_are_moved_apart_around_it() -> None:
    values = pd.DataFrame(
        {"label": ["SET", "static"], "x": [0.1, 0.1], "mean": [95.0, 94.0], "half": [1.0, 1.0]}
    )
    panel = means_over(values, LOOKS, "density", "accuracy").axes[0]
    places = sorted(float(container.lines[0].get_xdata()[0]) for container in panel.containers)
    assert places[0] < 0.1 < places[1] < 0.11
    assert places[0] * places[1] == pytest.approx(0.01)
