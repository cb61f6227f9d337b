"""A layer of its connections alone against a dense one, and both ways to hold parameters."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sweeps.training import positions
from sweeps.training.masking import Change
from sweeps.training.mlp import SReLU
from sweeps.training.parameters import MaskedParameters, carried
from sweeps.training.sparse_linear import SparseLinear
from sweeps.training.sparse_parameters import SparseParameters

# On a machine with other work any one example may take long.
patient = settings(deadline=None, max_examples=50)


def drawn(shape: tuple[int, int], density: float, rng: np.random.Generator) -> np.ndarray:
    mask: np.ndarray = rng.random(shape) < density
    return mask


@st.composite
def some_masks(draw: st.DrawFn) -> np.ndarray:
    """Some with empty rows and columns, some with one connection, with none, with all."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    density = draw(st.sampled_from([0.0, 0.1, 0.3, 1.0]) | st.none())
    if density is not None:
        return drawn(shape, density, rng)
    mask = np.zeros(shape, dtype=bool)
    mask.flat[rng.integers(mask.size)] = True
    return mask


masks = some_masks()


def layer_of(mask: np.ndarray, seed: int = 0) -> SparseLinear:
    layer = SparseLinear(mask.shape, positions.of_mask(mask))
    generator = torch.Generator().manual_seed(seed)
    layer.weight.data.normal_(generator=generator)
    layer.bias.data.normal_(generator=generator)
    return layer


@patient
@given(mask=masks, batch=st.integers(1, 5), seed=st.integers(0, 9), by_feature=st.booleans())
def test_outputs_and_gradients_are_those_of_the_dense_layer_at_the_connections(
    mask: np.ndarray, batch: int, seed: int, by_feature: bool
) -> None:
    layer = layer_of(mask, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    x = torch.randn(batch, mask.shape[1], generator=generator)
    towards = torch.randn(batch, mask.shape[0], generator=generator)
    if by_feature:  # as another such layer leaves it in memory
        x = x.t().contiguous().t()
    x.requires_grad_(True)
    y = layer(x)
    y.backward(towards)

    weight = layer.dense_weight().requires_grad_(True)
    dense_x = x.detach().clone().requires_grad_(True)
    bias = layer.bias.detach().clone().requires_grad_(True)
    expected = F.linear(dense_x, weight, bias)
    expected.backward(towards)
    connected = torch.from_numpy(layer.connected)
    assert weight.grad is not None
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, dense_x.grad)
    torch.testing.assert_close(layer.bias.grad, bias.grad)
    torch.testing.assert_close(layer.weight.grad, weight.grad.view(-1)[connected])


@patient
@given(mask=masks, start=st.integers(0, 8), seed=st.integers(0, 9))
def test_what_a_watched_pass_leaves_multiplies_out_to_the_gradient_of_all_weights(
    mask: np.ndarray, start: int, seed: int
) -> None:
    layer = layer_of(mask, seed)
    x = torch.randn(3, mask.shape[1], generator=torch.Generator().manual_seed(seed))
    parameters = SparseParameters(layer, {"layer": layer.weight}, [])
    scores = parameters.gradient_scores(lambda: layer(x).square().sum().backward())
    assert layer.factors is None
    weight = layer.dense_weight().requires_grad_(True)
    F.linear(x, weight, layer.bias.detach()).square().sum().backward()
    assert weight.grad is not None
    rows = scores["layer"].rows(start, mask.shape[0])
    np.testing.assert_allclose(rows, weight.grad[start:], rtol=1e-4, atol=1e-4)


def test_an_activation_between_two_such_layers_is_nowhere_copied_into_another_order() -> None:
    first, second = layer_of(np.eye(5, 4, dtype=bool)), layer_of(np.ones((3, 5), dtype=bool))
    for activation in (torch.relu, SReLU(5)):
        hidden = activation(first(torch.ones(7, 4)))
        assert hidden.t().is_contiguous()
        assert second(hidden).t().is_contiguous()


class Network(nn.Module):
    """Two masked layers, one that is none, as either kind."""

    def __init__(self, masked: dict[str, np.ndarray], sparse: bool) -> None:
        super().__init__()
        self.masked = nn.ModuleDict()
        for name, mask in masked.items():
            if sparse:
                self.masked[name] = SparseLinear(mask.shape, positions.of_mask(mask))
            else:
                self.masked[name] = nn.Linear(mask.shape[1], mask.shape[0])
        self.output = nn.Linear(3, 2)


def parameters_of(masked: dict[str, np.ndarray], sparse: bool) -> Any:
    network = Network(masked, sparse)
    weights = {name: layer.weight for name, layer in network.masked.items()}
    if sparse:
        return SparseParameters(network, weights, [network.output.weight])
    connected = {name: positions.of_mask(mask) for name, mask in masked.items()}
    return MaskedParameters(network, weights, [network.output.weight], connected)


@st.composite
def changes(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], dict[str, Change]]:
    """Two masks, and of each what goes and what comes; the numbers need not be equal."""
    before = {name: draw(masks) for name in ("a", "b")}
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dropped, grown = draw(st.sampled_from([(0.3, 0.1), (1.0, 0.0), (0.0, 0.5), (0.5, 1.0)]))
    made = {}
    for name, mask in before.items():
        gone = mask & drawn(mask.shape, dropped, rng)
        come = drawn(mask.shape, grown, rng) & ~(mask & ~gone)
        made[name] = Change(positions.of_mask(gone), positions.of_mask(come))
    return before, made


@patient
@given(made=changes(), seed=st.integers(0, 9))
def test_a_change_moves_values_and_slots_to_the_same_places_as_with_masks(
    made: tuple[dict[str, np.ndarray], dict[str, Change]], seed: int
) -> None:
    before, change_of = made
    connected = {name: positions.of_mask(mask) for name, mask in before.items()}
    n = sum(len(where) for where in connected.values()) + sum(len(m) for m in before.values()) + 8
    rng = np.random.default_rng(seed)
    start = {k: torch.from_numpy(rng.random(n, dtype=np.float32)) for k in ("values", "slot")}
    new_weights = {
        name: rng.random(len(change.grown), dtype=np.float32) for name, change in change_of.items()
    }
    left = []
    for sparse in (False, True):
        parameters, now = parameters_of(before, sparse), dict(connected)
        slots = {"slot": parameters.new_slot()}
        parameters.expand(parameters.values, start["values"], now)
        parameters.expand(slots["slot"], start["slot"], now)
        for name, change in change_of.items():
            now[name] = change.after(now[name])
            parameters.change(name, change, new_weights[name], slots)
            own = parameters.weights(name, now[name])
            assert len(own) == len(now[name])
        assert len(parameters.gradients) == len(parameters.values) == len(slots["slot"])
        left.append([parameters.compact(v, now) for v in (parameters.values, slots["slot"])])
        parameters.show(connected, slots)
        parameters.expand(parameters.values, start["values"], connected)
        assert torch.equal(parameters.compact(parameters.values, connected), start["values"])
    for masked, by_connections in zip(*left, strict=True):
        assert torch.equal(masked, by_connections)


@patient
@given(made=changes())
def test_the_models_parameters_view_the_flat_ones_after_a_change_too(
    made: tuple[dict[str, np.ndarray], dict[str, Change]],
) -> None:
    before, change_of = made
    network = Network(before, sparse=True)
    weights = {name: layer.weight for name, layer in network.masked.items()}
    parameters = SparseParameters(network, weights, [network.output.weight])
    for name, change in change_of.items():
        parameters.change(name, change, np.ones(len(change.grown), dtype=np.float32), {})
    parameters.values.copy_(torch.arange(len(parameters.values)))
    parameters.gradients.copy_(-torch.arange(len(parameters.values)))
    found = [*(layer.weight for layer in network.masked.values()), network.output.weight]
    found += [parameter for name, parameter in network.named_parameters() if "bias" in name]
    assert torch.equal(torch.cat([own.detach().flatten() for own in found]), parameters.values)
    assert torch.equal(torch.cat([own.grad.flatten() for own in found]), parameters.gradients)
    assert parameters.n_weights == parameters.n_masked + 6


@patient
@given(made=changes(), seed=st.integers(0, 9))
def test_numbers_are_carried_to_the_connections_that_stay(
    made: tuple[dict[str, np.ndarray], dict[str, Change]], seed: int
) -> None:
    before, change_of = made
    then = {name: positions.of_mask(mask) for name, mask in before.items()}
    now = {name: change.after(then[name]) for name, change in change_of.items()}
    numbers = {
        name: dict(zip(where.tolist(), (np.arange(len(where)) + 1.0 + k).tolist(), strict=True))
        for k, (name, where) in enumerate(then.items())
    }
    rest = [7.0, 8.0]
    compact = torch.tensor([v for own in numbers.values() for v in own.values()] + rest)
    expected = [numbers[name].get(p, 0.0) for name, where in now.items() for p in where.tolist()]
    assert carried(compact, then, now).tolist() == expected + rest


def test_growth_by_momentum_has_no_scores_to_look_at() -> None:
    parameters = parameters_of({"a": np.eye(3, dtype=bool)}, sparse=True)
    with pytest.raises(AssertionError, match="refused"):
        parameters.scores(parameters.values)
