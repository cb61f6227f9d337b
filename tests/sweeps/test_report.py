import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from synthetic_run import (
    EPOCHS,
    STEPS_PER_EPOCH,
    add_distances,
    add_trial,
    configuration,
    new_run,
    typical_run,
)

import sweeps.report
import sweeps.report_data
from storage import LayerMask, Run, load_distances
from storage.distances import list_distances
from sweeps.report import build_report
from sweeps.report_data import evolution_groups, read_run, square_groups

VOID = {"meta", "img", "br", "hr", "link", "input"}
ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """A page taken apart; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            assert not name.startswith("on")
            found = {"src": self.sources, "href": self.links, "id": self.ids}.get(name)
            if found is not None:
                found.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def read(index: Path) -> Page:
    html = index.read_text("utf-8")
    page = Page(html)
    # Nothing from outside, no script, and every link leads somewhere in the page.
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert "script" not in page.tags
    assert not re.search(r"https?://|@import|url\(", html)
    assert len(page.ids) == len(set(page.ids))
    return page


@pytest.fixture(scope="module")
def typical(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """15 trials with all kinds of distances."""
    run = typical_run(
        tmp_path_factory.mktemp("typical") / "out", description="A <b>typical</b> run"
    )
    add_distances(run, "final", steps="last")
    add_distances(run, "all", steps="all")
    add_distances(run, "from-first", steps="all", against="first")
    add_distances(run, "to-last", steps="all", against="last")
    return run


@pytest.fixture(scope="module")
def index(typical: Run) -> Path:
    """Its report, built once; the test of building again says that once is enough."""
    return build_report(typical)


def test_the_page_has_every_trial_picture_and_set_of_distances(typical: Run, index: Path) -> None:
    assert index == typical.out / "report" / "index.html"
    page = read(index)
    names = {
        "accuracy.png", "final-accuracy.png", "paired-differences.png", "cost.png",
        "distances-final-heatmap.png", "distances-final-embedding.png",
        "distances-all-heatmap.png", "distances-all-embedding.png", "distances-all-epochs.png",
        "distances-from-first-evolution.png", "distances-to-last-evolution.png",
    }  # fmt: skip
    assert {path.name for path in index.parent.iterdir()} == names | {"index.html"}
    assert len(page.sources) == len(names)
    for name in names:
        assert (index.parent / name).read_bytes().startswith(b"\x89PNG")
    assert all(trial_id in page.text for trial_id in typical.records())
    assert "15 completed" in page.text
    assert "A <b>typical</b> run" in page.text
    assert "Not everything is here" not in page.text


def test_the_table_of_final_accuracies_is_mean_interval_and_deviation_over_seeds(
    typical: Run, index: Path
) -> None:
    page = read(index)
    trials = typical.trials()
    mine = trials[(trials["method_name"] == "set") & (trials["method_density"] == 0.05)]
    accuracy = 100 * mine["final_test_accuracy"].to_numpy()
    row = next(row for row in page.rows if row[:2] == ["SET 5%", "3"])
    deviation = np.sqrt(((accuracy - accuracy.mean()) ** 2).sum() / 2)
    half = scipy.stats.t.ppf(0.975, 2) * deviation / np.sqrt(3)
    assert row[2:7] == [
        f"{accuracy.mean():.2f}", f"± {half:.2f}", f"{deviation:.2f}",
        f"{accuracy.min():.2f}", f"{accuracy.max():.2f}",
    ]  # fmt: skip


def test_heatmaps_get_the_stored_distances_in_the_order_of_configurations(typical: Run) -> None:
    data = read_run(typical)
    (stored,) = [stored for stored in data.distances if stored.name == "all"]
    (group,) = square_groups(data, stored)
    assert list(group.matrices) == ["network", "hidden1", "hidden2", "output"]
    order = list(dict.fromkeys(group.rows["label"]))
    assert order == ["static 5%", "static 20%", "SET 5%", "SET 20%"]
    keys = list(zip(group.rows["trial_id"], group.rows["step"], strict=True))
    for column, matrix in group.matrices.items():
        expected = load_distances(typical.out, "all", column).loc[keys, keys].to_numpy()
        assert (matrix == expected).all()
    for _, trial in group.rows.groupby("trial_id"):
        assert trial["step"].is_monotonic_increasing


@pytest.mark.parametrize("name", ["from-first", "to-last"])
def test_evolution_shows_the_stored_distances_at_their_epochs(typical: Run, name: str) -> None:
    data = read_run(typical)
    (stored,) = [stored for stored in data.distances if stored.name == name]
    (group,) = evolution_groups(data, stored)
    for column in ("network", "hidden1", "hidden2"):
        expected = load_distances(typical.out, name, column)[column]
        keys = list(zip(group.rows["trial_id"], group.rows["step"], strict=True))
        assert group.distances[column].tolist() == [expected[key] for key in keys]
    assert (group.rows["epoch"] * STEPS_PER_EPOCH == group.rows["step"]).all()


def test_tables_of_distances_give_the_means_of_their_pairs(typical: Run, index: Path) -> None:
    page = read(index)
    square = load_distances(typical.out, "final")
    labels = read_run(typical).named["label"]
    ids = square.index.get_level_values("trial_id")
    values = square.to_numpy()
    pairs = [(a, b) for a in range(len(ids)) for b in range(a)]
    same = [values[a, b] for a, b in pairs if labels[ids[a]] == labels[ids[b]]]
    rows = [row for row in page.rows if row[0] == "same configuration, another trial"]
    assert [str(len(same)), f"{np.mean(same):.3f}"] in [row[1:3] for row in rows]
    within = [values[a, b] for a, b in pairs if labels[ids[a]] == labels[ids[b]] == "SET 5%"]
    assert f"{np.mean(within):.3f}" in [row[3] for row in page.rows if row[0] == "SET 5%"]


def test_building_again_changes_no_byte_and_removes_pictures_of_before(
    typical: Run, index: Path
) -> None:
    first = {p.name: p.read_bytes() for p in index.parent.iterdir()}
    (typical.report_folder / "distances-old-heatmap.png").write_bytes(b"old")
    second = {p.name: p.read_bytes() for p in build_report(Run.open(typical.out)).parent.iterdir()}
    assert first == second


def test_sections_come_in_the_order_of_the_study_file(typical: Run, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(typical.out, tmp_path / "copy"))
    run.study_path.write_text("name: x\ndistances: {to-last: {}, final: {}}\n")
    ids = read(build_report(run)).ids
    found = [i.removeprefix("distances-") for i in ids if i.startswith("distances-")]
    assert found == ["to-last", "final", "all", "from-first"]


def test_a_large_set_is_shown_as_a_sample_that_says_so(
    typical: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typical = Run.open(shutil.copytree(typical.out, tmp_path / "copy"))
    monkeypatch.setattr(sweeps.report_data, "SNAPSHOTS_SHOWN", 20)
    monkeypatch.setattr(sweeps.report, "TRIALS_SHOWN", 7)
    data = read_run(typical)
    (stored,) = [stored for stored in data.distances if stored.name == "all"]
    (group,) = square_groups(data, stored)
    assert group.total == 48
    assert 16 <= len(group.rows) <= 20  # 4 configurations at 4 steps, each with its share
    assert len(group.rows[["label", "step"]].drop_duplicates()) == 16
    keys = list(zip(group.rows["trial_id"], group.rows["step"], strict=True))
    expected = load_distances(typical.out, "all").loc[keys, keys].to_numpy()
    assert (group.matrices["network"] == expected).all()
    page = read(build_report(typical))
    assert f"Shown are {len(group.rows)} of 48 snapshots" in page.text
    assert re.search(r"Shown are [567] of 15 trials", page.text)


def test_the_lines_in_the_footer_run(index: Path) -> None:
    html = index.read_text("utf-8")
    code = re.search("<pre>(.*?)</pre>", html, re.DOTALL)
    assert code is not None
    lines = code[1].replace("&#39;", "'").replace("&#34;", '"')
    exec(compile(lines, "footer", "exec"), {})


def test_an_empty_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    page = read(build_report(new_run(tmp_path / "out")))
    assert "none yet" in page.text
    assert "no finished distances" in page.text
    assert not page.sources


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a & b", "\"quoted'", "{{ page }}"])
def test_names_are_shown_letter_by_letter(tmp_path: Path, name: str) -> None:
    run = new_run(tmp_path / "out", name, description=name)
    config = configuration(name, 0.1, 0)
    add_trial(run, config)
    add_trial(run, {**config, "epochs": 1}, state="failed", reason=f"{name} went wrong")
    page = read(build_report(run))
    assert page.text.count(name) >= 4


def test_failed_stopped_and_waiting_trials_are_named_with_their_reasons(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    done = add_trial(run, configuration("set", 0.1, 0))
    failed = add_trial(run, configuration("set", 0.1, 1), state="failed", until=0,
                       reason="loss is nan at epoch 3, step 66")  # fmt: skip
    stopped = add_trial(run, configuration("set", 0.1, 2), state="stopped", until=4)
    waiting = add_trial(run, configuration("set", 0.1, 3), state="pending", until=0)
    page = read(build_report(run))
    assert "4: 1 completed, 1 stopped, 1 pending, 1 failed" in page.text
    assert f"trial {failed} (SET 10%) failed: loss is nan at epoch 3, step 66" in page.text
    states = {row[0]: row[3] for row in page.rows if re.fullmatch("[0-9a-f]{12}", row[0])}
    assert states == {done: "completed", failed: "failed", stopped: "stopped", waiting: "pending"}
    accuracies = [row[1] for row in page.rows if row[0] == "SET 10%" and row[1] != "hidden1"]
    assert accuracies == ["1", "1"]  # of the completed one, and its cost


def test_many_failures_are_listed_up_to_a_number(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    for seed in range(25):
        add_trial(run, configuration("set", 0.1, seed), state="failed", reason="no", until=0)
    page = read(build_report(run))
    assert page.text.count("failed: no") == 20
    assert "5 more trials failed" in page.text


def test_one_trial_of_one_seed_has_no_spread(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    add_trial(run, configuration("set", 0.1, 0))
    add_distances(run, "evolution", steps="all", against="first")
    page = read(build_report(run))
    assert "no spread" in page.text
    row = next(row for row in page.rows if row[:2] == ["SET 10%", "1"])
    assert row[3] == "–"


def test_masks_without_trials_and_metrics_are_compared_all_the_same(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    rng = np.random.default_rng(0)
    for k in range(3):
        layers = [LayerMask("l0", rng.random((8, 6)) < 0.5, "hidden")]
        run.masks.append(f"{k:012x}", "imported", 0, 0, 1, layers)
    add_distances(run, "final")
    page = read(build_report(run))
    assert "No accuracy on test data" in page.text
    assert "3 masks only" in page.text
    assert len(page.sources) == 2
    assert "000000000002" in page.text


def test_metrics_that_are_not_numbers_leave_gaps(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    trial_id = add_trial(run, configuration("set", 0.1, 0), metrics=False)
    values = [0.5, float("nan"), None, 0.8]
    rows = [{"step": 10 * k, "epoch": k, "test_accuracy": v} for k, v in enumerate(values, 1)]
    run.metrics.append(trial_id, run.study, 1, rows)
    record = run.record(trial_id)
    record.metrics = {"test_accuracy": float("nan")}
    run.write_record(record)
    page = read(build_report(run))
    assert len(page.sources) == 1
    assert "no final accuracies" in page.text


def test_networks_that_cannot_be_compared_have_pictures_of_their_own(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    for seed in range(3):
        add_trial(run, configuration("set", 0.1, seed))
        deeper: dict[str, Any] = configuration("set", 0.1, seed)
        deeper["model"]["hidden"] = [24, 24, 24]
        add_trial(run, deeper, sizes=(16, 24, 24, 24, 10))
    alone = configuration("static", 0.1, 0)
    add_trial(run, {**alone, "model": {"name": "mlp", "hidden": [8]}}, sizes=(16, 8, 10))
    add_distances(run, "final")
    add_distances(run, "evolution", steps="all", against="first")
    folder = build_report(run).parent
    page = read(folder / "index.html")
    assert "Not everything is here" not in page.text
    assert "3 groups that cannot be compared" in page.text
    assert "has one topology only" in page.text
    assert len(list(folder.glob("distances-final-group-*-heatmap.png"))) == 2
    assert len(list(folder.glob("distances-evolution-group-*-evolution.png"))) == 3
    data = read_run(run)
    (final,) = [stored for stored in list_distances(run.out) if stored.name == "final"]
    groups = square_groups(data, final)
    assert sorted(len(group.matrices) for group in groups if len(group.rows) > 1) == [4, 5]


def test_damaged_distances_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = typical_run(tmp_path / "out", seeds=1)
    add_distances(run, "final")
    add_distances(run, "other")
    matrix = run.out / "distances" / "final" / "matrix.parquet"
    matrix.write_bytes(matrix.read_bytes()[:-20])
    page = read(build_report(run))
    assert "Not everything is here" in page.text
    assert "distances final: " in page.text
    assert "matrix.parquet" in page.text
    assert "distances-other" in page.ids
    assert "distances-final" not in page.ids


def test_of_very_many_groups_the_largest_are_shown(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    for width in range(8, 17):
        for seed in range(3 if width == 12 else 2):
            config: dict[str, Any] = configuration("set", 0.5, seed)
            config["model"]["hidden"] = [width]
            add_trial(run, config, sizes=(6, width, 4), until=0)
    add_distances(run, "final")
    folder = build_report(run).parent
    page = read(folder / "index.html")
    assert "9 groups that cannot be compared" in page.text
    assert "Shown are the 6 largest" in page.text
    assert len(list(folder.glob("distances-final-group-*-heatmap.png"))) == 6
    # A group has the number that load_distances knows it by.
    (three,) = {
        int(number)
        for number in re.findall(r"All topologies in one plane, group (\d+)", page.text)
        if len(load_distances(run.out, "final", group=int(number))) == 3
    }
    assert (folder / f"distances-final-group-{three}-embedding.png").exists()


@pytest.mark.parametrize("kind", ["masks", "metrics"])
def test_a_damaged_file_of_a_trial_is_named_and_the_rest_is_shown(
    tmp_path: Path, kind: str
) -> None:
    run = typical_run(tmp_path / "out", seeds=1)
    add_distances(run, "final")
    path = next(path for path in (run.out / kind).rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:50])
    page = read(build_report(run))
    assert "Not everything is here" in page.text
    assert path.name in page.text
    assert all(trial_id in page.text for trial_id in run.records())
    assert "distances-final" in page.ids


def test_distances_of_trials_that_the_run_does_not_have_are_named(tmp_path: Path) -> None:
    run = typical_run(tmp_path / "out", seeds=1)
    add_distances(run, "final")
    lost = run.trials().query("method_name == 'set'")["trial_id"].iloc[0]
    (run.out / "trials" / f"{lost}.json").unlink()
    shutil.rmtree(run.out / "masks" / "staging" / lost)
    page = read(build_report(run))
    assert f"labels.parquet: names trial {lost}" in page.text


def test_many_configurations_of_unknown_methods_fit_on_a_page(tmp_path: Path) -> None:
    run = new_run(tmp_path / "out")
    for method in ("alpha", "beta", "gamma", "delta", "epsilon"):
        for density in np.linspace(0.05, 0.6, 12):
            add_trial(run, configuration(method, float(density), 0), snapshot_every=EPOCHS)
    add_distances(run, "final")
    page = read(build_report(run))
    assert "best 40 of 60 configurations" in page.text
    assert "The legend names the methods" in page.text


def test_a_report_needs_neither_ray_nor_torch_nor_mlflow(tmp_path: Path) -> None:
    run = typical_run(tmp_path / "out", seeds=1)
    add_distances(run, "final")
    code = (
        "import sys; from storage import Run; from sweeps.report import build_report; "
        "build_report(Run.open(sys.argv[1])); "
        "print([m for m in ('ray', 'torch', 'mlflow', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", code, str(run.out)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
    assert not done.stderr
