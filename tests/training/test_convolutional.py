"""LeNet, VGG and ResNet against torch's own layers, and their layers against their weights."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from storage.errors import InputError
from sweeps.training import Training, check_training, estimate, load_dataset, load_model
from sweeps.training.data import DigitsSettings
from sweeps.training.lenet import LeNet, LeNetSettings
from sweeps.training.resnet import ResNet, ResNetSettings
from sweeps.training.vgg import VGG, VGG_16, VGGSettings
from topology.prepared import prepare

Config = dict[str, Any]
ConfigOf = Callable[..., Config]

MODELS: dict[str, Config] = {
    "lenet": {"name": "lenet", "channels": [3, 4], "hidden": [12, 9]},
    "vgg": {"name": "vgg", "channels": [4, "pool", 5, "pool"], "classifier": [8]},
    "plain vgg": {"name": "vgg", "channels": [4, 3, "pool"], "batch_norm": False, "classifier": []},
    "resnet": {"name": "resnet", "depth": 8, "width": 3},
}


def config_with(config_of: ConfigOf, model: str, method: str = "set", **changes: Any) -> Config:
    config = config_of(method, optimizer={"batch_size": 200}, **changes)
    config["model"] = MODELS[model]
    config["epochs"] = 2
    return config


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and every statistic drawn at random."""
    rng = np.random.default_rng(seed)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.from_numpy(rng.uniform(0.1, 0.5, tensor.shape)))
            tensor.data.mul_(torch.from_numpy(rng.choice([-1.0, 1.0], tensor.shape)))
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.abs_()
    return model


def some_images(n: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(n, *shape)).astype(np.float32))


def test_lenet_is_two_convolutions_with_pooling_and_three_linear_layers() -> None:
    model = filled(LeNet(LeNetSettings(channels=[3, 5], hidden=[20, 12]), (2, 11, 9), 7))
    reference = nn.Sequential(
        nn.Conv2d(2, 3, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(3, 5, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(5 * 2 * 2, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 7),
    )  # fmt: skip
    state = dict(zip(reference.state_dict(), model.state_dict().values(), strict=True))
    reference.load_state_dict(state)
    x = some_images(4, 2, 11, 9)
    torch.testing.assert_close(model(x), reference(x))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg_is_convolutions_and_pooling_in_the_order_of_its_settings(batch_norm: bool) -> None:
    settings = VGGSettings(
        channels=[4, "pool", 6, 5, "pool"], batch_norm=batch_norm, classifier=[9]
    )
    model = filled(VGG(settings, (3, 8, 8), 10)).eval()

    def block(n_in: int, n_out: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(n_out)] if batch_norm else []
        return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=not batch_norm), *norm, nn.ReLU()]

    reference = nn.Sequential(
        *block(3, 4), nn.MaxPool2d(2), *block(4, 6), *block(6, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(5 * 2 * 2, 9), nn.ReLU(), nn.Linear(9, 10),
    ).eval()  # fmt: skip
    # Convolutions and Linear layers first, then what normalises.
    mine = model.state_dict()
    kinds = (nn.Conv2d, nn.Linear), (nn.BatchNorm2d,)
    names = [
        f"{place}.{name}"
        for kind in kinds
        for place, module in reference.named_children()
        if isinstance(module, kind)
        for name in module.state_dict()
    ]
    reference.load_state_dict(dict(zip(names, mine.values(), strict=True)))
    x = some_images(5, 3, 8, 8)
    torch.testing.assert_close(model(x), reference(x))


def test_resnet_is_the_sum_of_blocks_and_of_shortcuts_without_parameters() -> None:
    model = filled(ResNet(ResNetSettings(depth=14, width=4), (3, 9, 8), 10)).eval()

    def normalised(name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        norm = model.norm[name]
        x = F.conv2d(x, model.weight(name), stride=stride, padding=1)
        mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
        scale, shift = norm.weight[:, None, None], norm.bias[:, None, None]
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    x = images = some_images(3, 3, 9, 8)
    x = F.relu(normalised("conv_1", x, 1))
    for stage in (1, 2, 3):
        for block in (1, 2):
            stride = 2 if (stage, block) in ((2, 1), (3, 1)) else 1
            name = f"stage_{stage}_block_{block}"
            inner = F.relu(normalised(f"{name}_conv_1", x, stride))
            out = normalised(f"{name}_conv_2", inner, 1)
            if stride == 2:
                out[:, : x.shape[1]] += x[:, :, ::2, ::2]
            else:
                out = out + x
            x = F.relu(out)
    output = model.connected["output"]
    expected = x.mean(dim=(2, 3)) @ output.weight.T + output.bias
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


def test_the_defaults_have_the_sizes_that_their_papers_give() -> None:
    resnet = ResNet.layers(ResNetSettings(depth=56), (3, 32, 32), 10)
    assert len(resnet) == 56
    with torch.device("meta"):
        model = ResNet(ResNetSettings(), (3, 32, 32), 10)
    # He et al., table 6: 0.27 million parameters in ResNet-20.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.27e6, rel=0.01)
    vgg = VGG.layers(VGGSettings(), (3, 32, 32), 10)
    assert [layer.shape[0] for layer in vgg[:-3]] == [c for c in VGG_16 if c != "pool"]
    assert vgg[-3].shape == (512, 512)  # 32 halved five times leaves a pixel


@pytest.mark.parametrize("name", MODELS)
def test_layers_say_shapes_groups_and_positions_of_the_modules(name: str) -> None:
    settings = dict(MODELS[name])
    model_class = {"lenet": LeNet, "vgg": VGG, "resnet": ResNet}[settings["name"]]
    parsed = model_class.Settings(**settings)
    layers = model_class.layers(parsed, (1, 8, 8), 10)
    model = model_class(parsed, (1, 8, 8), 10)
    seen: dict[str, tuple[int, int]] = {}

    def note(layer: str) -> Any:
        def hook(module: nn.Module, args: Any, result: torch.Tensor) -> None:
            seen[layer] = args[0].shape[1], result[0, 0].numel()

        return hook

    for layer in layers:
        model.connected[layer.name].register_forward_hook(note(layer.name))
    model(some_images(2, 1, 8, 8))
    for layer in layers:
        weight = model.weight(layer.name)
        assert weight.flatten(1).shape == layer.shape
        channels, positions = seen[layer.name]
        assert layer.places == positions
        if weight.ndim == 4:
            assert layer.in_group * channels == layer.shape[1]
            assert layer.role in ("hidden", "residual")
    # Each layer's inputs come from the neurons of the one before, in_group of each.
    for before, layer in pairwise(layers):
        assert layer.shape[1] == before.shape[0] * layer.in_group
    masks = [np.ones(layer.shape, dtype=bool) for layer in layers]
    assert prepare(masks, [layer.in_group for layer in layers]).layers
    assert [layer.role for layer in layers][-1] == "output"
    assert ("residual" in [layer.role for layer in layers]) == (name == "resnet")


def test_the_layers_that_write_into_residual_sums_are_marked_and_no_others() -> None:
    layers = ResNet.layers(ResNetSettings(depth=8), (1, 8, 8), 10)
    assert [layer.role for layer in layers] == [
        "residual", *["hidden", "residual"] * 3, "output"
    ]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_flattening_a_mask_of_a_convolution_is_channel_by_channel(
    config_of: ConfigOf, name: str
) -> None:
    training = Training(config_with(config_of, name, "static"))
    for layer, mask, _, _ in training.masks():
        weight = training.model.weight(layer).detach()
        assert ((weight.flatten(1) != 0).numpy() == mask).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["static", "set"])
def test_nothing_is_ever_off_the_mask_and_normalisation_is_not_decayed(
    config_of: ConfigOf, name: str, method: str
) -> None:
    config = config_with(config_of, name, method)
    config["optimizer"] |= {"weight_decay": 0.5, "lr": 1e-9}
    training = Training(config)
    norms = [m for m in training.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (name in ("vgg", "resnet"))
    training.run_epoch()
    for layer, mask, _, _ in training.masks():
        weight = training.model.weight(layer).detach().flatten(1).numpy()
        assert not weight[~mask].any()
    for norm in norms:
        torch.testing.assert_close(norm.weight, torch.ones_like(norm.weight), atol=1e-6, rtol=0)
        assert norm.running_mean.any()


@pytest.mark.parametrize(
    "model", [{"name": "lenet"}, MODELS["vgg"], MODELS["resnet"]], ids=lambda model: model["name"]
)
def test_a_convolutional_network_learns(config_of: ConfigOf, model: Config) -> None:
    config = {**config_of("set"), "model": model}
    config["method"]["density"] = 0.5
    config["optimizer"] |= {"batch_size": 50, "lr": 0.03}
    config["epochs"] = 5
    training = Training(config)
    first = training.evaluate()["test_accuracy"]
    while not training.finished:
        metrics = training.run_epoch()
    assert metrics["test_accuracy"] > max(0.5, 2 * first)


@pytest.mark.parametrize("name", MODELS)
def test_weights_with_their_statistics_read_back_into_an_equal_model(
    config_of: ConfigOf, tmp_path: Path, name: str
) -> None:
    training = Training(config_with(config_of, name))
    training.run_epoch()
    training.save_weights(tmp_path / "w.safetensors")
    model = load_model(tmp_path / "w.safetensors")
    x_test = training.dataset.tensors("cpu")[2]
    training.model.eval()
    assert torch.equal(model(x_test), training.model(x_test))


def test_building_a_model_leaves_torchs_global_generator_alone() -> None:
    before = torch.get_rng_state()
    LeNet(LeNetSettings(), (1, 8, 8), 10)
    VGG(VGGSettings(channels=[3]), (1, 8, 8), 10)
    ResNet(ResNetSettings(depth=8), (1, 8, 8), 10)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_do_not_change_what_an_evaluation_says(config_of: ConfigOf) -> None:
    training = Training(config_with(config_of, "resnet"))
    training.run_epoch()
    whole = training.evaluate()
    training._evaluated = 7
    assert training.evaluate() == pytest.approx(whole, rel=1e-5)


def test_samples_evaluated_at_once_stay_below_the_memory_that_is_meant_for_them() -> None:
    from sweeps.training.layers import evaluation_batch
    from sweeps.training.mlp import MLP, MLPSettings

    assert evaluation_batch(MLP.layers(MLPSettings(hidden=[4000, 1000]), (784,), 10)) == 2048
    vgg = VGG.layers(VGGSettings(), (3, 32, 32), 10)
    assert evaluation_batch(vgg) == 2**26 // (2 * 64 * 32 * 32)


@pytest.mark.parametrize("name", MODELS)
def test_the_estimate_counts_parameters_and_multiplications(config_of: ConfigOf, name: str) -> None:
    config = config_with(config_of, name)
    training = Training(config)
    cost = estimate(config, measure_for=0)
    assert cost.parameters == len(training.parameters.values)
    done = 0

    def count(module: Any, args: Any, result: torch.Tensor) -> None:
        nonlocal done
        done += result[0].numel() * module.weight[0].numel()

    for layer in training.connections.layers:
        training.model.connected[layer.name].register_forward_hook(count)
    training.model(training.dataset.tensors("cpu")[0][:1].repeat(2, 1, 1, 1))
    assert cost.multiplications == done


@pytest.mark.parametrize("name", MODELS)
def test_the_estimate_covers_what_a_step_keeps_for_its_way_back(
    config_of: ConfigOf, name: str
) -> None:
    """torch's own saved tensors, each storage once, but for the parameters and the batch."""
    config = config_with(config_of, name, "dense")
    config["optimizer"]["batch_size"] = 1000
    training = Training(config)
    values = training.parameters.values.untyped_storage().data_ptr()
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() != values:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = training.batches(0)[0]
    tensors = []  # held, so that no two lie at one place
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (tensors.append(tensor), pack(tensor))[1], lambda tensor: tensor
    ):
        training.train_step(batch)
    cost = estimate(config, measure_for=0)
    parts = [*training.dataset.tensors("cpu"), training.parameters.values]
    parts += [training.parameters.gradients, *training.optimizer.slots.values()]
    activations = cost.memory_bytes - sum(part.nbytes for part in parts)
    assert 0.8 * sum(kept.values()) < activations < 4 * sum(kept.values())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"name": "vgg"}, "model.channels: 5 times pool is not allowed: at most 3 for images of"),
        ({"name": "vgg", "channels": ["pool", 3]}, "model.channels: ['pool', 3] is not allowed"),
        ({"name": "vgg", "channels": [3, "pol"]}, "model.channels: [3, 'pol'] is not allowed"),
        ({"name": "vgg", "channels": [0]}, "model.channels: [0] is not allowed"),
        ({"name": "vgg", "channels": [1.5]}, "model.channels.0: 1.5 is not allowed"),
        ({"name": "vgg", "channels": []}, "model.channels: [] is not allowed"),
        ({"name": "lenet", "channels": [3]}, "model.channels: [3] is not allowed"),
        ({"name": "lenet", "hidden": [3, 4, 5]}, "model.hidden: [3, 4, 5] is not allowed"),
        ({"name": "resnet", "depth": 18}, "model.depth: 18 is not allowed: 6n + 2"),
        ({"name": "resnet", "dropout": 1}, "model.dropout: 1 is not allowed"),
        ({"name": "resnet", "dropout": -0.1}, "model.dropout: -0.1 is not allowed"),
    ],
)
def test_a_model_that_cannot_be_costs_one_line(
    config_of: ConfigOf, model: Config, expected: str
) -> None:
    config = {**config_of("dense"), "model": model}
    with pytest.raises(InputError) as caught:
        check_training(config, load_dataset(DigitsSettings()))
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lenet", "vgg", "resnet"])
def test_convolutions_over_data_that_are_no_images_cost_one_line(
    config_of: ConfigOf, name: str
) -> None:
    config = config_of("dense", data={"name": "teacher"})
    config["model"] = {"name": name}
    with pytest.raises(InputError, match=r"^model\.name: .* takes images.* are 64 numbers$"):
        Training(config)


def test_a_batch_of_one_sample_is_refused_where_there_is_batch_norm(config_of: ConfigOf) -> None:
    config = config_with(config_of, "vgg", data={"validation": 0.0})
    config["optimizer"]["batch_size"] = 1432  # of 1,433
    with pytest.raises(InputError, match=r"^optimizer\.batch_size: 1432 is not allowed: of 1433"):
        check_training(config, load_dataset(DigitsSettings()))
    with pytest.raises(InputError, match=r"^optimizer\.batch_size"):
        Training(config)
    for allowed in (MODELS["plain vgg"], MODELS["lenet"]):
        check_training({**config, "model": allowed}, load_dataset(DigitsSettings()))
