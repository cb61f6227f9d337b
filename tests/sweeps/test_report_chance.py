import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from synthetic_run import add_distances, add_trial, configuration, new_run, typical_run

import sweeps.report_structure
from storage import Run, load_distances
from storage.chance_store import ChanceStore, expected_distances, load_chance
from sweeps.report import build_report
from sweeps.report_chance import Chance, ratios_table, read_chance
from sweeps.report_data import evolution_groups, read_run, square_groups
from sweeps.report_page import Section
from sweeps.report_structure import structure_section
from topology import DistanceSpec, run_distances
from topology.chance import chance_level

NAMES = {"final": {"steps": "last"}, "from-first": {"steps": "all", "against": "first"}}


def _text(index: Path) -> str:
    html = re.sub(r"<style.*?</style>", "", index.read_text("utf-8"), flags=re.S)
    return re.sub(r"<[^>]+>", "|", html)


@pytest.fixture(scope="module")
def typical(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = typical_run(tmp_path_factory.mktemp("typical") / "out", seeds=2)
    for name, spec in NAMES.items():
        add_distances(run, name, **spec)
    return run


@pytest.fixture(scope="module")
def plain(typical: Run) -> dict[str, bytes]:
    """Its report before there was a chance level."""
    folder = build_report(typical).parent
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def chanced(typical: Run, plain: dict[str, bytes]) -> Run:
    for name, spec in NAMES.items():
        run_distances(typical.out, name, DistanceSpec(**spec, chance=4), in_process=True)
    return typical


def _chance(run: Run, name: str) -> Chance:
    chance = read_chance(read_run(run), name, Section("x", "x"))
    assert chance is not None
    return chance


def test_the_stage_stores_a_level_for_each_two_classes(chanced: Run) -> None:
    levels = load_chance(chanced.out, "final")
    assert (levels["samples"] == 4).all()
    assert levels["network"].between(0.2, 1).all()
    assert (levels["output"] == 0).all()  # full in all networks
    pairs = set(zip(levels["class_i"], levels["class_j"], strict=True))
    classes = {name for pair in pairs for name in pair}
    assert {round(float(name.partition("%")[0])) for name in classes} == {5, 20}
    expected = expected_distances(chanced.out, "final").to_numpy()
    assert np.isfinite(expected).sum() == 8 * 7
    assert np.allclose(expected, expected.T, equal_nan=True)


def test_a_stored_level_is_near_that_of_its_pairs(chanced: Run) -> None:
    distances = load_distances(chanced.out, "final")
    expected = expected_distances(chanced.out, "final")
    a, b = distances.index[0], distances.index[-1]
    masks = [list(chanced.masks.load(*key).values()) for key in (a, b)]
    level = chance_level(*masks, samples=20, labelled_outputs=True)
    assert expected.loc[a, b] == pytest.approx(level.network, abs=0.05)


def test_the_same_again_computes_nothing_and_the_same_seed_gives_the_same(
    chanced: Run, tmp_path: Path
) -> None:
    spec = DistanceSpec(**NAMES["final"], chance=4)
    assert run_distances(chanced.out, "final", spec, in_process=True).n_chance == 0
    run = Run.open(shutil.copytree(chanced.out, tmp_path / "copy"))
    before = load_chance(run.out, "final")
    ChanceStore(run.out, "final").levels.unlink()
    assert run_distances(run.out, "final", spec, in_process=True).n_chance == 4 * len(before)
    pd.testing.assert_frame_equal(load_chance(run.out, "final"), before, check_exact=True)
    again = run_distances(run.out, "final", spec.model_copy(update={"chance": 3}), in_process=True)
    assert again.n_chance > 0
    again = run_distances(
        run.out, "final", spec.model_copy(update={"chance": None}), in_process=True
    )
    assert again.n_chance == 0
    assert (load_chance(run.out, "final")["samples"] == 3).all()  # no wish leaves what is there


def test_levels_computed_on_ray_equal_those_computed_here(
    chanced: Run, tmp_path: Path, ray_here: None
) -> None:
    run = Run.open(shutil.copytree(chanced.out, tmp_path / "copy"))
    before = load_chance(run.out, "from-first")
    ChanceStore(run.out, "from-first").levels.unlink()
    assert run_distances(
        run.out, "from-first", DistanceSpec(**NAMES["from-first"], chance=4)
    ).n_chance
    pd.testing.assert_frame_equal(load_chance(run.out, "from-first"), before, check_exact=True)


def test_levels_go_with_the_distances_that_they_are_of(chanced: Run, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(chanced.out, tmp_path / "copy"))
    other = DistanceSpec(steps="first")
    store = ChanceStore(run.out, "final")
    outdated = {path: path.read_bytes() for path in (store.levels, store.classes)}
    add_distances(run, "final", steps="first")
    assert not store.levels.exists()
    for path, content in outdated.items():  # as if the stage had ended before it deleted them
        path.write_bytes(content)
    section = Section("x", "x")
    assert read_chance(read_run(run), "final", section) is None
    assert "The distances expected by chance are not shown" in section.notes[0]
    assert run_distances(run.out, "final", other, in_process=True).n_chance == 0
    assert not store.levels.exists()
    again = run_distances(run.out, "final", other.model_copy(update={"chance": 2}), in_process=True)
    assert again.n_chance > 0
    assert len(load_chance(run.out, "final"))


def test_a_single_sample_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        DistanceSpec(chance=1)


def test_heatmaps_and_curves_get_the_expected_distances(chanced: Run) -> None:
    data = read_run(chanced)
    final, first = sorted(data.distances, key=lambda stored: stored.name)
    (square,) = square_groups(data, final)
    keys = list(zip(square.rows["trial_id"], square.rows["step"], strict=True))
    for column, found in _chance(chanced, "final").of_pairs(square).items():
        expected = expected_distances(chanced.out, "final", column).loc[keys, keys]
        np.testing.assert_array_equal(found, expected.to_numpy())
    (evolution,) = evolution_groups(data, first)
    keys = list(zip(evolution.rows["trial_id"], evolution.rows["step"], strict=True))
    for column in ("network", "hidden2"):
        found = _chance(chanced, "from-first").of_snapshots(evolution, [column])
        expected = expected_distances(chanced.out, "from-first", column).loc[keys]
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name].to_numpy())
        assert np.isnan(found[column]).sum() == 8  # each sparse trial's first snapshot


def test_the_page_marks_chance_where_it_is_known_and_nowhere_else(
    chanced: Run, plain: dict[str, bytes]
) -> None:
    assert b"y chance" not in plain["index.html"]
    index = build_report(chanced)
    page = _text(index)
    assert page.count("By chance: the mean distance of random networks") == 2
    assert "The strokes across the colour bar" in page
    assert "Dotted: the distance expected by chance" in page
    assert "distances/final/chance.parquet" in page
    changed = {
        path.name for path in index.parent.iterdir() if path.read_bytes() != plain[path.name]
    }
    assert changed == {
        "index.html", "distances-final-heatmap.png", "distances-from-first-evolution.png"
    }  # fmt: skip


def test_the_table_of_shares_gives_means_of_distance_over_level(chanced: Run) -> None:
    data = read_run(chanced)
    (stored,) = [stored for stored in data.distances if stored.name == "final"]
    (square,) = square_groups(data, stored)
    table = ratios_table(square, _chance(chanced, "final").of_pairs(square), "")
    share = load_distances(chanced.out, "final") / expected_distances(chanced.out, "final")
    labels = data.named["label"][share.index.get_level_values("trial_id")].to_numpy()
    for row in table.rows:
        for label, text in zip(table.columns[1:], row[1:], strict=True):
            values = share.to_numpy()[np.ix_(labels == row[0], labels == label)]
            assert text == f"{np.nanmean(values):.2f}"


def test_groups_are_named_by_the_shape_of_their_networks(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    for seed in range(2):
        for sizes in ((16, 24, 24, 10), (16, 12, 10)):
            config = configuration("set", 0.2, seed) | {"model": {"hidden": list(sizes[1:-1])}}
            add_trial(run, config, sizes=sizes)
    for name, spec in NAMES.items():
        add_distances(run, name, **spec)
        run_distances(run.out, name, DistanceSpec(**spec, chance=2), in_process=True)
    page = _text(build_report(run))
    for shape in ("16-24-24-10", "16-12-10"):
        assert re.search(rf"every other, group \d: {shape}\|", page)
        assert re.search(rf"first snapshot, group \d: {shape}\|", page)
    for group in load_chance(run.out, "final")["group"]:
        assert (run.out / "report" / f"distances-final-group-{group}-heatmap.png").exists()


def _structure_rows(run: Run) -> list[dict[str, str]]:
    section = structure_section(read_run(run))
    assert section is not None
    (table,) = section.tables
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_structure_is_that_of_the_masks(typical: Run) -> None:
    rows = _structure_rows(typical)
    names = [row["configuration"] for row in rows if row["configuration"]]
    assert names == ["static 5%", "static 20%", "SET 5%", "SET 20%"]
    assert {row["layer"] for row in rows} == {"hidden1", "hidden2"}  # the output is full
    named = read_run(typical).named
    mine = named.index[named["label"] == "SET 20%"]
    index = typical.masks.index()
    row = next(row for k, row in enumerate(rows) if row["configuration"] == "SET 20%")
    runs = [
        [
            typical.masks.load(trial, step)["hidden1"].toarray()
            for step in sorted(set(index.loc[index["trial_id"] == trial, "step"]))
        ]
        for trial in mine
    ]
    first = np.array([snapshots[0] for snapshots in runs])
    last = np.array([snapshots[-1] for snapshots in runs])
    degrees = last.sum(axis=2)
    assert row["density"] == f"{100 * last.mean():.3g}%"
    spread = degrees.std(axis=1).mean()
    assert row["connections in, mean ± sd"] == f"{degrees.mean():.1f} ± {spread:.1f}"
    assert row["changed (Hamming)"] == f"{(first ^ last).mean():.3f}"
    jaccard = [(a ^ b).sum() / (a | b).sum() for a, b in zip(first, last, strict=True)]
    assert row["changed (Jaccard)"] == f"{np.mean(jaccard):.3f}"
    union = np.mean([np.any(snapshots, axis=0).mean() for snapshots in runs])
    assert row["at any time"] == f"{100 * union:.3g}%"


def test_structure_reads_a_bounded_sample_and_says_so(
    typical: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.report_structure, "TRIALS_READ", 4)
    monkeypatch.setattr(sweeps.report_structure, "SNAPSHOTS_READ", 2)
    section = structure_section(read_run(typical))
    assert section is not None
    assert "Read from 4 of 8 trials" in section.intro
    assert any("in 2 snapshots a trial" in note for note in section.notes)
    assert [row["trials"] for row in _structure_rows(typical) if row["trials"]] == ["1"] * 4


def test_failed_trials_are_no_part_of_structure(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    add_trial(run, configuration("set", 0.2, 0))
    add_trial(run, configuration("set", 0.2, 1), state="failed", reason="nan")
    assert [row["trials"] for row in _structure_rows(run) if row["trials"]] == ["1"]


def test_dense_networks_alone_have_no_section_of_structure(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    assert structure_section(read_run(run)) is None
    add_trial(run, configuration("dense", None, 0))
    assert structure_section(read_run(run)) is None


def test_a_single_snapshot_has_not_changed(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    add_trial(run, configuration("set", 0.2, 0), until=0)
    assert {row["changed (Hamming)"] for row in _structure_rows(run)} == {"–"}
