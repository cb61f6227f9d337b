import html
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import add_distances, add_trial, configuration, new_run

import sweeps.report_moments
from storage import LayerMask, Run, expected_distances, load_distances
from storage.distances import DistanceStore
from storage.importers import ImportOptions, import_networks
from sweeps.configurations import configurations
from sweeps.report import build_report
from sweeps.report_chance import read_chance
from sweeps.report_data import read_run, square_groups
from sweeps.report_methods import SEE_METHODS, add_epochs
from sweeps.report_moments import Course, course_of
from sweeps.report_page import Picture, Section
from sweeps.report_sets import method_name
from topology import DistanceSpec, run_distances
from topology.plot_style import styles


def text_of(index: Path) -> str:
    page = re.sub(r"<style.*?</style>", "", index.read_text("utf-8"), flags=re.S)
    return html.unescape(re.sub(r"<[^>]+>", "|", page))


def files(index: Path) -> set[str]:
    return {path.name for path in index.parent.glob("*.png")}


def courses_of(run: Run) -> list[Course]:
    """What the report cuts into moments, without drawing it."""
    data = read_run(run)
    found = []
    for stored in [stored for stored in data.distances if stored.against is None]:
        chance = read_chance(data, stored.name, Section("", ""))
        method = method_name(DistanceStore(run.out, stored.name).read_spec())
        for square in square_groups(data, stored):
            expected = chance.of_pairs(square) if chance else {}
            found.append(course_of(stored.name, method, "", square, expected))
    return found


def by_epoch(run: Run) -> tuple[dict[str, Section], Section | None]:
    """What there is epoch by epoch, in the sets' own sections and in that of several methods."""
    courses = courses_of(run)
    sections = {course.name: Section("", "") for course in courses}
    looks = styles(configurations(read_run(run).named))
    return sections, add_epochs(sections, courses, looks)


def pictures(section: Section | None) -> dict[str, Picture]:
    assert section is not None
    return {picture.file: picture for picture in section.pictures}


@pytest.fixture(scope="module")
def typical(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four trials at four epochs, with their level of chance."""
    run = new_run(tmp_path_factory.mktemp("typical") / "out")
    for method in ("static", "set"):
        for seed in range(2):
            add_trial(run, configuration(method, 0.1, seed))
    run_distances(run.out, "all", DistanceSpec(steps="all", chance=2), in_process=True)
    return run


@pytest.fixture
def copy(typical: Run, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(typical.out, tmp_path / "copy"))


def test_moments_have_the_stored_distances_between_snapshots_of_one_epoch(typical: Run) -> None:
    (course,) = courses_of(typical)
    assert [moment.name for moment in course.moments] == [f"epoch {k}" for k in (0, 4, 8, 12)]
    assert course.columns == ("network", "hidden1", "hidden2")  # the output is the same in all
    for moment in course.moments:
        keys = list(moment.snapshots)
        assert [key[0] for key in keys] == course.networks["trial_id"].tolist()
        assert moment.pairs == 6
        for column in course.columns:
            stored = load_distances(typical.out, "all", column).loc[keys, keys].to_numpy()
            np.testing.assert_array_equal(moment.matrices[column], stored)
            mean = stored.sum() / (4 * 3)
            chance = np.nanmean(expected_distances(typical.out, "all", column).loc[keys, keys])
            assert moment.mean(column) == pytest.approx(mean)
            assert moment.mean_expected(column) == pytest.approx(chance)
            assert moment.note(column) == f"mean {mean:.3f}\nby chance {chance:.3f}"


def test_a_set_of_several_epochs_has_a_picture_and_means_by_epoch(typical: Run) -> None:
    sections, methods = by_epoch(typical)
    assert methods is None
    assert list(pictures(sections["all"])) == ["distances-all-epochs.png"]
    (course,), (table,) = courses_of(typical), sections["all"].tables
    for row, moment in zip(table.rows, course.moments, strict=True):
        means = [moment.mean(column) for column in course.columns]
        share = means[0] / moment.mean_expected("network")
        name = moment.name.removeprefix("epoch ")
        assert row == [name, "6", *(f"{mean:.3f}" for mean in means), f"{share:.2f}"]


def test_sets_of_one_epoch_and_one_method_have_neither(copy: Run) -> None:
    shutil.rmtree(copy.out / "distances" / "all")
    add_distances(copy, "first", steps="first")
    add_distances(copy, "last", steps="last")
    add_distances(copy, "from-first", steps="all", against="first")
    sections, methods = by_epoch(copy)
    assert methods is None
    assert not any(section.pictures or section.notes for section in sections.values())


def test_methods_that_have_the_same_snapshots_come_side_by_side(copy: Run) -> None:
    add_distances(copy, "published", steps="all", method="reference")
    add_distances(copy, "together", steps=["0ep", "12ep"], method="joint", shared_indices=True)
    sections, methods = by_epoch(copy)
    assert methods is not None
    found = pictures(methods)
    assert list(found) == [
        "methods-0-network.png",
        "methods-1-hidden1.png",
        "methods-2-hidden2.png",
    ]
    assert all("Grey: not there." in picture.caption for picture in found.values())
    assert all(section.notes == [SEE_METHODS] for section in sections.values())
    assert not any(section.pictures for section in sections.values())
    (table,) = methods.tables
    courses = {course.method: course for course in courses_of(copy)}
    assert list(courses) == ["layerwise", "reference", "joint, shared indices"]
    assert len(table.rows) == 4 + 4 + 2
    for method, course in courses.items():
        for moment in course.moments:
            means = [f"{moment.mean(column):.3f}" for column in course.columns]
            row = [method, moment.name.removeprefix("epoch "), "6", *means]
            assert row in [row[:-1] for row in table.rows]


def test_sets_of_one_epoch_each_make_up_a_row(copy: Run) -> None:
    for epoch in (0, 12):
        add_distances(copy, f"ref-{epoch}", steps=[f"{epoch}ep"], method="reference")
    sections, methods = by_epoch(copy)
    assert "methods-1-hidden1.png" in pictures(methods)
    assert methods is not None
    (table,) = methods.tables
    assert [row[:2] for row in table.rows] == [
        ["reference", "0"], ["layerwise", "0"], ["reference", "12"], ["layerwise", "12"]
    ]  # fmt: skip
    # Chance is known of the one method only.
    assert [row[-1] == "–" for row in table.rows] == [True, False, True, False]
    # The set of all epochs has two that the other method lacks: it keeps its own picture.
    assert list(pictures(sections["all"])) == ["distances-all-epochs.png"]
    assert SEE_METHODS in sections["ref-0"].notes


def test_one_epoch_in_common_makes_one_picture_of_all_layers(copy: Run) -> None:
    add_distances(copy, "ref", steps="last", method="reference")
    (picture,) = pictures(by_epoch(copy)[1]).values()
    assert picture.file == "methods.png"
    assert picture.title == "Distances by each method, epoch 12"


def test_other_networks_are_never_beside_each_other(copy: Run) -> None:
    where = "method_name == 'set'"
    add_distances(copy, "sets", steps="last", method="reference", where=where)
    assert by_epoch(copy)[1] is None
    add_distances(copy, "sets-joint", steps="last", method="joint", where=where)
    add_distances(copy, "ref", steps="last", method="reference")
    assert [picture.title for picture in pictures(by_epoch(copy)[1]).values()] == [
        "Distances by each method, epoch 12, 4 networks",
        "Distances by each method, epoch 12, 2 networks",
    ]


def test_trials_that_stopped_early_are_grey_later(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    for seed in range(4):
        until = 4 if seed == 3 else 12
        add_trial(run, configuration("set", 0.1, seed), state="stopped", until=until)
    add_distances(run, "all", steps="all")
    (course,) = courses_of(run)
    assert [len(moment.snapshots) for moment in course.moments] == [4, 4, 3, 3]
    late = course.moments[3]
    (gone,) = np.flatnonzero(np.isnan(late.matrices["network"]).all(axis=1))
    assert course.networks["trial_id"][gone] not in dict(late.snapshots)
    assert late.pairs == 3
    (picture,) = pictures(by_epoch(run)[0]["all"]).values()
    assert "Grey: not there." in picture.caption


def test_many_epochs_layers_and_networks_are_shown_in_part(
    typical: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps.report_moments, "NETWORKS_SHOWN", 2)
    monkeypatch.setattr(sweeps.report_moments, "COLUMNS_SHOWN", 2)
    monkeypatch.setattr("sweeps.report_epochs.EPOCHS_SHOWN", 3)
    (course,) = courses_of(typical)
    assert course.columns == ("network", "hidden1")
    assert course.networks["label"].tolist() == ["static 10%", "SET 10%"]
    for moment in course.moments:
        keys = list(moment.snapshots)
        stored = load_distances(typical.out, "all").loc[keys, keys].to_numpy()
        np.testing.assert_array_equal(moment.matrices["network"], stored)
    (picture,) = pictures(by_epoch(typical)[0]["all"]).values()
    assert "Shown are 3 of 4 epochs." in picture.caption
    assert "Shown are 2 of 4 networks" in picture.caption


def test_a_set_whose_epochs_are_compared_in_part_has_no_picture_of_its_own(
    copy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.report_methods.EPOCHS_SHOWN", 2)
    add_distances(copy, "ref", steps="all", method="reference")
    add_distances(copy, "ref-again", steps="last", method="reference")
    sections, methods = by_epoch(copy)
    (picture, *_) = pictures(methods).values()
    assert "Shown are 2 of 4 epochs." in picture.caption
    assert [section.notes for section in sections.values()] == [[SEE_METHODS]] * 3


def test_snapshots_within_an_epoch_are_apart(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    rng = np.random.default_rng(0)
    for k in range(3):  # no record tells how many steps an epoch has
        for step, epoch in ((0, 0), (5, 0), (10, 1)):
            layers = [LayerMask("l0", rng.random((8, 6)) < 0.5, "hidden")]
            run.masks.append(f"{k:012x}", "imported", step, epoch, 1, layers)
    add_distances(run, "all", steps="all")
    (course,) = courses_of(run)
    assert [moment.name for moment in course.moments] == ["step 0", "step 5", "step 10"]


def test_imported_networks_go_by_their_names_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for epoch in (0, 20):
            folder = tmp_path / "nets" / name / f"epoch_{epoch}"
            folder.mkdir(parents=True)
            for k, shape in enumerate(((8, 6), (8, 8))):
                np.save(folder / f"l{k}.npy", rng.random(shape) < 0.4)
    options = ImportOptions(pattern="{trial}/epoch_{epoch}/{layer}.npy")
    import_networks([tmp_path / "nets"], tmp_path / "out", options)
    run = Run.open(tmp_path / "out")
    for method in ("layerwise", "reference"):
        add_distances(run, method, steps="all", method=method)
    index = build_report(run)
    page = text_of(index)
    assert {"methods-0-network.png", "methods-1-l0.png", "methods-2-l1.png"} <= files(index)
    assert read_run(run).named["label"].tolist() == ["a", "b", "c"]
    assert "3: imported" in page
    assert not re.search(r"Configuration|by configuration|imported a|imported_name|\|seed\|", page)
