"""What a study file may say, and what a wrong one costs."""

import copy
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.errors import InputError
from sweeps.checks import check_distances
from sweeps.plan import plan_trials, trial_id
from sweeps.study import Study, check_study, study_schema
from sweeps.study_file import builtin_names, load_study, parse_study, study_yaml

BASE = {
    "name": "tiny",
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [8]},
    "method": {"name": "set", "density": 0.5},
    "epochs": 2,
    "snapshot_every": "1ep",
}


def study(**changes: object) -> Study:
    return check_study({**copy.deepcopy(BASE), **changes})


def refusal(**changes: object) -> str:
    with pytest.raises(InputError) as caught:
        plan_trials(study(**changes))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_line_says_the_value_once() -> None:
    assert refusal(snapshot_every="abc").count("'abc'") == 1
    assert refusal(distances={"final": {"where": "foo.bar()"}}).count("foo.bar()") <= 2


def test_what_trials_are_computed_with_is_no_part_of_their_identity() -> None:
    ids = {
        plan_trials(study(resources={"compute": compute}))[0].trial_id
        for compute in ("auto", "masked", "sparse")
    }
    assert ids == {plan_trials(study())[0].trial_id}


def test_the_optimizer_is_sgd_unless_named() -> None:
    trial = plan_trials(study(optimizer={"lr": 0.3}))[0]
    assert trial.config["optimizer"]["name"] == "sgd"
    assert trial.config["optimizer"]["lr"] == 0.3


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ({"where": "densty < 1"}, ["distances.final.where", "densty", "density"]),
        ({"steps": "0ep,9ep"}, ["distances.final.steps", "9ep", "2ep"]),
        ({"against": "9ep"}, ["distances.final.against", "9ep"]),
    ],
)
def test_distances_that_cannot_be_are_refused_before_training(spec: dict, parts: list) -> None:
    checked = study(distances={"final": spec})
    with pytest.raises(InputError) as caught:
        check_distances(checked, plan_trials(checked))
    for part in parts:
        assert part in str(caught.value)


@pytest.fixture(scope="module")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IDX files of MNIST's shapes with few images, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("idx")
    for part, n in (("train", 160), ("t10k", 10)):
        for kind, shape in (("images-idx3", (n, 28, 28)), ("labels-idx1", (n,))):
            head = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
            content = np.arange(np.prod(shape)) % 10
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + content.astype("u1").tobytes())
    return folder


@pytest.mark.parametrize("name", builtin_names())
def test_every_built_in_study_plans(name: str, few_images: Path) -> None:
    data = load_study(name).data["name"]
    overrides = [] if data == "digits" else [f"data.path={few_images}"]
    assert plan_trials(load_study(name, overrides))


PAPERS = ("figure-4", "random-starts", "evolution", "density", "tickets", "methods", "claim")


@pytest.mark.parametrize("name", PAPERS)
def test_a_study_of_the_papers_has_a_twin_that_needs_no_data(name: str) -> None:
    study, twin = load_study(name), load_study(f"{name}-small")
    assert twin.data["name"] == "digits"
    assert list(twin.distances) == list(study.distances)
    varied = [{key for grid in each.grids() for key in grid.lists} for each in (study, twin)]
    assert varied[0] - {"optimizer.lr"} == varied[1]  # a rate that was searched for is the study's


def test_figure_4_has_the_papers_networks_and_epochs() -> None:
    study = load_study("figure-4")
    links = sorted(link for grid in study.grids() for link in grid.lists["method.link"])
    assert links == [*range(10)]
    epochs = [f"{epoch}ep" for epoch in (0, 10, 20, 30, 40, 50, 100, 150, 190)]
    assert str(study.distances["epochs"].steps).split(",") == epochs
    assert study.method["density"] == 0.006


def test_the_claims_pairs_have_ten_seeds_that_its_search_does_not_use() -> None:
    seeds = [set(grid.lists["seed"]) for grid in load_study("claim").grids()]
    searched = [set(grid.lists["seed"]) for grid in load_study("claim-search").grids()]
    assert all(len(own) >= 10 for own in seeds)
    assert not set.union(*seeds) & set.union(*searched)
    assert load_study("claim-search").data["validation"] > 0


def test_a_resolved_study_reads_back_as_itself() -> None:
    first = load_study("quickstart")
    again = parse_study(study_yaml(first))
    assert again == first
    assert [t.trial_id for t in plan_trials(again)] == [t.trial_id for t in plan_trials(first)]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"epoch": 3}, ["epoch", "epochs"]),
        ({"method": {"name": "set", "densty": 0.1}}, ["method.densty", "density"]),
        ({"method": {"name": "sett"}}, ["method.name", "sett", "set"]),
        ({"method": {"name": "set", "density": 0}}, ["method.density", "0"]),
        ({"method": {"name": "set", "density": 1.5}}, ["method.density", "1.5"]),
        ({"method": {"name": "dense", "density": 7}}, ["method.density", "7"]),
        ({"method": {"name": "set", "density": "much"}}, ["method.density", "much"]),
        ({"method": {"name": "set", "distribution": "epsilon"}}, ["epsilon"]),
        ({"method": {"name": "set", "density": 1e-9}}, ["density", "connection"]),
        ({"method": {"name": "set", "update_every": "3ep"}}, ["method.update_every", "3ep"]),
        ({"model": {"name": "mlp", "hidden": []}}, ["model.hidden"]),
        ({"model": {"name": "mlp", "hidden": [0]}}, ["model.hidden", "0"]),
        ({"model": {"name": "mlp", "hidden": 8}}, ["model.hidden", "8"]),
        ({"data": {"name": "digit"}}, ["data.name", "digit", "digits"]),
        ({"data": {"name": "mnist", "path": "/nowhere/at/all"}}, ["/nowhere/at/all"]),
        ({"data": {"name": "digits", "validation": 0.9}}, ["data.validation", "0.9"]),
        ({"optimizer": {"name": "sgd", "batch_size": 10_000}}, ["optimizer.batch_size", "10000"]),
        ({"optimizer": {"name": "sgd", "lr": -1}}, ["optimizer.lr", "-1"]),
        ({"epochs": 0}, ["epochs", "0"]),
        ({"snapshot_every": "3ep"}, ["snapshot_every", "3ep", "2ep"]),
        ({"snapshot_every": "5 epochs"}, ["snapshot_every", "5 epochs"]),
        ({"snapshot_every": "0ep"}, ["snapshot_every", "0ep"]),
        ({"space": []}, ["space"]),
        ({"space": {"seed": []}}, ["space.seed", "[]"]),
        ({"space": {"method.densty": [0.1]}}, ["method.densty", "method.density"]),
        ({"space": {"resources.cpu": [1, 2]}}, ["resources.cpu"]),
        ({"space": {"method.density": [0.1, 2.0]}}, ["method.density", "2.0"]),
        ({"space": {"method.density": {"uniform": [0.1, 0.2]}}}, ["method.density", "random"]),
        ({"space": {"method.density": {"gauss": [0, 1]}}}, ["gauss", "loguniform"]),
        ({"space": {"seed": [0.5]}}, ["seed", "0.5"]),
        ({"space": {"seed": [-1]}}, ["seed", "-1"]),
        ({"search": {"algorithm": "random"}}, ["sampler"]),
        ({"search": {"algorithm": "grid", "metric": "test_accuracy"}}, ["metric", "validation"]),
        ({"scheduler": {"name": "pbt"}}, ["scheduler.name", "pbt", "asha"]),
        (
            {"scheduler": {"name": "asha"}, "data": {"name": "digits", "validation": 0}},
            ["data.validation", "asha"],
        ),
        ({"distances": {"final": {"method": "layerwize"}}}, ["distances.final.method"]),
        ({"distances": {"final": {"where": "__import__('os')"}}}, ["where"]),
        ({"snapshot_every": 5}, ["snapshot_every", "5", "5ep"]),
        ({"optimizer": {"lr": -1}}, ["optimizer.lr", "-1"]),
        ({"distances": {"../up": {}}}, ["distances", "../up"]),
        ({"tracking": {"uri": "nonsense:/x"}}, ["tracking.uri", "nonsense"]),
        ({"name": "../up"}, ["name", "../up"]),
        ({"epochs": 10**400}, ["epochs"]),
        ({"space": {"epochs": [10**400]}}, ["epochs"]),
        (
            {"space": {"seed": {"uniform": [0, 10**400]}}, "search": {"algorithm": "random"}},
            ["space.seed.uniform"],
        ),
        (
            {"space": {"seed": {"randint": [0, 1e30]}}, "search": {"algorithm": "random"}},
            ["space.seed.randint"],
        ),
        ({"resources": {"threads": 100_000}}, ["resources.threads", "100000"]),
        ({"resources": {"compute": "fast"}}, ["resources.compute", "fast", "sparse"]),
        (
            {"resources": {"compute": "sparse"}, "space": {"method.name": ["set", "snfs"]}},
            ["resources.compute", "sparse", "snfs", "momentum"],
        ),
        (
            {"resources": {"compute": "sparse", "gpu": 0.1}},
            ["resources.compute", "sparse", "GPU", "masked"],
        ),
        ({"search": {"metric": "validation_loss", "mode": "max"}}, ["search", "max", "minimised"]),
        ({"search": {"algorithm": "optuna"}}, ["search.algorithm", "space"]),
        ({"scheduler": {"name": "asha", "grace_period": 9}}, ["scheduler.grace_period", "9"]),
        (
            {"scheduler": {"name": "asha"}, "space": {"data.validation": [0.1, 0]}},
            ["data.validation", "asha"],
        ),
        ({"seeds": {"topolgy": 3}}, ["seeds.topolgy", "topology"]),
        ({"search": {"algoritm": "grid"}}, ["search.algoritm", "algorithm"]),
    ],
)
def test_a_wrong_study_costs_one_line_that_names_key_and_value(changes: dict, parts: list) -> None:
    message = refusal(**changes)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "- just\n- a list",
        "name: x\nname: y",
        "\t",
        "? [a]\n: b",
        "&a [*a]",
        "name: !!python/name:os.system x",
    ],
)
def test_a_file_that_is_no_study_costs_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_study(text)
    assert "\n" not in str(caught.value)


def test_numbers_may_be_written_without_a_point() -> None:
    text = yaml.safe_dump({**BASE}) + "optimizer: {name: sgd, lr: 1e-2}\n"
    assert plan_trials(parse_study(text))[0].config["optimizer"]["lr"] == 0.01


def test_overrides_set_one_dotted_key() -> None:
    changed = load_study("quickstart", ["method.density=0.02", "epochs=9", "space=null"])
    assert (changed.method["density"], changed.epochs, changed.space) == (0.02, 9, None)
    with pytest.raises(InputError, match="KEY=VALUE"):
        load_study("quickstart", ["epochs"])


def test_an_override_wins_over_the_space() -> None:
    changed = load_study("quickstart", ["method.density=0.02", "space.seed=[7]"])
    trials = plan_trials(changed)
    assert {t.config["method"].get("density", 0.02) for t in trials} == {0.02}
    assert {t.seed for t in trials} == {7}
    assert len(trials) == 3


def test_a_relative_data_path_is_resolved_where_the_study_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = study(data={"name": "mnist", "path": "here"})
    assert read.data["path"] == str(tmp_path / "here")


def test_a_default_interval_longer_than_training_is_no_mistake() -> None:
    few = check_study({k: v for k, v in BASE.items() if k != "snapshot_every"})
    assert len(plan_trials(few)) == 1


def test_yaml_anchors_and_merge_keys_work() -> None:
    text = """
name: merged
data: digits
model: {name: mlp, hidden: [8]}
method: &base {name: set, density: 0.5}
epochs: 2
snapshot_every: 1ep
space: {seed: [0]}
"""
    assert parse_study(text + "optimizer: {<<: {name: sgd, lr: 0.1}, lr: 0.2}\n").optimizer == {
        "name": "sgd",
        "lr": 0.2,
    }


def test_the_schema_knows_every_key_and_accepts_the_built_in_study() -> None:
    schema = study_schema()
    assert set(schema["properties"]) == set(Study.model_fields)
    density = schema["properties"]["method"]["anyOf"][1]["properties"]["density"]
    assert density["maximum"] == 1


def test_equal_configurations_are_one_trial() -> None:
    trials = plan_trials(study(space=[{"method.name": ["dense"], "method.density": [0.1, 0.2]},
                                      {"method.name": "dense"}]))  # fmt: skip
    assert len(trials) == 1
    assert "density" not in trials[0].config["method"]


def test_grids_are_united_and_crossed() -> None:
    trials = plan_trials(
        study(space=[{"method.name": "dense", "seed": [0, 1]},
                     {"method.density": [0.2, 0.4], "seed": [0, 1, 2]}])
    )  # fmt: skip
    assert len(trials) == 2 + 6
    assert len({t.trial_id for t in trials}) == 8


def test_the_id_ignores_fields_at_their_default_and_where_the_data_lies() -> None:
    config = plan_trials(study())[0].config
    full = trial_id(config)
    assert len(full) == 12
    less = copy.deepcopy(config)
    del less["optimizer"]["momentum"]  # at its default
    assert trial_id(less) == full
    other = copy.deepcopy(config)
    other["optimizer"]["momentum"] = 0.5
    assert trial_id(other) != full


def test_training_options_vary_flat_and_keep_the_ids_of_those_without() -> None:
    plain = plan_trials(study())[0]
    trials = plan_trials(
        study(space={"optimizer.lr_schedule": ["constant", "cosine"],
                     "optimizer.gamma": [0.1, 0.5], "optimizer.clip_norm": [None, 1.0]})
    )  # fmt: skip
    assert trials[0].trial_id == plain.trial_id
    # No trial has a use for gamma, which would only tell equal ones apart.
    found = [(t.config["optimizer"]["lr_schedule"], t.config["optimizer"].get("clip_norm"))
             for t in trials]  # fmt: skip
    assert found == [("constant", None), ("constant", 1.0), ("cosine", None), ("cosine", 1.0)]


def test_mixed_precision_needs_a_gpu() -> None:
    mixed = {"optimizer": {"name": "sgd", "mixed_precision": True}}
    with pytest.raises(
        InputError, match=r"^optimizer\.mixed_precision: True .*resources\.gpu is 0$"
    ):
        plan_trials(study(**mixed))
    assert plan_trials(study(**mixed, resources={"gpu": 0.5}))


def test_published_ids_stay() -> None:
    # A changed id would orphan every stored trial: this one is of version 0.1.0.
    config = {
        "data": {"name": "digits", "checksum": "0123456789abcdef", "validation": 0.1},
        "model": {"name": "mlp", "hidden": [8], "activation": "relu"},
        "method": {"name": "set", "density": 0.5, "distribution": "erdos_renyi",
                   "mask_output": False, "drop_fraction": 0.3, "update_every": "1ep",
                   "new_weights": "zero"},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005,
                      "batch_size": 64},
        "epochs": 2,
        "seeds": {"topology": 0, "weights": 0, "data": 0},
    }  # fmt: skip
    identity = (
        '{"data":{"checksum":"0123456789abcdef","name":"digits"},"epochs":2,'
        '"method":{"density":0.5,"name":"set"},"model":{"hidden":[8],"name":"mlp"},'
        '"optimizer":{"name":"sgd"},"seeds":{}}'
    )
    assert trial_id(config) == hashlib.sha256(identity.encode()).hexdigest()[:12] == "7335eaf18ee7"


def test_seed_feeds_every_stream_that_is_not_fixed() -> None:
    trial = plan_trials(study(seed=4, seeds={"topology": 3}))[0]
    assert trial.config["seeds"] == {"topology": 3, "weights": 4, "data": 4}


def test_random_search_draws_the_same_and_grows_without_changing() -> None:
    space = {
        "method.density": {"uniform": [0.1, 0.9]},
        "optimizer.lr": {"loguniform": [1e-3, 1e-1]},
        "model.hidden": {"choice": [[8], [8, 8]]},
        "seed": [0, 1],
    }
    few = plan_trials(study(space=space, search={"algorithm": "random", "num_samples": 3}))
    more = plan_trials(study(space=space, search={"algorithm": "random", "num_samples": 5}))
    assert [t.trial_id for t in more[:6]] == [t.trial_id for t in few]
    assert len(more) == 10
    assert all(0.1 <= t.config["method"]["density"] < 0.9 for t in more)


WORDS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@example(key="optimizer", value={"\n": None})
@example(key="space", value={"a\r\nb": [1]})
@given(key=st.sampled_from(sorted(Study.model_fields)), value=VALUES)
def test_any_value_anywhere_plans_or_costs_one_line(key: str, value: object) -> None:
    raw = {**copy.deepcopy(BASE), key: value}
    message = "it plans"
    try:
        plan_trials(check_study(raw))
    except InputError as error:
        message = str(error)
    assert message
    assert "\n" not in message
