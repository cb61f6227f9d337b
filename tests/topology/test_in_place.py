"""Networks compared with every neuron in its place, and residual networks in no other way."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.distances import load_distances
from storage.errors import InputError
from storage.masks import LayerMask, MaskStore
from storage.records import TrialRecord, write_record
from topology import DistanceSpec, nnstd, pairwise, run_distances
from topology.comparison import METHODS


def in_sets(a, b):
    """Each layer's mean Jaccard distance of row i with row i."""
    distances = []
    for x, y in zip(a, b, strict=True):
        rows = []
        for row_a, row_b in zip(x, y, strict=True):
            one, other = set(np.flatnonzero(row_a)), set(np.flatnonzero(row_b))
            rows.append(len(one ^ other) / len(one | other) if one | other else 0.0)
        distances.append(np.mean(rows))
    return distances


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    density=st.floats(0, 1),
)
def test_every_neuron_is_compared_with_the_one_of_its_index(networks, seed, sizes, density):
    a, b = (networks(seed + k, sizes, density) for k in range(2))
    found = nnstd(a, b, method="in_place")
    np.testing.assert_allclose(found.layers, in_sets(a, b), atol=1e-12)
    assert nnstd(b, a, method="in_place").layers == found.layers
    assert nnstd(a, a, method="in_place").network == 0
    for matching in found.matchings:
        assert matching.tolist() == list(range(len(matching)))
    assert not found.canonical
    assert found.gap == 0
    labelled = nnstd(a, b, method="in_place", labelled_outputs=True)
    assert labelled.layers == found.layers


def test_it_is_never_below_what_all_layers_matched_together_come_to(networks):
    masks = [networks(k, density=0.3) for k in range(4)]
    in_place = pairwise(masks, method="in_place")[:, 0]
    joint = pairwise(masks, method="joint", shared_indices=True)[:, 0]
    assert (joint <= in_place + 1e-12).all()


def test_inputs_in_groups_stay_in_their_places_as_well():
    rng = np.random.default_rng(0)
    a, b = ([rng.random((4, 9)) < 0.5, rng.random((3, 4 * 9)) < 0.5] for _ in range(2))
    np.testing.assert_allclose(nnstd(a, b, method="in_place").layers, in_sets(a, b))


def test_other_widths_have_no_places_in_common(networks):
    with pytest.raises(ValueError, match=r"layer 1 has 4 neurons in one network and 5"):
        nnstd(networks(0, (6, 3, 4, 2)), networks(0, (6, 3, 5, 2)), method="in_place")


@pytest.fixture
def residual_run(tmp_path):
    """Three residual networks and two plain ones, of the same shapes."""
    out = tmp_path / "run"
    rng = np.random.default_rng(1)
    masks = {}
    for trial in range(5):
        trial_id, plain = f"{trial:012x}", trial > 2
        shapes = [(4, 9), (4, 36), (4, 36), (3, 4)]
        made = [rng.random(shape) < 0.4 for shape in shapes]
        roles = ["hidden"] * 3 if plain else ["residual", "hidden", "residual"]
        layers = [
            LayerMask(f"layer_{k}", mask, role, group)
            for k, (mask, role, group) in enumerate(
                zip(made, [*roles, "output"], (9, 9, 9, 1), strict=True)
            )
        ]
        MaskStore(out).append(trial_id, "s", 0, 0, 1, layers)
        config = {"model": {"name": "plain" if plain else "resnet"}}
        write_record(out, TrialRecord(trial_id, "s", config, "completed", 10, 100))
        masks[trial_id] = made
    return out, masks


def test_the_stage_compares_residual_networks_in_place(residual_run):
    out, masks = residual_run
    result = run_distances(out, "residual", DistanceSpec(method="in_place"), in_process=True)
    assert result.groups == (2, 3)  # plain ones of the same shapes are apart
    for group, trials in enumerate([{3, 4}, {0, 1, 2}]):
        for column in ("network", *(f"layer_{k}" for k in range(4))):
            found = load_distances(out, "residual", column=column, group=group)
            assert {int(trial_id, 16) for trial_id, _ in found.index} == trials
            for (i, _), (j, _) in itertools.product(found.index, found.columns):
                layers = in_sets(masks[i], masks[j])
                expected = np.average(layers, weights=[4, 4, 4, 3])
                if column != "network":
                    expected = layers[int(column[-1])]
                assert found.loc[(i, 0), (j, 0)] == pytest.approx(expected)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "in_place"])
def test_the_stage_refuses_to_match_their_neurons_and_says_what_to_ask(residual_run, method):
    out, _ = residual_run
    with pytest.raises(InputError) as caught:
        run_distances(out, "matched", DistanceSpec(method=method), in_process=True)
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"method: {method}", "trial 000000000000", "residual", "in_place", "where"):
        assert part in message
    assert not (out / "distances" / "matched").exists()
    plain = DistanceSpec(method=method, where="model_name != 'resnet'")
    assert run_distances(out, "plain", plain, in_process=True).n_pairs == 1


def test_a_level_of_chance_is_that_of_the_same_places(residual_run):
    out, _ = residual_run
    spec = DistanceSpec(method="in_place", chance=3)
    assert run_distances(out, "residual", spec, in_process=True).n_chance > 0


def test_a_role_that_is_none_is_refused(tmp_path):
    layer = LayerMask("a", np.ones((2, 2), dtype=bool), "hiden")
    with pytest.raises(InputError, match="'hiden' is not hidden or output or residual"):
        MaskStore(tmp_path).append("0" * 12, "s", 0, 0, 1, [layer])
