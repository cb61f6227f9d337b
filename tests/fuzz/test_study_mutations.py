"""Whatever a study file holds, it plans or costs one line."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from storage.errors import InputError
from sweeps import cli
from sweeps.estimate import TIMED_KINDS, trial_costs
from sweeps.plan import MOST_TRIALS, plan_trials
from sweeps.study import check_study
from sweeps.study_file import load_study, parse_study
from tests.fuzz.study_mutations import check_line, mutations, outcome
from tests.fuzz.study_values import GRID, SMALLEST


@pytest.mark.parametrize("batch", range(5))
def test_a_mutated_study_plans_or_costs_one_line(batch: int, tmp_path: Path) -> None:
    ends = [outcome(mutation, tmp_path) for mutation in mutations(1000 + batch, 30)]
    assert any(end is not None for end in ends)


def test_some_mutated_studies_still_plan(tmp_path: Path) -> None:
    """Else the fuzzer would only try how files are refused."""
    ends = [outcome(mutation, tmp_path) for mutation in mutations(7, 20)]
    assert None in ends


def test_the_command_line_ends_with_a_plan_or_one_line_and_exit_code_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = set()
    for number, mutation in enumerate(mutations(5, 20)):
        if any("\0" in given or "\ud800" in given for given in mutation.overrides):
            continue  # no command line can hold these
        path = tmp_path / f"mutated.yaml{number}"
        path.write_bytes(mutation.content)
        given = [part for override in mutation.overrides for part in ("--set", override)]
        command = ["run", str(path), "--dry-run", "--out", str(tmp_path / "out"), *given]
        if number < 2:
            code, printed, said = _in_a_process(command)
        else:
            code, printed, said = _here(command, monkeypatch, capfd)
        codes.add(code)
        assert code in (0, 2), said
        assert "Traceback" not in said
        if code == 0:
            assert printed
        else:
            assert said.startswith("error: ")
            assert said.count("\n") == 1
            check_line(said.strip())
    assert codes == {0, 2}


def _in_a_process(command: Sequence[str]) -> tuple[int, str, str]:
    ours = [sys.executable, "-c", "from sweeps.cli import main; main()"]
    done = subprocess.run([*ours, *command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def _here(
    command: Sequence[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["toposweep", *command])
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out, said.err


NINE = [", ".join([f"*a{k}"] * 9) for k in range(11)]
LAUGHS = "\n".join(["a0: &a0 [x, x]", *(f"a{k + 1}: &a{k + 1} [{NINE[k]}]" for k in range(11))])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (LAUGHS, "100000 values"),
        ("space: &a {seed: *a}", "an alias of what it is a part of"),
        ("model: " + "[" * 40 + "]" * 40, "30 levels"),
        ("epochs: 0x" + "f" * 5000, "line 1: a number of too many digits"),
        ("epochs: !!int ''", "not what its tag says"),
        ("epochs: !!timestamp soon", "not what its tag says"),
        ("model: !!map xy", "not what its tag says"),
        ("# " + "x" * 1_000_000, "1000000 characters"),
    ],
)
def test_yaml_that_would_grow_or_is_not_what_it_says_costs_one_line(text: str, part: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_study(text)
    assert part in str(refused.value)
    check_line(str(refused.value))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"space": {f"seeds.{s}": list(range(1000)) for s in ("data", "weights", "topology")}},
         ["space", "1000000000 combinations", f"at most {MOST_TRIALS}"]),
        ({"space": {"method.density": {"uniform": [0, 1]}, "method.name": ["set", "static"]},
          "search": {"algorithm": "random", "num_samples": 10**9}}, ["space", "2000000000"]),
        ({"space": {"seed": list(range(MOST_TRIALS + 1))}, "search": {"algorithm": "optuna"}},
         ["space", "values"]),
        ({"space": {"seed": {"randint": [-1e300, 5]}}, "search": {"algorithm": "random"}},
         ["space.seed.randint", "-1e+300"]),
        ({"space": {"optimizer.lr": {"uniform": [-1.7e308, 1.7e308]}},
          "search": {"algorithm": "random"}}, ["space.optimizer.lr.uniform", "too far apart"]),
        ({"space": {"seed": {"uniform": "19"}}, "search": {"algorithm": "random"}},
         ["space.seed.uniform", "'19'"]),
        ({"space": {"seed": {"uniform": {1: 0, 2: 0}}}, "search": {"algorithm": "random"}},
         ["space.seed.uniform", "[low, high]"]),
        ({"scheduler": {"reduction_factor": 10**30}}, ["scheduler.reduction_factor"]),
        ({"resources": {"max_failures": 10**30}}, ["resources.max_failures"]),
        ({"data": {"name": "mnist", "path": "~nobody-of-this-name/x"}}, ["data.path", "no such"]),
        ({"data": {"name": "mnist", "path": "x" * 5000}}, ["data.path", "no such folder"]),
        ({"model": {"name": "x" * 100_000}}, ["model.name", "xxx..."]),
        ({"x" * 100_000: 1}, ["xxx...", "unknown key"]),
        ({"epochs": 10**5000}, ["epochs", "too many digits"]),
        ({"snapshot_every": "x" * 100_000}, ["snapshot_every"]),
        ({"space": [["seed"]]}, ["space: [['seed']]"]),
    ],
)  # fmt: skip
def test_extremes_are_named_and_refused(changes: dict[str, Any], parts: list[str]) -> None:
    raw = {"name": "a", "data": "digits", "model": "mlp", "method": "dense", "epochs": 1}
    with pytest.raises(InputError) as refused:
        plan_trials(check_study({**raw, **changes}))
    check_line(str(refused.value))
    for part in parts:
        assert part in str(refused.value)


def test_more_connections_than_there_are_is_dense() -> None:
    study = parse_study(SMALLEST, ["method={name: set, distribution: epsilon, epsilon: 1e308}"])
    assert plan_trials(study)


def test_an_override_changes_one_of_two_aliases() -> None:
    text = SMALLEST[:-1] + ", distances: {one: &d {steps: last}, other: *d}}"
    study = parse_study(text, ["distances.one.steps=all"])
    assert (study.distances["one"].steps, study.distances["other"].steps) == ("all", "last")


def test_a_name_too_long_for_a_file_is_no_study() -> None:
    for name in ("x" * 5000, "x" * 5000 + ".yaml", "a\0b"):
        with pytest.raises(InputError, match="no such study file"):
            load_study(name)


def test_as_many_kinds_of_trials_as_there_is_time_for_are_timed() -> None:
    """The time of a step does not depend on density or rate: these are timed once."""
    study = parse_study(GRID, ["space={method.density: [0.1, 0.2, 0.3], optimizer.lr: [0.1, 0.2]}"])
    costs = trial_costs(study, plan_trials(study))
    assert len({cost.seconds for cost in costs.values()}) == 1
    assert len({cost.connections for cost in costs.values()}) == 3
    widths = [[k] for k in range(1, TIMED_KINDS + 3)]
    study = parse_study(GRID, [f"space={{model.hidden: {widths}}}"])
    seconds = [cost.seconds for cost in trial_costs(study, plan_trials(study)).values()]
    assert sum(value == value for value in seconds) == TIMED_KINDS
