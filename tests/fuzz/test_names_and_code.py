"""Nothing in a file is run, and no name in a file leads out of OUT."""

import ast
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from storage import InputError, LayerMask, MaskStore, MetricStore, Run
from storage.attempts import claim_attempt
from storage.chance_store import ChanceStore
from storage.checkpoints import write_checkpoint
from storage.distance_store import DistanceStore
from storage.import_pattern import Pattern
from storage.importers import ImportOptions, import_networks
from storage.runs import TrialRecord
from sweeps import run_study
from sweeps.plan import plan_trials
from sweeps.report import build_report
from sweeps.study import check_study
from sweeps.task import make_task
from sweeps.trial import run_trial
from tests.fuzz.small_run import STUDY, files_of, make_run
from topology.pairwise import DistanceSpec, run_distances

ROOT = Path(__file__).parents[2]
PACKAGES = ("sweeps", "topology", "storage", "cluster")


def production_code() -> Iterator[tuple[Path, ast.AST]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                yield path, node


def keywords(call: ast.Call) -> dict[str | None, Any]:
    values = [(word.arg, word.value) for word in call.keywords]
    return {name: value.value for name, value in values if isinstance(value, ast.Constant)}


def runs_what_it_reads(call: ast.Call) -> bool:
    """Whether a call could run code that a file or a text holds."""
    name, given = ast.unparse(call.func), keywords(call)
    method = name.rpartition(".")[2]
    if name in ("eval", "exec", "compile", "__import__"):
        return True
    if method in ("loads", "Unpickler") and not name.startswith("json."):
        return True
    if name.startswith(("pickle.", "dill.", "joblib.", "marshal.", "shelve.")):
        return True
    if name in ("torch.load", "load_state_dict_from_url"):
        return given.get("weights_only") is not True
    if name in ("np.load", "numpy.load", "load_npz", "scipy.sparse.load_npz"):
        return given.get("allow_pickle") is not (False if method == "load" else None)
    if name.startswith("yaml."):
        ours = any(ast.unparse(word.value) == "_UniqueKeys" for word in call.keywords)
        return "unsafe" in method or "full" in method or (method.startswith("load") and not ours)
    frames = name not in ("self.model.eval", "model.eval")
    return method in ("read_pickle", "query") or (method == "eval" and frames)


def test_no_production_code_runs_what_it_reads() -> None:
    calls = [(path, node) for path, node in production_code() if isinstance(node, ast.Call)]
    assert len(calls) > 1000
    found = [
        f"{path.name}: {ast.unparse(call)}" for path, call in calls if runs_what_it_reads(call)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "bad"),
    [
        ("pickle.load(f)", True), ("cloudpickle.loads(f)", True),
        ("json.loads(f)", False), ("torch.load(f)", True), ("torch.load(f, weights_only=False)",
        True),
        ("torch.load(f, weights_only=True)", False), ("np.load(f)", True), ("load_npz(f)", False),
        ("np.load(f, allow_pickle=False)", False), ("load_npz(f, allow_pickle=True)", True),
        ("yaml.load(f, yaml.Loader)", True), ("yaml.safe_load(f)", False), ("yaml.unsafe_load(f)",
        True),
        ("yaml.load(f, Loader=_UniqueKeys)", False), ("table.query(w)", True), ("table.eval(w)",
        True),
        ("self.model.eval()", False), ("eval(x)", True), ("pd.read_pickle(f)", True),
    ],
)  # fmt: skip
def test_the_check_knows_such_code(code: str, bad: bool) -> None:
    call = ast.parse(code).body[0].value  # type: ignore[attr-defined]
    assert runs_what_it_reads(call) is bad


def test_production_code_imports_nothing_that_unpickles() -> None:
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "importlib"}
    allowed = {"importlib.metadata", "importlib.resources", "importlib.util"}
    import_module = "importlib.import_module"
    more = {
        "storage/__init__.py": {import_module},  # its own modules, by a table, when asked for
        # What a study lists, and nothing else: tests/sweeps/test_own_code.py.
        "sweeps/training/imports.py": {import_module, "importlib.invalidate_caches",
                                       "importlib.abc", "importlib.machinery"},
    }  # fmt: skip
    for path, node in production_code():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "importlib":
                names = [f"importlib.{alias.name}" for alias in node.names]
        for name in names:
            ours = allowed | more.get(path.relative_to(ROOT).as_posix(), set())
            known = name in ours or name.partition(".")[0] not in forbidden
            assert known, f"{path}: {name}"


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_resume_reads_nothing_of_ray_tunes_own_state(tmp_path: Path, ray_here: None) -> None:
    few = {**STUDY, "model": {"name": "mlp", "hidden": [8]}, "space": {"seed": [0]}}
    run = run_study(few, tmp_path / "out")
    sprung = tmp_path / "sprung"
    evil = pickle.dumps(Trap(sprung))
    names = ("tuner.pkl", "trainable.pkl", "searcher-state-x.pkl", "search_gen_state-x.json",
             "experiment_state-x.json", "callback_states.pkl", "x/params.pkl",
             "x/checkpoint_0/y.pkl")  # fmt: skip
    for top in ("tune", "tune/20250101T000000000000", f"tune/20250101T000000000000/{'0' * 12}"):
        for name in names:
            path = run.out / top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(evil)
    again = run_study({**few, "space": {"seed": [0, 1]}}, tmp_path / "out")
    assert {record.state for record in again.records().values()} == {"completed"}
    assert len(again.records()) == 2
    assert not sprung.exists()
    pickle.loads(evil)
    assert sprung.exists()  # the trap works


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("names") / "out"
    make_run(out)
    return out


@pytest.fixture
def out(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "out"))


def test_a_checkpoint_that_is_a_pickle_is_not_run(out: Path, tmp_path: Path) -> None:
    pending = [r.trial_id for r in Run.open(out).records().values() if r.state == "pending"]
    checkpoint = next(out.glob(f"checkpoints/{pending[0]}/*.pt"))
    study = check_study(STUDY)
    (trial,) = [t for t in plan_trials(study) if t.trial_id == checkpoint.parent.name]
    for evil in (pickle.dumps(Trap(tmp_path / "sprung")), _zipped_trap(tmp_path)):
        write_checkpoint(checkpoint.parent, 99, 1, evil)  # its checksum is right
        with pytest.raises(Exception, match=r"(?i)weights.only|checkpoint"):
            run_trial(make_task(study, Run.open(out), trial))
        assert not (tmp_path / "sprung").exists()


def _zipped_trap(tmp_path: Path) -> bytes:
    path = tmp_path / "trap.pt"
    torch.save({"training": Trap(tmp_path / "sprung"), "last_row": "{}"}, path)
    return path.read_bytes()


OUTSIDE = (
    "..",
    "../x",
    "a/b",
    "/tmp/x",
    "",
    ".",
    "a\0b",
    "~/x",
    "..\\x",
    "0" * 11,
    "0" * 12 + "/../x",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_of_a_folder_are_refused(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = Run.create(out, "tiny", "name: tiny\n", {})
    layer = LayerMask("fc", np.eye(2, dtype=bool), "hidden")
    wrong = {"config": {}, "state": "pending", "steps_per_epoch": 1, "total_steps": 1}
    before = sorted(tmp_path.rglob("*"))
    asked = [
        lambda: MaskStore(out).append(name, "tiny", 0, 0, 1, [layer]),
        lambda: MaskStore(out).load(name, 0),
        lambda: MetricStore(out).append(name, "tiny", 1, [{"step": 1, "epoch": 1}]),
        lambda: MetricStore(out).load([name]),
        lambda: claim_attempt(out, name, -1),
        lambda: run.record(name),
        lambda: run.write_record(TrialRecord(name, "tiny", **wrong)),  # type: ignore[arg-type]
        lambda: run.log_path(name),
        lambda: run.weights_path(name),
    ]
    if name != "0" * 11:
        asked += [lambda: DistanceStore(out, name), lambda: ChanceStore(out, name),
                  lambda: run_distances(out, name, DistanceSpec(), in_process=True)]  # fmt: skip
        asked += [lambda: check_study({**STUDY, "distances": {name: {}}})]
        if name not in ("", "."):
            asked += [lambda: check_study({**STUDY, "name": name})]
    for ask in asked:
        with pytest.raises(InputError):
            ask()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../x.parquet", "/tmp/x.parquet", "part-0.parquet/../../x", ""])
def test_a_manifest_names_parts_of_its_table_only(out: Path, name: str) -> None:
    path = files_of(out)["mask manifest"][0]
    stored = json.loads(path.read_text())
    del stored["crc32"]
    stored["parts"][0]["file"] = name
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="is no part's name"):
        Run.open(out).masks.index()


def test_layers_may_be_named_anything_and_no_file_is_named_after_them(tmp_path: Path) -> None:
    odd = [
        "../../escaped",
        "/tmp/escaped",
        "a/b",
        "x" * 300,
        "<script>alert(1)</script>",
        "é\u202e",
    ]
    names = [*odd, "last"]
    sizes = [4, *[5] * len(names)]
    rng = np.random.default_rng(0)
    for network in "ab":
        layers = {
            f"{name}.weight": torch.from_numpy((rng.random((sizes[k + 1], sizes[k])) < 0.5) * 1.0)
            for k, name in enumerate(names)
        }
        torch.save(layers, tmp_path / f"{network}.pt")
    out = tmp_path / "deep" / "out"
    import_networks([tmp_path / "a.pt", tmp_path / "b.pt"], out)
    run_distances(out, "final", DistanceSpec(chance=2), in_process=True)
    run = Run.open(out)
    page = Path(str(build_report(run))).read_text("utf-8")
    assert "<script>alert(1)" not in page
    written = {str(path.relative_to(tmp_path)).partition("/")[0] for path in tmp_path.rglob("*")}
    assert written == {"a.pt", "b.pt", "deep"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert not [path for path in out.rglob("*") if "escaped" in path.name or "script" in path.name]


def test_a_networks_name_is_no_file_of_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    torch.save({"fc.weight": torch.eye(3)}, tmp_path / "in" / "x.pt")
    options = ImportOptions(pattern="{trial}.pt", name_prefix="../../")
    run = import_networks([tmp_path / "in"], tmp_path / "deep" / "out", options).run
    (record,) = run.records().values()
    assert record.config["imported"]["name"].startswith("../../")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "in"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


@pytest.mark.parametrize("text", ["../{trial}.pt", "{trial}/../{layer}.pt", "{trial}/..", "{../x}"])
def test_a_pattern_finds_no_file_above_its_source(text: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    torch.save({"fc.weight": torch.eye(3)}, tmp_path / "outside.pt")
    torch.save({"fc.weight": torch.eye(3)}, tmp_path / "in" / "inside.txt")
    with pytest.raises(InputError):
        import_networks([tmp_path / "in"], tmp_path / "out", ImportOptions(pattern=text))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError):
        Pattern("{trial}/{}/x")
