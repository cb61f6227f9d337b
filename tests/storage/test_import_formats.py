"""Files of other programs: what is a connection, what is a layer, and what is refused."""

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from foreign_networks import SIZES, assert_holds, mlp, weights, write_set
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from storage import InputError, Run
from storage.import_masks import Connected, chained
from storage.importers import ImportOptions, import_networks


def layers_of(out: Path) -> list[tuple[str, int, int, int, str]]:
    index = Run.open(out).masks.index()
    columns = ["layer", "n_out", "n_in", "in_group", "role"]
    return list(index[columns].itertuples(index=False, name=None))


@pytest.mark.parametrize("part", ["", "net", "net/epoch_010"])
def test_folders_of_set_authors_give_the_same_whether_all_one_or_a_part_is_named(
    tmp_path: Path, part: str
) -> None:
    source = tmp_path / "published"
    write_set(source / "net" / "epoch_010", mlp())
    (source / "expected.json").write_text("{}")
    import_networks([source / part], tmp_path / "out")
    assert_holds(tmp_path / "out", {("net", 10): mlp()})
    assert [row[4] for row in layers_of(tmp_path / "out")] == ["hidden", "hidden", "output"]


def test_layers_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    masks = mlp(sizes=tuple(range(4, 17)))
    write_set(tmp_path / "net" / "epoch_0", masks)
    import_networks([tmp_path / "net"], tmp_path / "out")
    assert [row[0] for row in layers_of(tmp_path / "out")] == [f"weight_l{k}" for k in range(12)]


@pytest.mark.parametrize(
    ("kind", "transpose", "bias"),
    [
        ("npy", False, "none"),
        ("npy", True, "first"),
        ("npz", True, "none"),
        ("npz", False, "last"),
        ("csr", True, "last"),
        ("csr", False, "first"),
        ("coo", True, "none"),
        ("csc", False, "none"),
    ],
)
def test_matrices_by_pattern_in_every_form(
    tmp_path: Path, kind: str, transpose: bool, bias: Any
) -> None:
    masks = mlp()
    folder = tmp_path / "nets" / "a" / "step_20"
    folder.mkdir(parents=True)
    for name, mask in masks.items():
        stored = weights(mask)
        ones = np.ones((len(mask), 1))
        if bias != "none":
            stored = np.hstack([ones, stored] if bias == "first" else [stored, ones])
        stored = stored.T if transpose else stored
        if kind == "npy":
            np.save(folder / f"{name}.npy", stored)
        elif kind == "npz":
            np.savez(folder / f"{name}.npz", stored)
        else:
            scipy.sparse.save_npz(
                folder / f"{name}.npz", scipy.sparse.csr_array(stored).asformat(kind)
            )
    ending = "npy" if kind == "npy" else "npz"
    options = ImportOptions(
        pattern=f"{{trial}}/step_{{step}}/{{layer}}.{ending}",
        transpose=transpose, bias_row=bias, steps_per_epoch=10,
    )  # fmt: skip
    import_networks([tmp_path / "nets"], tmp_path / "out", options)
    assert_holds(tmp_path / "out", {("a", 20): masks})
    assert set(Run.open(tmp_path / "out").masks.index()["epoch"]) == {2}


def test_stored_zeros_are_no_connections(tmp_path: Path) -> None:
    matrix = scipy.sparse.csr_array(([0.0, 2.0], [0, 2], [0, 1, 2]), shape=(2, 3))
    (tmp_path / "net").mkdir()
    scipy.sparse.save_npz(tmp_path / "net" / "fc.npz", matrix)
    import_networks([tmp_path], tmp_path / "out", ImportOptions(pattern="{trial}/{layer}.npz"))
    mask = np.array([[False, False, False], [False, False, True]])
    assert_holds(tmp_path / "out", {("net", 0): {"fc": mask}})


def pruned_cnn() -> nn.Sequential:
    """For 5 x 5 images of 2 channels: a convolution, a depthwise one, flatten, Linear twice."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 8, (1, 2), groups=4),
        nn.Flatten(), nn.Linear(8 * 3 * 2, 5), nn.Linear(5, 3),
    )  # fmt: skip
    torch.manual_seed(0)
    for module in model:
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.random_unstructured(module, "weight", 0.6)
    return model


def expected_cnn(model: nn.Sequential) -> dict[str, NDArray[np.bool_]]:
    """The same connections, one by one."""
    masks = {}
    for name, channels, field in (("0", 2, 9), ("2", 4, 2), ("4", 8, 6), ("5", 5, 1)):
        stored = model[int(name)].weight_mask.numpy() != 0
        mask = np.zeros((len(stored), channels * field), dtype=np.bool_)
        for place in np.argwhere(stored):
            out, channel = int(place[0]), int(place[1])
            if name == "2":  # 2 filters a channel, each over its own
                mask[out, (out // 2) * field + int(place[3])] = True
            elif stored.ndim == 4:
                mask[out, channel * field + 3 * int(place[2]) + int(place[3])] = True
            else:
                mask[out, channel] = True
        masks[name] = mask
    return masks


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        ("", ""),
        ("", "module."),
        ("state_dict", "_orig_mod."),
        ("model", ""),
        ("model_state_dict", ""),
    ],
)
def test_pruned_convolutions_and_linear_layers_of_a_state_dict(
    tmp_path: Path, wrap: str, prefix: str
) -> None:
    model = pruned_cnn()
    state: Any = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    stored = {wrap: state, "epoch": 3, "optimizer": {"state": {}}} if wrap else state
    torch.save(stored, tmp_path / "cnn_epoch3.pt")
    import_networks([tmp_path / "cnn_epoch3.pt"], tmp_path / "out")
    assert_holds(tmp_path / "out", {("cnn", 3): expected_cnn(model)})
    assert [row[3] for row in layers_of(tmp_path / "out")] == [9, 2, 6, 1]


def test_a_mask_beside_the_weights_tells_the_connections(tmp_path: Path) -> None:
    mask = mlp()["weight_l0"]
    state = {
        "fc.weight": torch.ones(mask.shape),
        "fc.bias": torch.ones(len(mask)),
        "fc.mask": torch.from_numpy(mask),
        "norm.weight": torch.ones(len(mask)),
        "norm.mask": torch.ones(len(mask)),
        "out.weight": torch.eye(3, len(mask)),
    }
    torch.save(state, tmp_path / "net.pth")
    import_networks([tmp_path / "net.pth"], tmp_path / "out")
    expected = {"fc": mask, "out": np.eye(3, len(mask)) != 0}
    assert_holds(tmp_path / "out", {("net", 0): expected})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.bool])
def test_nonzero_weights_of_any_type_of_number_are_connections(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    masks = mlp()
    state = {f"{name}.weight": torch.from_numpy(mask).to(dtype) for name, mask in masks.items()}
    torch.save(state, tmp_path / "net.pt")
    save_file(state, tmp_path / "other.safetensors")
    import_networks([tmp_path], tmp_path / "out")
    assert_holds(tmp_path / "out", {("net", 0): masks, ("other", 0): masks})


def test_sparse_tensors_and_arrays_by_name_are_networks_too(tmp_path: Path) -> None:
    masks = mlp()
    tensors = {name: torch.from_numpy(weights(mask)) for name, mask in masks.items()}
    torch.save({n: t.to_sparse_csr() for n, t in tensors.items()}, tmp_path / "csr.pt")
    torch.save({n: t.to_sparse() for n, t in tensors.items()}, tmp_path / "coo.pt")
    np.savez(tmp_path / "arrays.npz", **{n: weights(mask) for n, mask in masks.items()})
    sources = [tmp_path / "csr.pt", tmp_path / "coo.pt", tmp_path / "arrays.npz"]
    import_networks(sources, tmp_path / "out")
    assert_holds(tmp_path / "out", {(name, 0): masks for name in ("csr", "coo", "arrays")})


def test_layers_of_safetensors_come_in_the_order_of_numbers_in_their_names(tmp_path: Path) -> None:
    masks = {f"net.{k}.weight": torch.eye(4) for k in (10, 9, 2)}
    save_file(masks, tmp_path / "net.safetensors")
    import_networks([tmp_path / "net.safetensors"], tmp_path / "out")
    assert [row[0] for row in layers_of(tmp_path / "out")] == ["net.2", "net.9", "net.10"]


@pytest.mark.parametrize(
    ("wanted", "left", "last"),
    [
        ("0:2", ["weight_l0", "weight_l1"], "hidden"),
        ("weight_l0,weight_l1", ["weight_l0", "weight_l1"], "hidden"),
        ("1:", ["weight_l1", "weight_l2"], "output"),
        ("weight_l2", ["weight_l2"], "output"),
        (":-1", ["weight_l0", "weight_l1"], "hidden"),
    ],
)
def test_the_last_layer_is_labelled_unless_it_is_left_out(
    tmp_path: Path, wanted: str, left: list[str], last: str
) -> None:
    write_set(tmp_path / "net" / "epoch_0", mlp())
    import_networks([tmp_path / "net"], tmp_path / "out", ImportOptions(layers=wanted))
    rows = layers_of(tmp_path / "out")
    assert [row[0] for row in rows] == left
    assert rows[-1][4] == last
    for labelled in (False, True):
        options = ImportOptions(layers=wanted, labelled_outputs=labelled)
        import_networks([tmp_path / "net"], tmp_path / f"out{labelled}", options)
        assert (layers_of(tmp_path / f"out{labelled}")[-1][4] == "output") == labelled


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    channels=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    field=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    image=st.integers(1, 4),
    after=st.integers(1, 5),
)
def test_an_input_belongs_to_the_neuron_that_in_group_says(
    seed: int, channels: list[int], field: tuple[int, int], image: int, after: int
) -> None:
    """Each connection of a filter or neuron, by its channel, is found under that channel."""
    rng = np.random.default_rng(seed)
    stored = [
        Connected(f"conv{k}", rng.random((n_out, n_in, *field)) < 0.5)
        for k, (n_in, n_out) in enumerate(pairwise(channels))
    ]
    # One channel after several would be a depthwise convolution.
    if any(layer.there.shape[1] == 1 for layer in stored[1:]):
        return
    stored.append(Connected("fc", rng.random((after, channels[-1] * image)) < 0.5, linear=True))
    masks = chained(stored, True, "here")
    assert [layer.role for layer in masks[-2:]] == ["hidden", "output"]
    for layer, kept in zip(masks, stored, strict=True):
        n_before = layer.mask.shape[1] // layer.in_group
        by_neuron = layer.mask.reshape(len(layer.mask), n_before, layer.in_group).sum(axis=2)
        there = kept.there.reshape(len(kept.there), n_before, -1)
        np.testing.assert_array_equal(by_neuron, there.sum(axis=2))


class Trap:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    trap, sources = tmp_path / "sprung", []
    torch.save({"fc.weight": torch.eye(3), "more": Trap(trap)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Trap(trap)))
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Trap(trap)))
    objects = np.array([[Trap(trap)]], dtype=object)
    np.savez(tmp_path / "d.npz", fc=objects)
    np.save(tmp_path / "e.npy", objects, allow_pickle=True)
    sources = sorted(tmp_path.iterdir())
    for source in sources:
        options = ImportOptions(pattern="{layer}.npy") if source.suffix == ".npy" else None
        with pytest.raises(InputError, match=source.name):
            import_networks([source], tmp_path / "out", options)
    assert len(sources) == 5
    assert not trap.exists()
    assert not (tmp_path / "out").exists()


def test_an_index_beyond_the_shape_is_refused_not_written_to(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "fc.npz", format=b"csr", shape=np.array([2, 3]), data=np.ones(2),
        indices=np.array([0, 99_999_999]), indptr=np.array([0, 1, 2]),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"fc\.npz"):
        import_networks([tmp_path], tmp_path / "out", ImportOptions(pattern="{layer}.npz"))


def state_dict(**tensors: Any) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.as_tensor(value) for name, value in tensors.items()}


WRONG_STATES: dict[str, tuple[Any, str]] = {
    "nan": (state_dict(fc=[[float("nan"), 1.0]]), "fc.weight: holds nan"),
    "inf": (state_dict(fc=[[float("inf"), 1.0]]), "fc.weight: holds nan or infinity"),
    "complex": (state_dict(fc=torch.eye(2, dtype=torch.complex64)), "complex64"),
    "empty": (state_dict(fc=torch.zeros(0, 4)), "shape"),
    "three-dimensions": (state_dict(conv=torch.ones(2, 2, 2)), "conv"),
    "embedding": (state_dict(emb=torch.ones(50, 8), fc=torch.ones(4, 8)), "50 neurons of emb"),
    "concatenation": (state_dict(a=torch.ones(4, 3), b=torch.ones(2, 8)), "as many"),
    "flatten": (state_dict(a=torch.ones(4, 3, 2, 2), b=torch.ones(2, 9)), "a multiple"),
    "shortcut": (state_dict(a=torch.ones(8, 4, 1, 1), b=torch.ones(8, 4, 1, 1)), "channels"),
    "no-layers": (state_dict(norm=torch.ones(4)), "holds no layer"),
    "a-list": ([torch.ones(2, 2)], "state dict"),
    "a-tensor": (torch.ones(2, 2), "state dict"),
    "mask-of-another-shape": ({**state_dict(fc=torch.ones(2, 3)), "fc.mask": torch.ones(3, 2)},
                              "shape"),
    "a-whole-model": (nn.Linear(2, 2), "more than numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_STATES)
def test_a_state_dict_that_is_no_chain_of_layers_costs_one_line(tmp_path: Path, name: str) -> None:
    stored, part = WRONG_STATES[name]
    torch.save(stored, tmp_path / f"{name}.pt")
    with pytest.raises(InputError) as refused:
        import_networks([tmp_path / f"{name}.pt"], tmp_path / "out")
    assert f"{name}.pt" in str(refused.value)
    assert part in str(refused.value)
    assert "weights_only" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_chosen_layers_need_not_care_for_the_others(tmp_path: Path) -> None:
    state = state_dict(
        emb=torch.full((50, 8), float("nan")), fc=torch.ones(4, 8), o=torch.ones(2, 4)
    )
    torch.save(state, tmp_path / "net.pt")
    import_networks([tmp_path / "net.pt"], tmp_path / "out", ImportOptions(layers="fc,o.weight"))
    assert [row[0] for row in layers_of(tmp_path / "out")] == ["fc", "o"]


@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors", "npz"])
@pytest.mark.parametrize("damage", ["cut", "other", "nothing"])
def test_a_damaged_file_costs_one_line(tmp_path: Path, ending: str, damage: str) -> None:
    good, bad = tmp_path / f"good.{ending}", tmp_path / f"bad.{ending}"
    state = {name: torch.from_numpy(weights(mask)) for name, mask in mlp().items()}
    if ending == "safetensors":
        save_file(state, good)
    elif ending == "npz":
        np.savez(good, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, good)
    whole = good.read_bytes()
    bad.write_bytes(
        {"cut": whole[: len(whole) // 2], "other": b"\0text" * 99, "nothing": b""}[damage]
    )
    with pytest.raises(InputError, match=rf"bad\.{ending}: .*expected"):
        import_networks([bad], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_layer_is_a_layer(tmp_path: Path) -> None:
    masks = mlp() | {"weight_l1": np.zeros((SIZES[2], SIZES[1]), dtype=np.bool_)}
    write_set(tmp_path / "net" / "epoch_1", masks)
    import_networks([tmp_path], tmp_path / "out")
    assert_holds(tmp_path / "out", {("net", 1): masks})
