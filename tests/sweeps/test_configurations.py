import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.configurations import (
    configurations,
    name_configurations,
    percent,
    stratified_sample,
    telling_columns,
    value_text,
)


def trials(*rows: dict[str, object]) -> pd.DataFrame:
    """One row a trial; each has an id, and one seed in all three streams unless it says other."""
    return pd.DataFrame(
        [
            {"trial_id": f"{k:012x}", "state": "completed", "reason": None,
             "data_checksum": "x", "seeds_topology": row.get("seed", 0),
             "seeds_weights": row.get("seed", 0), "seeds_data": row.get("seed", 0),
             "final_test_accuracy": k / 100,
             **{key: value for key, value in row.items() if key != "seed"}}
            for k, row in enumerate(rows)
        ]
    )  # fmt: skip


def test_a_configuration_is_named_by_method_and_density_and_sorted_dense_static_others() -> None:
    named = name_configurations(
        trials(
            {"method_name": "set", "method_density": 0.2, "method_drop_fraction": 0.3},
            {"method_name": "set", "method_density": 0.05, "method_drop_fraction": 0.3},
            {"method_name": "my_method", "method_density": 0.006},
            {"method_name": "dense"},
            {"method_name": "static", "method_density": 0.05},
        )
    )
    labels = ["dense", "static 5%", "my_method 0.6%", "SET 5%", "SET 20%"]
    assert named["label"].tolist() == labels
    assert configurations(named)["density"].fillna(-1).tolist() == [-1, 0.05, 0.006, 0.05, 0.2]


def test_seeds_of_a_configuration_share_its_name_and_come_in_numerical_order() -> None:
    named = name_configurations(
        trials(*({"method_name": "dense", "seed": seed} for seed in (10, 9, 1)))
    )
    assert named["label"].tolist() == ["dense"] * 3
    assert named["seed"].tolist() == ["1", "9", "10"]


def test_streams_with_seeds_of_their_own_are_told_apart() -> None:
    named = name_configurations(
        trials(
            {"method_name": "set", "seed": 0, "seeds_topology": 3},
            {"method_name": "set", "seed": 1, "seeds_topology": 3},
            {"method_name": "set", "seed": 1, "seeds_topology": 4},
        )
    )
    assert named["label"].nunique() == 1
    assert named["seed"].tolist() == ["3/0", "3/1", "4/1"]


def test_what_varies_within_a_method_is_in_the_name_and_what_the_method_decides_is_not() -> None:
    table = trials(
        {"method_name": "set", "method_density": 0.1, "method_drop_fraction": 0.3,
         "optimizer_lr": 0.1, "model_hidden": "[64, 32]"},
        {"method_name": "set", "method_density": 0.1, "method_drop_fraction": 0.3,
         "optimizer_lr": 0.05, "model_hidden": "[64, 32]"},
        {"method_name": "static", "method_density": 0.1,
         "optimizer_lr": 0.05, "model_hidden": "[128]"},
    )  # fmt: skip
    named = name_configurations(table)
    assert named["label"].tolist() == ["static 10%", "SET 10% lr 0.05", "SET 10% lr 0.1"]
    assert telling_columns(table) == ["optimizer_lr"]


def test_two_configurations_never_share_a_name() -> None:
    named = name_configurations(
        trials(
            {"method_name": "set", "method_density": 0.1000001},
            {"method_name": "set", "method_density": 0.1},
            {"method_name": "set", "method_density": 0.1, "seed": 1},
        )
    )
    assert named["label"].nunique() == 2
    assert named["label"].value_counts().tolist() == [2, 1]


def test_trials_without_a_configuration_are_called_imported() -> None:
    table = pd.DataFrame({"trial_id": ["a" * 12, "b" * 12], "state": ["masks only"] * 2})
    named = name_configurations(table)
    assert named["label"].tolist() == ["imported"] * 2
    assert named["density"].isna().all()
    both = pd.concat([trials({"method_name": "set", "method_density": 0.1}), table])
    assert name_configurations(both)["label"].tolist() == ["imported", "imported", "SET 10%"]


def test_no_trial_is_no_configuration() -> None:
    empty = pd.DataFrame(columns=["trial_id", "state", "reason"])
    assert name_configurations(empty).empty
    assert configurations(name_configurations(empty)).empty


@pytest.mark.parametrize(
    ("value", "text"),
    [("[64, 64]", "64-64"), ("[broken", "[broken"), (0.05, "0.05"), (3, "3"), (True, "True"),
     (None, ""), (float("nan"), ""), (np.int64(7), "7"), (np.float64(1e-7), "1e-07")],
)  # fmt: skip
def test_values_are_written_short(value: object, text: str) -> None:
    assert value_text(value) == text


def test_shares_keep_three_digits() -> None:
    assert [percent(x) for x in (1.0, 0.05, 0.006, 0.12345)] == ["100%", "5%", "0.6%", "12.3%"]


@given(st.lists(st.integers(0, 8), max_size=200), st.integers(9, 100))
def test_a_sample_has_every_stratum_in_proportion_and_never_too_many(
    strata: list[int], size: int
) -> None:
    sample = stratified_sample(strata, size)
    assert sample == sorted(set(sample))
    assert len(sample) <= size
    assert {strata[k] for k in sample} == set(strata)
    if len(strata) <= size:
        assert len(sample) == len(strata)
        return
    for stratum in set(strata):
        share = strata.count(stratum) / len(strata)
        taken = sum(strata[k] == stratum for k in sample)
        assert taken <= share * size + 1
        assert taken >= (size - 9) * (strata.count(stratum) - 1) / len(strata)


@given(st.integers(1, 50), st.integers(1, 60))
def test_with_more_strata_than_places_each_place_has_another_stratum(size: int, more: int) -> None:
    strata = [k // 2 for k in range(2 * (size + more))]
    sample = stratified_sample(strata, size)
    assert len({strata[k] for k in sample}) == len(sample) == size
