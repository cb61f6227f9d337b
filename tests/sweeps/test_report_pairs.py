"""Methods in pairs, their cost, and accuracy over density, on runs that were never trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from synthetic_run import add_trial, configuration, new_run
from test_report import read

import sweeps.report_pairs
from storage import Run
from sweeps.configurations import configurations
from sweeps.report import build_report
from sweeps.report_costs import cost_section
from sweeps.report_data import read_run
from sweeps.report_density import density_picture
from sweeps.report_moments import Course
from sweeps.report_pairs import paired_differences, pairs_section
from topology.plot_style import styles


def accuracies(run: Run, **wanted: Any) -> dict[int, float]:
    """Final test accuracy in percent by seed."""
    trials = run.trials()
    for column, value in wanted.items():
        trials = trials[trials[column] == value]
    return dict(zip(trials["seeds_topology"], 100 * trials["final_test_accuracy"], strict=True))


def with_rate(config: dict[str, Any], lr: float) -> dict[str, Any]:
    return {**config, "optimizer": {"name": "sgd", "lr": lr}}


def pairs_of(run: Run) -> set[tuple[str, str]]:
    return {(d.a, d.b) for d in paired_differences(read_run(run))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Dense, static and SET at three densities; static lacks a seed, SET has one more."""
    made = new_run(tmp_path_factory.mktemp("pairs") / "out")
    for seed in range(4):
        add_trial(made, configuration("dense", None, seed))
        for density in (0.05, 0.1, 0.2):
            add_trial(made, configuration("set", density, seed))
            if seed != 2:
                add_trial(made, configuration("static", density, seed))
    add_trial(made, configuration("set", 0.05, 9))
    return made


def test_differences_are_of_the_same_seed_and_density_and_the_seeds_that_both_have(
    run: Run,
) -> None:
    found = {(d.a, d.b): d for d in paired_differences(read_run(run))}
    assert set(found) == {
        *((f"{m} {d}", "dense") for m in ("static", "SET") for d in ("5%", "10%", "20%")),
        *((f"SET {d}", f"static {d}") for d in ("5%", "10%", "20%")),
    }
    ours = accuracies(run, method_name="set", method_density=0.05)
    theirs = accuracies(run, method_name="static", method_density=0.05)
    expected = [ours[seed] - theirs[seed] for seed in (0, 1, 3)]
    difference = found["SET 5%", "static 5%"]
    assert difference.values == pytest.approx(expected)
    test = scipy.stats.ttest_rel([ours[s] for s in (0, 1, 3)], [theirs[s] for s in (0, 1, 3)])
    low, high = test.confidence_interval()
    assert difference.interval.n == 3
    assert (difference.interval.low, difference.interval.high) == pytest.approx((low, high))
    assert len(found["SET 5%", "dense"].values) == 4


def test_a_rate_of_one_density_alone_hides_no_pair_of_another_density(tmp_path: Path) -> None:
    made = new_run(tmp_path / "out")
    for seed in range(2):
        add_trial(made, with_rate(configuration("dense", None, seed), 0.1))
        add_trial(made, with_rate(configuration("static", 0.05, seed), 0.1))
        add_trial(made, with_rate(configuration("set", 0.05, seed), 0.3))
        add_trial(made, with_rate(configuration("set", 0.2, seed), 0.1))
    names = {(a.split()[0], b.split()[0]) for a, b in pairs_of(made)}
    assert names == {("static", "dense"), ("SET", "dense"), ("SET", "static")}
    assert sum(b.startswith("dense") for _, b in pairs_of(made)) == 3


def test_the_page_has_the_pairs_with_their_number_and_a_verdict(run: Run) -> None:
    page = read(build_report(run))
    (row,) = [row for row in page.rows if row[:2] == ["SET 5%", "static 5%"]]
    assert row[2] == "3"
    assert row[6] in ("first is better", "second is better", "not told apart")
    (head,) = [row for row in page.rows if row[:2] == ["first", "second"]]
    assert head[2:5] == ["pairs", "mean difference", "95% interval"]
    assert "9 comparisons" not in page.text or "by luck" in page.text


def test_failed_trials_and_single_pairs_are_no_comparison(tmp_path: Path) -> None:
    made = new_run(tmp_path / "out")
    add_trial(made, configuration("static", 0.1, 0))
    add_trial(made, configuration("set", 0.1, 0))
    add_trial(made, configuration("static", 0.1, 1))
    add_trial(made, configuration("set", 0.1, 1), state="failed", reason="loss is nan")
    data = read_run(made)
    (difference,) = paired_differences(data)
    assert len(difference.values) == 1
    assert pairs_section(data, styles(configurations(data.named))) is None


def test_other_models_are_not_compared(tmp_path: Path) -> None:
    made = new_run(tmp_path / "out")
    for hidden in ([24, 24], [32, 32]):
        for seed in range(2):
            model = {"name": "mlp", "hidden": hidden}
            for method, density in (("dense", None), ("set", 0.1)):
                add_trial(made, {**configuration(method, density, seed), "model": model})
    assert pairs_of(made) == {
        ("SET 10% hidden 24-24", "dense hidden 24-24"),
        ("SET 10% hidden 32-32", "dense hidden 32-32"),
    }


def test_optimisers_are_equal_in_a_pair_where_they_can_be(tmp_path: Path) -> None:
    made = new_run(tmp_path / "out")
    for seed in range(2):
        for lr in (0.1, 0.2):
            add_trial(made, with_rate(configuration("static", 0.1, seed), lr))
            add_trial(made, with_rate(configuration("set", 0.1, seed), lr))
        add_trial(made, with_rate(configuration("dense", None, seed), 0.3))
    assert pairs_of(made) == {
        ("SET 10% lr 0.1", "static 10% lr 0.1"),
        ("SET 10% lr 0.2", "static 10% lr 0.2"),
        *((f"{m} 10% lr {lr}", "dense") for m in ("static", "SET") for lr in ("0.1", "0.2")),
    }


def test_too_many_differences_leave_those_with_dense_and_static(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.report_pairs, "PAIRS_SHOWN", 4)
    data = read_run(run)
    section = pairs_section(data, styles(configurations(data.named)))
    assert section is not None
    assert len(section.tables[0].rows) == 4
    assert "4 of 9" in section.notes[0]


def test_costs_are_shares_of_the_dense_network(run: Run) -> None:
    data = read_run(run)
    section = cost_section(data, styles(configurations(data.named)))
    assert section is not None
    row = next(row for row in section.tables[0].rows if row[0] == "SET 5%")
    assert row[1] == "5"
    assert row[4:] == ["558 (5.55%)", "1 k (5%)", "3.6 M (5%)"]
    assert "±" in row[2]
    assert "3 to 5 seeds" in section.pictures[0].caption


def test_a_run_without_flops_has_no_costs(run: Run) -> None:
    data = read_run(run)
    data.trials = data.trials.drop(columns="final_training_flops")
    assert cost_section(data, styles(configurations(data.named))) is None


def test_accuracy_over_density_needs_three_densities(run: Run) -> None:
    data = read_run(run)
    final = data.trials.assign(
        label=data.trials["trial_id"].map(data.named["label"]),
        percent=100 * data.trials["final_test_accuracy"],
    )
    looks = styles(configurations(data.named))
    picture = density_picture(final, looks)
    assert picture is not None
    assert "3 to 5 seeds" in picture.caption
    assert "horizontal line" in picture.caption
    assert density_picture(final[final["method_density"] != 0.1], looks) is None
    assert density_picture(final[final["method_name"] == "dense"], looks) is None
    assert np.isfinite(final["percent"]).all()


def test_networks_that_differ_in_one_setting_are_told_apart_by_it() -> None:
    def ticks(*labels: str, seeds: tuple[str, ...] = ()) -> tuple[list[str] | None, str]:
        networks = pd.DataFrame({"label": labels, "seed": seeds or ("",) * len(labels)})
        course = Course("all", "layerwise", "", networks, len(labels), ("network",), [])
        return course.ticks, course.ticks_are

    assert ticks("chain 5% link 0", "chain 5% link 1") == (["0", "1"], "link")
    assert ticks("SET 5%", "SET 20%")[0] is None
    assert ticks("chain 5% link 0", "chain 20% link 1")[0] is None
    assert ticks("SET 5%", "SET 5%", seeds=("0", "1")) == (["0", "1"], "seed")
