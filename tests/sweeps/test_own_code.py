"""Methods, models, data sets and optimisers of the user's own, by dotted path and entry point."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from storage import Run
from storage.errors import InputError
from sweeps.configurations import spelled
from sweeps.imported_study import settings_of_run
from sweeps.own_code import own_code
from sweeps.plan import plan_trials
from sweeps.shipped_data import needed_data
from sweeps.study import Study, check_study, study_schema
from sweeps.study_file import study_yaml
from sweeps.task import TrialTask
from sweeps.training import Training, imports, load_model
from sweeps.training.entries import Registry
from sweeps.training.imports import allow_imports
from sweeps.training.methods import Dense
from sweeps.trial import run_trial
from tests.sweeps.own_package import write_package

ROOT = Path(__file__).parents[2]
Begin = Callable[..., tuple[Run, list[TrialTask]]]
_numbers = itertools.count()


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package in the current folder, which is not on Python's path."""
    name = f"own_kit_{next(_numbers)}"
    write_package(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(imports, "_allowed", {})
    yield name
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def raw(kit: str, **changes: Any) -> dict[str, Any]:
    """A study of which every section is the user's own."""
    study: dict[str, Any] = {
        "name": "own",
        "imports": [kit],
        "data": {"name": f"{kit}.kit:Iris", "held_out": 5},
        "model": {"name": f"{kit}.kit:Tanh", "hidden": [12]},
        "method": {"name": f"{kit}.kit:Lowest", "density": 0.4, "share": 0.5},
        "optimizer": {"name": f"{kit}.kit:Signed", "lr": 0.01, "batch_size": 20},
        "epochs": 3,
        "snapshot_every": "1ep",
    }
    return {**study, **changes}


def refusal(study: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        plan_trials(check_study(study))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def test_a_trial_of_nothing_but_own_code_trains_resumes_and_gives_its_model_back(
    kit: str, begin: Begin, tmp_path: Path
) -> None:
    run, (task,) = begin(check_study(raw(kit)))
    assert task.imports == {kit: str(tmp_path)}
    result = run_trial(task)
    whole = Training(task.config)
    while not whole.finished:
        last = whole.run_epoch()
    assert result["test_accuracy"] == last["test_accuracy"]

    first = Training(task.config)
    first.run_epoch()
    again = Training(task.config)
    again.load_state_dict(first.state_dict())
    while not again.finished:
        again.run_epoch()
    for (_, mask, *_), (_, other, *_) in zip(whole.masks(), again.masks(), strict=True):
        np.testing.assert_array_equal(mask, other)

    path = run.weights_path(task.trial_id)
    x = torch.zeros(1, 4)
    torch.testing.assert_close(load_model(path, imports=[kit])(x), whole.model.eval()(x))
    with pytest.raises(InputError, match=rf"imports: .{kit}."):
        load_model(path)


def test_the_rule_of_the_users_own_is_what_the_masks_obey(kit: str) -> None:
    (trial,) = plan_trials(check_study(raw(kit)))
    training = Training(trial.config)
    before = training.connections.connected()["hidden_1"]
    while training.epoch < 2:
        training.run_epoch()
    after = training.connections.connected()["hidden_1"]
    assert len(after) == len(before)
    count = round(0.3 * 0.5 * len(before))
    assert len(np.setdiff1d(before, after)) <= count
    free = np.setdiff1d(np.arange(48), before)
    assert set(np.setdiff1d(after, before)) <= set(free[: 2 * count])


def test_the_name_as_written_is_part_of_the_trial_id_and_own_defaults_are_left_out(
    kit: str,
) -> None:
    set_, own = (
        plan_trials(check_study(raw(kit, method={"name": name, "density": 0.4})))[0]
        for name in ("set", f"{kit}.kit:Lowest")
    )
    assert own.config["method"] == {
        **set_.config["method"], "name": f"{kit}.kit:Lowest", "share": 1.0,
    }  # fmt: skip
    assert own.trial_id != set_.trial_id
    spelled_out = raw(kit, method={"name": f"{kit}.kit:Lowest", "density": 0.4, "share": 1.0})
    assert plan_trials(check_study(spelled_out))[0].trial_id == own.trial_id
    assert plan_trials(check_study({**spelled_out, "imports": [kit, "json"]}))[0] == own


def test_a_space_may_mix_our_methods_with_ones_own_and_vary_their_fields(kit: str) -> None:
    study = raw(
        kit,
        method={"name": "dense"},
        space=[
            {"method.name": ["dense", "set"]},
            {"method.name": [f"{kit}.kit:Lowest"], "method.share": [0.5, 1.0]},
        ],
    )
    trials = plan_trials(check_study(study))
    assert [t.config["method"].get("share") for t in trials] == [None, None, 0.5, 1.0]
    no_such = refusal({**study, "space": {"method.name": ["set"], "method.share": [0.5]}})
    assert no_such.startswith("space.method.share: unknown key")


@pytest.mark.parametrize("section", ["data", "model", "method", "optimizer"])
@pytest.mark.parametrize("listed", [[], ["json"]])
def test_code_that_the_study_does_not_list_is_not_imported(
    kit: str, section: str, listed: list[str]
) -> None:
    ours = {"data": "digits", "model": "mlp", "method": "set", "optimizer": {"name": "sgd"}}
    path = f"{kit}.kit:Bare"
    by_space = {**raw(kit), **ours, "imports": listed, "space": {f"{section}.name": [path]}}
    by_name = {**raw(kit), **ours, "imports": listed, section: path}
    for study in (by_space, by_name):
        line = refusal(study)
        assert line.startswith(f"{section}.name: '{path}' is not allowed")
        assert f"imports: [{kit}]" in line
    assert not [m for m in sys.modules if m.startswith(kit)]


def test_what_one_study_lists_another_does_not(kit: str) -> None:
    check_study(raw(kit))
    assert "not listed" in refusal(raw(kit, imports=[]))


@pytest.mark.parametrize(
    ("section", "name", "expected"),
    [
        ("method", "kit:Bare", "is not allowed: it is no subclass of sweeps.training.methods."),
        ("model", "kit:Bare", "is not allowed: it is no subclass of torch.nn"),
        ("data", "kit:Bare", "has no Settings, a subclass of sweeps.training.settings.Settings"),
        ("data", "kit:Nameless", "has no load(); needed: load, files"),
        ("optimizer", "kit:Iris", "has no Settings, a subclass of sweeps.training.optimizers."),
        ("method", "kit:number", "is not a class but 3"),
        ("method", "kit:Nothing", "is not there: "),
        ("method", "kitt:Lowest", "cannot be imported: ModuleNotFoundError: No module named"),
        ("method", "broken:Lowest", "cannot be imported: ZeroDivisionError: division by zero "
         "(broken.py, line 3)"),
        ("method", "wrong:Lowest", "cannot be imported: SyntaxError: "),
        ("method", "leaving:Lowest", "cannot be imported: SystemExit: bye (leaving.py, line 2)"),
        ("method", "kit:", "is not allowed: a class of your own is package.module:Class"),
        ("method", "kit:a.b", "is not allowed: a class of your own is package.module:Class"),
        ("method", "kit.Lowest", "is not allowed: a class of your own is package.module:Class"),
    ],
)  # fmt: skip
def test_what_is_not_what_it_must_be_costs_one_line(
    kit: str, tmp_path: Path, section: str, name: str, expected: str
) -> None:
    (tmp_path / kit / "broken.py").write_text("\n\n1 / 0\n")
    (tmp_path / kit / "wrong.py").write_text("def\n")
    (tmp_path / kit / "leaving.py").write_text("import sys\nsys.exit('bye')\n")
    line = refusal(raw(kit, **{section: {"name": f"{kit}.{name}"}}))
    assert line.startswith(f"{section}.name: '{kit}.{name}' {expected}")


def test_values_of_own_fields_are_checked_like_ours(kit: str) -> None:
    method = {"name": f"{kit}.kit:Lowest", "density": 0.4}
    assert refusal(raw(kit, method={**method, "share": 2.0})).startswith("method.share: 2.0 is")
    assert refusal(raw(kit, method={**method, "sharre": 1.0})) == (
        "method.sharre: unknown key (did you mean share?)"
    )
    assert refusal(raw(kit, data={"name": f"{kit}.kit:Iris"})) == "data.held_out: is missing"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise KeyError('x')", "{path} failed: KeyError: 'x' (kit.py, line "),
        ("return 3", "data.name: '{path}': load() gave no Dataset"),
    ],
)
def test_own_code_that_fails_before_the_start_costs_one_line_with_its_place(
    kit: str, tmp_path: Path, body: str, expected: str
) -> None:
    source = tmp_path / kit / "kit.py"
    source.write_text(source.read_text().replace("x, y = load_iris(return_X_y=True)", body))
    study = raw(kit, model="mlp", method="set", optimizer="sgd")
    assert refusal(study).startswith(expected.format(path=f"{kit}.kit:Iris"))


@pytest.mark.parametrize("listed", ["nowhere_to_be_found", "bare_folder"])
def test_a_listed_package_that_is_not_there_costs_one_line(
    kit: str, tmp_path: Path, listed: str
) -> None:
    (tmp_path / "bare_folder").mkdir()  # no __init__.py: any folder would be a package
    line = refusal(raw(kit, imports=[kit, listed]))
    assert line.startswith(f"imports: '{listed}' is not allowed: no such package is in the folder")
    assert str(tmp_path) in line


@pytest.mark.parametrize("listed", ["a.b", "a/b", "", 3])
def test_packages_are_listed_by_their_plain_names(kit: str, listed: object) -> None:
    assert refusal(raw(kit, imports=[listed])).startswith("imports.0: ")


def test_only_what_is_listed_is_found_in_the_current_folder(kit: str, tmp_path: Path) -> None:
    (tmp_path / "own_stranger.py").write_text("")
    check_study(raw(kit))
    code = "import own_stranger"
    with pytest.raises(ModuleNotFoundError):
        exec(code)
    check_study(raw(kit, imports=[kit, "own_stranger"]))
    exec(code)
    del sys.modules["own_stranger"]


def test_a_run_is_synced_and_compared_where_its_code_is_not(
    kit: str, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = begin(check_study(raw(kit, distances={"final": {"steps": "last"}})))
    (tmp_path / "elsewhere").mkdir()
    code = (
        "import sys; from storage import Run; from sweeps.imported_study import settings_of_run\n"
        "from sweeps.checks import stored_study\n"
        f"run = Run.open({str(run.out)!r}); print(list(settings_of_run(run).distances))\n"
        f"print([m for m in sys.modules if m.startswith({kit!r})])\n"
        "try: stored_study(run)\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path / "elsewhere", text=True,
        capture_output=True, check=True, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    distances, imported, resumed = done.stdout.splitlines()
    assert (distances, imported) == ("['final']", "[]")
    assert resumed.startswith(f"imports: '{kit}' is not allowed: no such package is in the folder")
    assert settings_of_run(run).tracking.uri is None


def test_another_process_finds_the_code_and_the_data_set_by_what_the_driver_sends(
    kit: str, tmp_path: Path
) -> None:
    study = check_study(raw(kit))
    (needed,) = needed_data(plan_trials(study))
    assert own_code(study).problem_here() is None
    assert needed.problem_here() is None
    sent = {"imports": own_code(study).imports, "names": own_code(study).names}
    code = (
        "import json, sys; from sweeps.own_code import OwnCode\n"
        "from sweeps.shipped_data import NeededData\n"
        f"print(OwnCode(**json.loads({json.dumps(sent)!r})).problem_here())\n"
        f"print(NeededData({needed.name!r}, {needed.checksum!r}, None, {needed.resolved!r})"
        ".problem_here())"
    )
    (tmp_path / "node").mkdir()
    words = [sys.executable, "-P", "-c", code]
    there = {"cwd": tmp_path / "node", "env": {"PYTHONPATH": str(ROOT)}, "text": True}
    assert subprocess.check_output(words, **there).split() == ["None", "None"]  # type: ignore[call-overload]
    (tmp_path / kit).rename(tmp_path / "gone")
    assert (
        f"imports: '{kit}'"
        in subprocess.run(  # type: ignore[call-overload]
            words, check=True, capture_output=True, **there
        ).stdout
    )


def test_what_a_process_has_by_itself_comes_before_the_drivers_folder(
    kit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("shipped", "stale"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "own_twice.py").write_text(f"place = {place!r}")
    monkeypatch.syspath_prepend(str(tmp_path / "shipped"))
    imports.allow_imports_there({"own_twice": str(tmp_path / "stale")})
    module: Any = __import__("own_twice")
    assert module.place == "shipped"
    del sys.modules["own_twice"]


def test_a_process_that_runs_several_trials_finds_the_code_for_each(
    kit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for _ in range(3):  # trials of methods of ours, which import nothing of it
        imports.allow_imports_there({kit: str(tmp_path)})
        assert imports.folders_of([kit]) == {kit: str(tmp_path)}
    assert imports.import_entry(f"{kit}.kit", "number") == 3


def installed(folder: Path, distribution: str, entries: str) -> None:
    """What `pip install` leaves of a package with entry points."""
    metadata = folder / f"{distribution}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(entries)


def test_an_installed_entry_point_needs_no_listing_and_never_replaces_ours(
    kit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = f"{kit}.kit:Lowest"
    installed(tmp_path, "own_one", f"[toposweep.methods]\nlowest = {path}\ndense = {path}\n"
              f"twice = {path}\nodd = {kit}\n")  # fmt: skip
    installed(tmp_path, "own_two", f"[toposweep.methods]\ntwice = {kit}.kit:Bare\n")
    methods = Registry("method", "toposweep.methods", {"dense": Dense}, base=Dense)
    assert list(methods) == ["dense", "lowest", "odd", "twice"]
    assert methods["dense"] is Dense
    assert "nothing" not in methods
    assert not [m for m in sys.modules if m.startswith(kit)]  # listed, not imported
    settings = methods["lowest"].Settings(share=0.5)
    assert settings.resolved()["name"] == "lowest"
    with pytest.raises(InputError, match=r"several: .*Bare and .*Lowest"):
        methods["twice"]
    with pytest.raises(InputError, match=r"not package\.module:Class"):
        methods["odd"]

    code = (
        "from sweeps.study import check_study; from sweeps.plan import plan_trials\n"
        "study = check_study({'name': 'e', 'data': 'digits', 'model': 'mlp', 'epochs': 1,\n"
        "    'method': {'name': 'lowest', 'share': 0.5}})\n"
        "print(plan_trials(study)[0].config['method']['share'], study.imports)"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    words = [sys.executable, "-P", "-c", code]
    assert subprocess.check_output(words, env=environment, text=True).strip() == "0.5 []"


def test_looking_at_the_program_imports_no_code_of_the_users(kit: str, tmp_path: Path) -> None:
    (tmp_path / kit / "kit.py").write_text("raise SystemExit('imported')")
    installed(tmp_path, "own_one", f"[toposweep.methods]\nlowest = {kit}.kit:Lowest\n")
    for words in (["--help"], ["studies"], ["schema"], ["run", "quickstart", "--dry-run"]):
        code = (
            f"import sys; sys.argv[1:] = {words!r}\nfrom sweeps.cli import main\n"
            f"try: main()\nexcept SystemExit as e: print('CODE', e.code)\n"
            f"print('OWN', [m for m in sys.modules if m.startswith({kit!r})])"
        )
        printed = subprocess.check_output(
            [sys.executable, "-P", "-c", code], text=True, cwd=tmp_path,
            env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "HOME": str(tmp_path)},
        )  # fmt: skip
        assert printed.splitlines()[-2:] == ["CODE 0", "OWN []"], words


def test_the_schema_takes_a_dotted_path_with_any_fields(kit: str) -> None:
    schema = study_schema()
    jsonschema.validate(raw(kit), schema)
    jsonschema.validate(raw(kit, method=f"{kit}.kit:Lowest"), schema)
    for wrong in ({"name": "set", "share": 1}, "a.b", {"name": "a b:C"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(raw(kit, method=wrong), schema)


def test_reports_show_the_class_without_its_path() -> None:
    assert spelled("mine.methods:Lowest") == "Lowest"
    assert spelled("set") == "SET"


def test_packages_are_shipped_to_a_cluster_as_they_are_imported_here(
    kit: str, tmp_path: Path
) -> None:
    from cluster.packages import shipped

    (tmp_path / "own_module.py").write_text("here = 1")
    (tmp_path / kit / "__pycache__").mkdir(exist_ok=True)
    allow_imports([kit, "own_module"])
    with shipped([kit, "own_module"]) as environment:
        there = Path(environment["working_dir"])
        assert (there / "sweeps" / "cli.py").is_file()
        assert (there / kit / "kit.py").read_text() == (tmp_path / kit / "kit.py").read_text()
        assert not (there / kit / "__pycache__").exists()
        assert (there / "own_module.py").read_text() == "here = 1"


def test_the_study_file_keeps_what_it_lists(kit: str) -> None:
    study: Study = check_study(raw(kit))
    from sweeps.study_file import parse_study

    assert parse_study(study_yaml(study)) == study
