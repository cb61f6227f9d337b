"""Importing into OUT: names and steps, what is there already, what is refused, what dies midway."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_networks import assert_holds, content, mlp, write_set

from storage import InputError, Run
from storage.import_pattern import Pattern
from storage.import_sources import find_snapshots
from storage.importers import ImportOptions, import_networks, imported_id
from topology.pairwise import DistanceSpec, run_distances

SHARED = Path(
    os.environ.get("TOPOSWEEP_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
)
PUBLISHED = SHARED / "published-topologies"


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """Two networks at two epochs each."""
    folder = tmp_path / "nets"
    for name, seed in (("a", 0), ("b", 10)):
        for epoch in (0, 5):
            write_set(folder / name / f"epoch_{epoch:03d}", mlp(seed + epoch))
    return folder


EXPECTED = {(name, epoch): mlp(seed + epoch) for name, seed in (("a", 0), ("b", 10))
            for epoch in (0, 5)}  # fmt: skip


def test_an_imported_run_reads_as_any_other(nets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = import_networks([nets], out, versions={"numpy": "2"})
    assert_holds(out, EXPECTED)
    run = Run.open(out)
    assert (run.study, run.info["versions"]) == ("out", {"numpy": "2"})
    trials = run.trials()
    assert sorted(trials["imported_name"]) == ["a", "b"]
    assert set(trials["state"]) == {"completed"}
    assert set(trials["imported_format"]) == {"set-npz"}
    record = run.record(imported_id("b"))
    assert (record.steps_per_epoch, record.total_steps) == (1, 5)
    last = EXPECTED["b", 5].values()
    density = sum(m.sum() for m in last) / sum(m.size for m in last)
    assert record.metrics == {"density": pytest.approx(density)}
    assert run.verify() == []
    assert [(t.name, t.added, t.present) for t in result.trials] == [
        ("a", [0, 5], 0),
        ("b", [0, 5], 0),
    ]
    index = run.masks.index()
    assert list(index["steps_per_epoch"].unique()) == [1]
    chosen = list(run.masks.iter("imported_name == 'a' and epoch > 0"))
    assert [(trial_id, step) for trial_id, step, _ in chosen] == [(imported_id("a"), 5)]


def test_a_trial_id_does_not_depend_on_where_a_network_lies(nets: Path, tmp_path: Path) -> None:
    import_networks([nets], tmp_path / "one")
    (tmp_path / "far" / "away").mkdir(parents=True)
    nets.rename(tmp_path / "far" / "away" / "moved")
    import_networks([tmp_path / "far" / "away" / "moved" / n for n in "ba"], tmp_path / "two")
    one, two = (sorted(Run.open(tmp_path / n).records()) for n in ("one", "two"))
    assert one == two == sorted([imported_id("a"), imported_id("b")])


def test_the_same_again_adds_nothing_and_changes_no_file(nets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_networks([nets], out)
    before = content(out)
    result = import_networks([nets, nets / "a", nets / "b" / "epoch_005"], out)
    assert [(t.added, t.present) for t in result.trials] == [([], 2), ([], 2)]
    assert content(out) == before


def test_more_sources_and_later_epochs_add_only_what_is_new(nets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_networks([nets / "a" / "epoch_000"], out)
    assert Run.open(out).record(imported_id("a")).total_steps == 0
    result = import_networks([nets], out)
    assert [(t.added, t.present) for t in result.trials] == [([5], 1), ([0, 5], 0)]
    assert_holds(out, EXPECTED)
    assert Run.open(out).record(imported_id("a")).total_steps == 5


def test_other_connections_under_a_key_that_is_taken_are_refused(
    nets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    import_networks([nets], out)
    before = content(out)
    write_set(nets / "b" / "epoch_005", mlp(77))
    write_set(nets / "b" / "epoch_009", mlp(78))
    with pytest.raises(InputError, match=r"epoch_005.*'b'.*step 5.*weight_l0"):
        import_networks([nets], out)
    assert content(out) == before
    options = ImportOptions(name_prefix="new-")
    import_networks([nets / "b" / "epoch_005"], out, options)
    assert_holds(out, {**EXPECTED, ("new-b", 5): mlp(77)})


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (ImportOptions(layers="0:2"), "expected weight_l0 8x6, weight_l1 7x8, weight_l2"),
        (ImportOptions(labelled_outputs=False), r"\(labelled\)"),
        (ImportOptions(steps_per_epoch=3), "steps per epoch"),
    ],
)
def test_what_is_read_otherwise_than_before_is_refused(
    nets: Path, tmp_path: Path, options: ImportOptions, part: str
) -> None:
    import_networks([nets], tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(InputError, match=part):
        import_networks([nets], tmp_path / "out", options)
    assert content(tmp_path / "out") == before


class Killed(BaseException):
    """Nobody handles it."""


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
def test_an_import_that_died_is_completed_by_the_same_command(
    nets: Path, tmp_path: Path, writes: int
) -> None:
    def die(done: int, total: int, what: str) -> None:
        if what == "written" and done == writes:
            raise Killed

    out = tmp_path / "out"
    with pytest.raises(Killed):
        import_networks([nets], out, progress=die)
    result = import_networks([nets], out)
    assert sum(len(t.added) for t in result.trials) == 4 - writes
    assert_holds(out, EXPECTED)
    assert {r.state for r in Run.open(out).records().values()} == {"completed"}


def test_a_file_that_changes_between_check_and_write_is_refused(nets: Path, tmp_path: Path) -> None:
    def change(done: int, total: int, what: str) -> None:
        if (what, done) == ("checked", total):
            write_set(nets / "b" / "epoch_005", mlp(99))

    with pytest.raises(InputError, match="changed while"):
        import_networks([nets], tmp_path / "out", progress=change)


def test_two_networks_of_one_name_are_refused(nets: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "more" / "a" / "epoch_000", mlp(50))
    with pytest.raises(InputError, match=r"second network named 'a'.*--name-prefix"):
        import_networks([nets, tmp_path / "more"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_of_trained_trials_takes_no_imports(nets: Path, tmp_path: Path) -> None:
    Run.create(tmp_path / "out", "mine", "name: mine\ndata: digits\n", {})
    with pytest.raises(InputError, match=r"holds trials of the study 'mine'"):
        import_networks([nets], tmp_path / "out")


@pytest.mark.parametrize(
    ("path", "name", "step", "epoch"),
    [
        ("net.pt", "net", 0, 0),
        ("model_epoch12.pt", "runs", 120, 12),
        ("vgg_epoch_3.safetensors", "vgg", 30, 3),
        ("vgg-ep3-acc0.93.pth", "vgg-acc0.93", 30, 3),
        ("net_step250.pt", "net", 250, 25),
        ("net.iter7.pt", "net", 7, 0),
        ("epoch=4.pt", "runs", 40, 4),
        ("resnet18.pt", "resnet18", 0, 0),
        ("set_seed3.pt", "set_seed3", 0, 0),
        ("sheep12.pt", "sheep12", 0, 0),
        ("weights.safetensors", "runs", 0, 0),
        ("masks.npz", "runs", 0, 0),
    ],
)
def test_names_and_steps_of_whole_networks(
    tmp_path: Path, path: str, name: str, step: int, epoch: int
) -> None:
    file = tmp_path / "runs" / path
    file.parent.mkdir()
    file.touch()
    (found,) = find_snapshots([file], steps_per_epoch=10)
    assert (found.name, found.step, found.epoch) == (name, step, epoch)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("{trial}/step_{step}/{layer}.npz", "/x/net_1/step_30/fc.npz", ("net_1", 30, "step", "fc")),
        ("{trial}/ep{epoch}.pt", "/x/net/ep007.pt", ("net", 7, "epoch", None)),
        ("{trial}_{epoch}.pt", "/x/net_1_20.pt", ("net_1", 20, "epoch", None)),
        ("{step}/{layer}.npy", "/x/net/9/fc.npy", ("net", 9, "step", "fc")),
        ("{trial}/*/{layer}.npy", "/x/net/any/fc.npy", ("net", 0, "epoch", "fc")),
        ("{trial}/weights.pt", "/x/net/weightsxpt", None),
        ("{trial}/step_{step}/{layer}.npz", "/x/net/step_x/fc.npz", None),
        ("{trial}/a/b/c/{layer}.npz", "/x/l.npz", None),
    ],
)
def test_what_a_pattern_says(pattern: str, path: str, expected: Any) -> None:
    match = Pattern(pattern).match(Path(path))
    found = match and (match.name, match.count, match.unit, match.layer)
    assert found == expected


@pytest.mark.parametrize(
    "pattern",
    ["{name}/{layer}.npz", "{trial}/{trial}.pt", "{step}{epoch}.pt", "a//b.pt", "", "{trial", "/a"],
)
def test_a_wrong_pattern_says_what_one_is(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=r"--pattern.*\{trial\}"):
        find_snapshots([tmp_path], pattern)


def _gap(folder: Path) -> None:
    (write_set(folder / "net" / "epoch_0", mlp()) / "weight_l1.npz").unlink()


def _shapes(folder: Path) -> None:
    write_set(folder / "net" / "epoch_0", mlp())
    write_set(folder / "net" / "epoch_1", mlp(sizes=(6, 8, 9, 3)))


def _fewer(folder: Path) -> None:
    write_set(folder / "net" / "epoch_0", mlp())
    write_set(folder / "net" / "epoch_1", mlp(sizes=(6, 8, 7)))


def _empty_epoch(folder: Path) -> None:
    write_set(folder / "net" / "epoch_0", mlp())
    (folder / "net" / "epoch_1").mkdir()


def _no_chain(folder: Path) -> None:
    masks = mlp() | {"weight_l1": np.ones((7, 9), dtype=np.bool_)}
    write_set(folder / "net" / "epoch_0", masks)


def _dense(folder: Path) -> None:
    place = write_set(folder / "net" / "epoch_0", mlp())
    np.savez(place / "weight_l1.npz", np.ones((9, 7)))


def _twice(folder: Path) -> None:
    for name in ("best.pt", "last.pt"):
        torch.save({"fc.weight": torch.eye(3)}, folder / name)


def _two_steps(folder: Path) -> None:
    torch.save({"fc.weight": torch.eye(3)}, folder / "net_epoch1_step20.pt")


def _strange(folder: Path) -> None:
    (folder / "net.onnx").touch()


def _nothing(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (_gap, r"epoch_0: expected weight_l1\.npz"),
        (_shapes, r"epoch_1: has .*weight_l1 9x8.*: expected .*weight_l1 7x8"),
        (_fewer, r"epoch_1: has .*: expected .*weight_l2 3x7 \(labelled\)"),
        (_empty_epoch, r"epoch_1: expected weight_l0\.npz"),
        (_no_chain, r"weight_l1 has 9 inputs: expected as many of the 8 neurons of weight_l0"),
        (_dense, r"weight_l1\.npz: .*expected a scipy sparse matrix"),
        (_twice, r"last\.pt: .*best\.pt"),
        (_two_steps, r"net_epoch1_step20\.pt: .*--pattern"),
        (_strange, r"holds no network: expected .*\.safetensors"),
        (_nothing, r"holds no network"),
    ],
)
def test_wrong_sources_cost_one_line_and_leave_nothing(
    tmp_path: Path, make: Any, part: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    with pytest.raises(InputError, match=part) as refused:
        import_networks([source], tmp_path / "out")
    assert "source" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "options", "part"),
    [
        ("nowhere", ImportOptions(), "nowhere: is not there"),
        ("x.onnx", ImportOptions(), r"x\.onnx: expected a file that ends in"),
        ("nets", ImportOptions(pattern="{trial}/{layer}.foo"), "found none"),
        ("nets", ImportOptions(layers="weight_l9"), "weight_l9.*expected one of weight_l0"),
        ("nets", ImportOptions(layers="5:"), "leaves none"),
        ("nets", ImportOptions(layers="weight_l0,weight_l0"), "twice"),
        ("nets", ImportOptions(layers="weight_l1,weight_l0"), "expected as many"),
        ("nets", ImportOptions(transpose=True), "--pattern"),
        ("nets", ImportOptions(bias_row="last"), "--pattern"),
        ("nets", ImportOptions(steps_per_epoch=0), "--steps-per-epoch 0"),
        ("nets", ImportOptions(name_prefix="a\nb"), "can be printed"),
        ("x.npy", ImportOptions(), "--pattern"),
    ],
)  # fmt: skip
def test_wrong_options_cost_one_line_and_leave_nothing(
    nets: Path, tmp_path: Path, source: str, options: ImportOptions, part: str
) -> None:
    (tmp_path / "x.onnx").touch()
    np.save(tmp_path / "x.npy", np.eye(3))
    with pytest.raises(InputError, match=part):
        import_networks([tmp_path / source], tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published masks are not here")
def test_the_published_networks_have_the_published_distances(tmp_path: Path) -> None:
    """Imported and compared by `reference`: each layer's distance, to the last bit."""
    out = tmp_path / "out"
    import_networks([PUBLISHED], out, ImportOptions(layers="weight_l0,weight_l1,weight_l2"))
    expected = json.loads((PUBLISHED / "expected_nnstd.json").read_text())
    order = [imported_id(name) for name in expected["nets"]]
    for epoch, matrix in expected["distance"].items():
        spec = DistanceSpec(method="reference", steps=f"{int(epoch)}ep")
        run_distances(out, "published", spec, in_process=True)
        for k, layer in enumerate(expected["layers"]):
            found = Run.open(out).distances("published", column=layer)
            keys = [(trial_id, int(epoch)) for trial_id in order]
            np.testing.assert_array_equal(
                found.loc[keys, keys].to_numpy(), np.array(matrix)[:, :, k]
            )
