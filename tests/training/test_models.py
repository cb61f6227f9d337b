"""The MLP and SReLU against their formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from sweeps.training.mlp import MLP, MLPSettings, SReLU
from sweeps.training.streams import Streams


def srelu_by_formula(x: float, t_l: float, a_l: float, t_r: float, a_r: float) -> float:
    if x >= t_r:
        return t_r + a_r * (x - t_r)
    if x <= t_l:
        return t_l + a_l * (x - t_l)
    return x


def randomised(neurons: int, seed: int) -> SReLU:
    srelu = SReLU(neurons).double()
    rng = np.random.default_rng(seed)
    for parameter in srelu.parameters():
        parameter.data.copy_(torch.from_numpy(rng.normal(size=neurons)))
    return srelu


def test_srelu_is_the_formula_of_jin_et_al() -> None:
    srelu = randomised(5, 0)
    x = np.random.default_rng(1).normal(scale=2, size=(50, 5))
    got = srelu(torch.from_numpy(x)).detach().numpy()
    t_l, a_l, width, a_r = (p.detach().numpy() for p in srelu.parameters())
    expected = [
        [
            srelu_by_formula(x[i, j], t_l[j], a_l[j], t_l[j] + abs(width[j]), a_r[j])
            for j in range(5)
        ]
        for i in range(50)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_srelu_gradients_of_input_and_of_all_four_parameters_agree_with_finite_differences() -> (
    None
):
    srelu = randomised(3, 2)
    x = torch.from_numpy(np.random.default_rng(3).normal(scale=2, size=(7, 3))).requires_grad_()
    names = [name for name, _ in srelu.named_parameters()]

    def call(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(srelu, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *srelu.parameters()))


def test_srelu_starts_as_in_the_code_of_sets_authors() -> None:
    model = MLP(MLPSettings(hidden=[4000, 3000], activation="srelu"), (1, 2, 2), 10)
    model.draw_activations(Streams(0, 0, 0))
    first, second = model.activation.values()
    assert isinstance(first, SReLU)
    assert isinstance(second, SReLU)
    assert not first.t_left.any()
    assert (first.a_right == 1).all()
    for values, high in ((first.a_left, 1.0), (first.width, 5.0)):
        drawn = values.detach().numpy()
        assert drawn.min() >= 0
        assert drawn.max() <= high
        assert drawn.mean() == pytest.approx(high / 2, rel=0.05)
    assert not torch.equal(first.a_left[:3000], second.a_left)


def test_the_mlp_is_linear_layers_with_relu_between_them() -> None:
    model = MLP(MLPSettings(hidden=[7, 5]), (1, 3, 4), 10)
    reference = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 10)
    )
    model.load_state_dict(
        dict(zip(model.state_dict(), reference.state_dict().values(), strict=True))
    )
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 1, 3, 4)).astype(np.float32))
    assert torch.equal(model(x), reference(x))


def test_layers_are_named_in_order_with_the_output_last() -> None:
    layers = MLP.layers(MLPSettings(hidden=[7, 5]), (1, 3, 4), 10)
    assert [(layer.name, layer.shape, layer.role) for layer in layers] == [
        ("hidden_1", (7, 12), "hidden"),
        ("hidden_2", (5, 7), "hidden"),
        ("output", (10, 5), "output"),
    ]
    assert all(layer.in_group == 1 for layer in layers)


def test_building_a_model_leaves_torchs_global_generator_alone() -> None:
    before = torch.get_rng_state()
    MLP(MLPSettings(), (64,), 10)
    assert torch.equal(before, torch.get_rng_state())
