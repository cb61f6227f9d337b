import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.spatial.distance import squareform

import topology
from storage.distances import DistanceStore, load_distances, verify_distances
from storage.errors import CorruptFile, InputError
from storage.masks import LayerMask, MaskStore
from storage.records import TrialRecord, write_record
from topology import DistanceSpec, nnstd, pairwise, prepare, run_distances, tiles

STEPS_PER_EPOCH = 10


@dataclass
class StoredRun:
    """A run's folder with masks, and the same masks by their key."""

    out: Path
    masks: dict[tuple[str, int], list[np.ndarray]]

    def add(self, trial_id, step, masks, in_group=None, **config):
        groups = in_group or [1] * len(masks)
        roles = ["hidden"] * (len(masks) - 1) + ["output"]
        layers = [
            LayerMask(f"layer{k}", mask, role, group)
            for k, (mask, role, group) in enumerate(zip(masks, roles, groups, strict=True))
        ]
        MaskStore(self.out).append(trial_id, "s", step, step // STEPS_PER_EPOCH, 1, layers)
        record = TrialRecord(trial_id, "s", config, "completed", STEPS_PER_EPOCH, 100)
        write_record(self.out, record)
        self.masks[trial_id, step] = masks


@pytest.fixture
def run(tmp_path, networks):
    """Six trials of one shape with three snapshots each."""
    stored = StoredRun(tmp_path / "run", {})
    for trial in range(6):
        method = {"name": "set" if trial % 2 else "static", "density": 0.3}
        for step in (0, 50, 100):
            masks = networks(1000 * trial + step)
            stored.add(f"{trial:012x}", step, masks, method=method, seed=trial)
    return stored


def _plain_network(plain, a, b, labelled=True):
    layers = plain(a, b, labelled)
    sparse = [not (x.all() and y.all()) for x, y in zip(a, b, strict=True)]
    weights = [len(x) * s for x, s in zip(a, sparse, strict=True)]
    return float(np.average(layers, weights=weights)) if any(weights) else 0.0


def test_pairwise_gives_nnstd_of_every_pair_in_pdist_order(networks):
    nets = [networks(seed) for seed in range(5)]
    for method in ("layerwise", "reference"):
        found = pairwise([nets[0], *map(prepare, nets[1:])], method=method)
        assert found.shape == (10, 4)
        rows = iter(found)
        for i in range(5):
            for j in range(i + 1, 5):
                pair = (nets[j], nets[i]) if method == "reference" else (nets[i], nets[j])
                expected = nnstd(*pair, method=method)
                assert next(rows).tolist() == [expected.network, *expected.layers]
        assert squareform(found[:, 0]).shape == (5, 5)


def test_pairwise_of_one_network_has_no_rows(networks):
    assert pairwise([networks(0)]).shape == (0, 4)
    with pytest.raises(ValueError, match="at least one network"):
        pairwise([])
    with pytest.raises(ValueError, match="'x' is unknown"):
        pairwise([networks(0)], method="x")


def test_the_stage_gives_the_definitions_distances_for_every_pair(run, plain):
    spec = DistanceSpec(steps="all", method="reference")
    result = run_distances(run.out, "all", spec, in_process=True)
    assert (result.n_snapshots, result.n_pairs, result.n_computed) == (18, 153, 153)
    found = load_distances(run.out, "all")
    second = load_distances(run.out, "all", "layer1")
    for i, a in enumerate(found.index):
        for b in found.index[i + 1 :]:
            later, earlier = run.masks[b], run.masks[a]  # as the published code compares them
            expected = _plain_network(plain, later, earlier)
            assert found.loc[a, b] == pytest.approx(expected, abs=1e-12)
            layers = plain(later, earlier, True)
            assert second.loc[a, b] == pytest.approx(layers[1], abs=1e-12)


@pytest.mark.parametrize("method", ["layerwise", "joint"])
def test_the_stage_gives_what_nnstd_gives_for_every_pair(run, method):
    spec = DistanceSpec(steps="last", method=method)
    run_distances(run.out, "all", spec, in_process=True)
    found = load_distances(run.out, "all")
    second = load_distances(run.out, "all", "layer1")
    for i, a in enumerate(found.index):
        for b in found.index[i + 1 :]:
            expected = nnstd(run.masks[a], run.masks[b], method, labelled_outputs=True)
            assert found.loc[a, b] == found.loc[b, a] == expected.network
            assert second.loc[a, b] == expected.layers[1]


def test_the_stage_on_ray_equals_the_one_in_process_to_the_last_bit(run, ray_cluster):
    seen = []
    spec = DistanceSpec(steps="all", method="reference")
    on_ray = run_distances(run.out, "ray", spec, lambda *done: seen.append(done))
    here = run_distances(run.out, "here", spec, in_process=True)
    for name in ("matrix", "labels"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(on_ray.path / f"{name}.parquet"),
            pd.read_parquet(here.path / f"{name}.parquet"),
            check_exact=True,
        )
    assert seen[0] == (0, 153)
    assert seen[-1] == (153, 153)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) == 1 + len(list((on_ray.path / "tiles").iterdir()))


def test_a_folder_may_be_given_relative_to_the_drivers(run, ray_cluster, monkeypatch):
    monkeypatch.chdir(run.out.parent)
    assert run_distances(run.out.name, "x", DistanceSpec()).path == run.out / "distances" / "x"


def test_reference_takes_the_later_snapshot_as_a(run):
    run_distances(run.out, "r", DistanceSpec(method="reference"), in_process=True)
    matrix = pd.read_parquet(run.out / "distances/r/matrix.parquet")
    labels = pd.read_parquet(run.out / "distances/r/labels.parquet")
    keys = list(zip(labels["trial_id"], labels["step"], strict=True))
    assert (matrix["i"] < matrix["j"]).all()
    for row in matrix.itertuples():
        a, b = run.masks[keys[row.j]], run.masks[keys[row.i]]
        expected = nnstd(a, b, "reference", labelled_outputs=True)
        assert (row.network, row.layer0, row.layer1) == (expected.network, *expected.layers[:2])


def test_each_snapshot_against_its_trials_first(run, plain):
    spec = DistanceSpec(steps="all", against="first", method="reference")
    result = run_distances(run.out, "evolution", spec, in_process=True)
    assert (result.n_snapshots, result.n_pairs) == (18, 12)
    found = load_distances(run.out, "evolution")
    assert len(found) == 18
    assert (found["reference_step"] == 0).all()
    assert set(found["method_name"]) == {"set", "static"}
    for (trial, step), row in found.iterrows():
        expected = _plain_network(plain, run.masks[trial, 0], run.masks[trial, step])
        assert row["network"] == pytest.approx(expected if step else 0.0, abs=1e-12)


def test_references_need_not_be_selected_themselves(run):
    spec = DistanceSpec(steps="last", against="5ep", where="method_name == 'set'")
    result = run_distances(run.out, "half", spec, in_process=True)
    assert (result.n_snapshots, result.n_pairs) == (6, 3)
    found = load_distances(run.out, "half")
    assert found.index.get_level_values("step").tolist() == [100] * 3
    assert found["reference_step"].tolist() == [50] * 3


def test_trials_without_the_reference_are_left_out_and_said_so(run, networks):
    run.add("f" * 12, 100, networks(5), method={"name": "set", "density": 0.3}, seed=9)
    result = run_distances(run.out, "x", DistanceSpec(against="5ep"), in_process=True)
    assert result.left_out == ("f" * 12,)
    assert result.n_pairs == 6


def test_snapshots_that_cannot_be_compared_form_groups(run, networks):
    for trial in range(2):
        masks = networks(trial, sizes=(12, 9, 4))
        run.add(f"aa{trial:010x}", 100, masks, method={"name": "set", "density": 0.3})
    result = run_distances(run.out, "mixed", DistanceSpec(), in_process=True)
    assert sorted(result.groups) == [2, 6]
    assert result.n_pairs == 1 + 15
    sizes = {len(load_distances(run.out, "mixed", group=g)) for g in (0, 1)}
    assert sizes == {2, 6}
    matrix = pd.read_parquet(result.path / "matrix.parquet")
    assert matrix["layer2"].isna().sum() == 1


def test_inputs_in_groups_follow_their_neurons(tmp_path, plain):
    rng = np.random.default_rng(0)
    stored = StoredRun(tmp_path, {})
    for trial in range(2):
        masks = [rng.random((5, 8)) < 0.4, rng.random((3, 20)) < 0.4]
        stored.add(f"{trial:012x}", 0, masks, in_group=[1, 4])
    run_distances(tmp_path, "x", DistanceSpec(method="reference"), in_process=True)
    a, b = stored.masks.values()
    expected = _plain_network(plain, b, a)
    assert load_distances(tmp_path, "x").iloc[0, 1] == pytest.approx(expected, abs=1e-12)


def test_layers_that_do_not_chain_are_refused_with_the_trial(tmp_path):
    stored = StoredRun(tmp_path, {})
    for trial in range(2):
        masks = [np.eye(5, 8, dtype=bool), np.eye(3, 20, dtype=bool)]
        stored.add(f"{trial:012x}", 0, masks, in_group=[1, 1])
    with pytest.raises(InputError, match=r"trial 0{12} step 0: .* in_group is 4, not 1"):
        run_distances(tmp_path, "x", DistanceSpec(), in_process=True)


def _tile_files(path):
    return {tile.name: tile.stat().st_ino for tile in (path / "tiles").iterdir()}


def test_finished_tiles_are_not_computed_again(run):
    spec = DistanceSpec(steps="all")
    first = run_distances(run.out, "x", spec, in_process=True)
    tiles_before, matrix = _tile_files(first.path), (first.path / "matrix.parquet").read_bytes()
    spec_before = (first.path / "spec.json").read_bytes()
    again = run_distances(run.out, "x", spec, in_process=True)
    assert again.n_computed == 0
    assert _tile_files(again.path) == tiles_before
    assert (again.path / "matrix.parquet").read_bytes() == matrix
    assert (again.path / "spec.json").read_bytes() == spec_before


def test_damaged_and_missing_tiles_are_computed_again_and_no_others(run):
    spec = DistanceSpec(steps="all")
    path = run_distances(run.out, "x", spec, in_process=True).path
    before, matrix = _tile_files(path), (path / "matrix.parquet").read_bytes()
    gone, cut, flipped, *whole = sorted(before)
    (path / "tiles" / gone).unlink()
    (path / "tiles" / cut).write_bytes((path / "tiles" / cut).read_bytes()[:-30])
    damaged = bytearray((path / "tiles" / flipped).read_bytes())
    damaged[50] ^= 255
    (path / "tiles" / flipped).write_bytes(damaged)
    assert 0 < run_distances(run.out, "x", spec, in_process=True).n_computed < 153
    after = _tile_files(path)
    assert {name: after[name] for name in whole} == {name: before[name] for name in whole}
    assert (path / "matrix.parquet").read_bytes() == matrix
    assert verify_distances(run.out) == []


def test_other_snapshots_or_another_method_replace_the_old_tiles(run):
    run_distances(run.out, "x", DistanceSpec(steps="all"), in_process=True)
    second = run_distances(run.out, "x", DistanceSpec(), in_process=True)
    assert second.n_computed == second.n_pairs == 15
    third = run_distances(run.out, "x", DistanceSpec(method="reference"), in_process=True)
    assert third.n_computed == 15
    assert len(pd.read_parquet(third.path / "matrix.parquet")) == 15
    rows = sum(len(pd.read_parquet(tile)) for tile in (third.path / "tiles").iterdir())
    assert rows == 15
    assert verify_distances(run.out) == []


def test_a_stage_that_fails_leaves_the_finished_distances_as_they_were(run):
    path = run_distances(run.out, "x", DistanceSpec(), in_process=True).path
    before = load_distances(run.out, "x")
    file = next((run.out / "masks" / "staging" / ("0" * 11 + "1")).glob("00000100*"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorruptFile):
        run_distances(run.out, "x", DistanceSpec(method="reference"), in_process=True)
    pd.testing.assert_frame_equal(load_distances(run.out, "x"), before)
    assert DistanceStore(run.out, "x").read_spec()["method"] == "layerwise"
    assert (path / "matrix.parquet").is_file()


def _damage_a_mask(run):
    """Cut a page of masks, which the index does not read."""
    import pyarrow.parquet as pq

    file = next((run.out / "masks" / "staging" / ("0" * 11 + "2")).glob("00000100*"))
    names = pq.read_schema(file).names
    metadata = pq.read_metadata(file).row_group(0)
    columns = [metadata.column(k) for k in range(metadata.num_columns)]
    gap = next(c for c in columns if c.path_in_schema.startswith("gap"))
    assert "gap" in names
    content = bytearray(file.read_bytes())
    content[gap.data_page_offset + gap.total_compressed_size - 1] ^= 255
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("in_process", [True, False])
def test_a_damaged_mask_file_is_refused_by_name(run, ray_cluster, in_process):
    file = _damage_a_mask(run)
    with pytest.raises(CorruptFile, match=file.name) as refused:
        run_distances(run.out, "x", DistanceSpec(), in_process=in_process)
    assert refused.value.path == str(file)
    assert refused.value.__cause__ is None


def test_a_mask_that_changed_since_the_plan_is_refused(run, networks):
    index = MaskStore(run.out).index()
    other = networks(12345)
    MaskStore(run.out).append(
        f"{0:012x}",
        "s",
        100,
        10,
        2,
        [LayerMask(f"layer{k}", mask, "hidden") for k, mask in enumerate(other)],
    )
    from storage.attempts import claim_attempt
    from topology.comparison import Metric
    from topology.pairwise import load_block
    from topology.spec import compared_snapshots

    claim_attempt(run.out, f"{0:012x}", -1)
    claim_attempt(run.out, f"{0:012x}", 50)
    _, snapshots, _ = compared_snapshots(index, DistanceSpec())
    with pytest.raises(InputError, match=r"trial 0{12} step 100: changed while"):
        load_block(str(run.out), snapshots, Metric())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"steps": "first", "against": "first"}, "each selected snapshot is the one"),
        ({"where": "seed == 3"}, "nothing to compare: 1 snapshot selected"),
        ({"where": "seed == 77"}, "seed == 77"),
    ],
)
def test_nothing_to_compare_costs_one_line(run, spec, message):
    with pytest.raises(InputError, match=message) as refused:
        run_distances(run.out, "x", DistanceSpec(**spec), in_process=True)
    assert "\n" not in str(refused.value)
    assert not (run.out / "distances").exists()


def test_networks_that_are_dense_everywhere_stay_out_unless_asked_for(run):
    full = [np.ones((10, 12), bool), np.ones((8, 10), bool), np.ones((4, 8), bool)]
    run.add("d" * 12, 100, full, method={"name": "dense"})
    assert run_distances(run.out, "x", DistanceSpec(), in_process=True).n_snapshots == 6
    spec = DistanceSpec(include_dense=True)
    assert run_distances(run.out, "x", spec, in_process=True).n_snapshots == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "joined"}, "layerwise"),
        ({"metod": "layerwise"}, "Extra inputs"),
        ({"steps": "sometimes"}, "sometimes"),
        ({"steps": 5}, "string"),
        ({"where": "seed = 3"}, "where|seed = 3"),
        ({"where": "__import__('os')"}, "not allowed"),
        ({"against": "median"}, "'median' is neither first nor last nor one step like 10ep"),
        ({"against": "all"}, "'all' is neither"),
        ({"against": "1ep,2ep"}, "'1ep,2ep' is neither"),
        ({"include_dense": "yes"}, "boolean"),
    ],
)
def test_every_value_of_a_spec_is_checked(values, message):
    with pytest.raises(ValidationError, match=message):
        DistanceSpec.model_validate(values)


def test_a_spec_takes_what_the_study_file_shows():
    DistanceSpec.model_validate({"method": "layerwise", "steps": "last", "where": "a != 'dense'"})
    DistanceSpec.model_validate({"steps": ["0ep", "10ep", "500it"], "against": "0ep"})


def test_what_was_asked_for_is_kept_beside_the_matrix(run):
    spec = DistanceSpec(where="method_name == 'set'")
    run_distances(run.out, "x", spec, in_process=True)
    kept = DistanceStore(run.out, "x").read_spec()
    asked = spec.model_dump(exclude={"chance"})  # the levels are kept beside it
    assert {key: kept[key] for key in asked} == asked
    assert (kept["name"], kept["snapshots"], kept["pairs"]) == ("x", 3, 3)
    assert kept["metric_version"] == tiles.METRIC_VERSIONS["layerwise"]
    assert kept["created"].endswith("+00:00")


def test_a_worker_compiles_no_kernel_that_was_compiled_before(run, ray_cluster):
    spec = DistanceSpec(steps="all")
    run_distances(run.out, "here", spec, in_process=True)
    cache = Path(topology.__file__).parent / "__pycache__"
    kernels = {path.name for path in cache.glob("*.nbc")}
    run_distances(run.out, "there", spec)
    assert {path.name for path in cache.glob("*.nbc")} == kernels != set()


def test_a_task_has_one_thread(ray_cluster):
    import ray
    from threadpoolctl import threadpool_info

    def threads():
        import topology.pairwise  # noqa: F401  loads what a tile loads

        return [pool["num_threads"] for pool in threadpool_info()]

    found = ray.get(ray.remote(num_cpus=1)(threads).remote())
    assert found
    assert set(found) == {1}


def test_work_in_flight_is_bounded_and_leaves_no_block_with_the_driver(
    run, ray_cluster, monkeypatch
):
    import ray

    stage = sys.modules["topology.pairwise"]
    monkeypatch.setattr(tiles, "_SMALLEST_BLOCK", 1)
    monkeypatch.setattr(tiles, "_BLOCKS", 18)
    waited = []
    wait = ray.wait

    def counting_wait(refs, **options):
        waited.append(len(refs))
        return wait(refs, **options)

    monkeypatch.setattr(ray, "wait", counting_wait)
    result = run_distances(run.out, "x", DistanceSpec(steps="all"))
    assert result.n_computed == 153
    assert len(waited) >= 100
    assert max(waited) == stage._tasks_in_flight()


def test_a_task_whose_worker_dies_is_tried_again(run, ray_cluster, monkeypatch, tmp_path):
    stage = sys.modules["topology.pairwise"]
    compute, died = stage.compute_tile, tmp_path / "died"

    def compute_or_die(*arguments):
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(*arguments)

    monkeypatch.setattr(stage, "compute_tile", compute_or_die)
    result = run_distances(run.out, "x", DistanceSpec())
    assert died.exists()
    assert result.n_computed == 15
    here = run_distances(run.out, "here", DistanceSpec(), in_process=True)
    matrices = [pd.read_parquet(r.path / "matrix.parquet") for r in (result, here)]
    pd.testing.assert_frame_equal(*matrices, check_exact=True)


def test_a_killed_driver_finds_its_finished_tiles_again(run, ray_cluster, tmp_path):
    """kill -9 from inside the progress callback: the moment is the same every time."""
    driver = textwrap.dedent(
        """
        import os, signal, sys
        import ray
        from topology import DistanceSpec, run_distances
        from topology import tiles
        tiles._BLOCKS = 18
        tiles._SMALLEST_BLOCK = 1

        def die(done, total):
            if done >= total // 3:
                os.kill(os.getpid(), signal.SIGKILL)

        ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
        run_distances(sys.argv[2], "x", DistanceSpec(steps="all"), progress=die)
        """
    )
    command = [sys.executable, "-c", driver, ray_cluster, str(run.out)]
    root = Path(__file__).parents[2]
    killed = subprocess.run(command, cwd=root, timeout=120, check=False)
    assert killed.returncode == -9
    path = run.out / "distances" / "x"
    assert not (path / "matrix.parquet").exists()
    finished = _tile_files(path)
    assert 153 // 3 <= len(finished) < 153
    assert verify_distances(run.out) == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_BLOCKS", 18)
        patch.setattr(tiles, "_SMALLEST_BLOCK", 1)
        seen = []
        again = run_distances(
            run.out, "x", DistanceSpec(steps="all"), lambda *done: seen.append(done)
        )
        whole = run_distances(run.out, "whole", DistanceSpec(steps="all"), in_process=True)
    assert seen[0][0] >= len(finished)
    assert again.n_computed <= 153 - len(finished)
    after = _tile_files(path)
    assert {name: after[name] for name in finished} == finished
    matrices = [pd.read_parquet(result.path / "matrix.parquet") for result in (again, whole)]
    pd.testing.assert_frame_equal(*matrices, check_exact=True)


def test_a_damaged_snapshot_stops_the_distances_that_ask_for_it_and_no_others(run):
    trial_id, step = "000000000003", 50
    (path,) = run.out.glob(f"masks/staging/{trial_id}/{step:08d}-a1.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    result = run_distances(run.out, "last", DistanceSpec(steps="last"), in_process=True)
    assert result.n_snapshots == 6
    spec = DistanceSpec(steps="all", against="first", where="method_name == 'static'")
    assert run_distances(run.out, "others", spec, in_process=True).n_snapshots == 9
    for spec in (DistanceSpec(steps="all"), DistanceSpec(steps="50it")):
        with pytest.raises(CorruptFile, match=path.name):
            run_distances(run.out, "all", spec, in_process=True)


def test_a_stage_whose_lock_is_lost_replaces_nothing(run):
    run_distances(run.out, "d", DistanceSpec(steps="last"), in_process=True)
    before = {path: path.read_bytes() for path in (run.out / "distances").rglob("*.*")}

    def lost():
        raise InputError("another process has taken over")

    with pytest.raises(InputError, match="taken over"):
        run_distances(run.out, "d", DistanceSpec(steps="first"), in_process=True, check=lost)
    after = {path: path.read_bytes() for path in (run.out / "distances").rglob("*.*")}
    kept = [p for p in before if p.parent.name != "tiles"]
    assert {p: after[p] for p in kept} == {p: before[p] for p in kept}
