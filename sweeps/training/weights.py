"""Trained weights as a safetensors file that says what they belong to.

Weights are stored as dense matrices, whatever they were trained with; a layer that was trained by
its connections alone and has more than ``DENSE_WEIGHTS`` weights is stored as `<name>.values` and
`<name>.positions` (flat row-major indices, int64) instead, in the order of the positions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from storage.checkpoints import UNSEALED, check_weights, seal_weights
from storage.errors import CorruptFile, InputError
from storage.filesystem import Location, read_bytes, run_folder
from sweeps.training.entries import check_listed
from sweeps.training.imports import allow_imports
from sweeps.training.models import MODELS
from sweeps.training.positions import Positions
from sweeps.training.settings import parse_settings
from sweeps.training.sparse_linear import SparseLinear

DENSE_WEIGHTS = 2**26  # 256 MB
_METADATA = "toposweep"


def weights_to_bytes(
    model: nn.Module, config: Mapping[str, Any], input_shape: tuple[int, ...], n_classes: int
) -> bytes:
    """The model's parameters and, as metadata, the trial's configuration and the model's ends."""
    about = {"config": config, "input_shape": list(input_shape), "n_classes": n_classes,
             "crc32": UNSEALED}  # fmt: skip
    # A clone each: safetensors refuses tensors that share memory, and these are views of one.
    tensors = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
    for prefix, module in model.named_modules():
        if isinstance(module, SparseLinear):
            values = tensors.pop(f"{prefix}.weight")
            tensors |= _stored(f"{prefix}.weight", module, values)
    # One entry, since safetensors keeps no order of several.
    return seal_weights(save(tensors, metadata={_METADATA: json.dumps(about, sort_keys=True)}))


def load_model(path: Location, imports: Sequence[str] = ()) -> nn.Module:
    """The model whose weights ``save_weights`` wrote, on the CPU, in eval mode.

    It takes inputs as the data set gives them (``load_dataset``), scaled, (n, *input_shape).
    ``imports``: packages whose code it may be made of, as in a study; a file of weights imports
    nothing by itself. Raises InputError where there is no such file or a package is not listed,
    and CorruptFile where it is something else.
    """
    path = run_folder(path)
    allow_imports(imports)
    try:
        content = read_bytes(path)
        check_weights(path, content)
        tensors = load(content)  # which checks the header as well
        about = json.loads(_header(content)["__metadata__"][_METADATA])
        check_listed("model", about["config"]["model"]["name"], imports)
        model_class, settings = parse_settings("model", about["config"]["model"], MODELS)
        sparse = _sparse_layers(tensors)
        more = {"sparse": sparse} if sparse else {}
        model: nn.Module = model_class(
            settings, tuple(about["input_shape"]), about["n_classes"], **more
        )
        model.load_state_dict(tensors)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except KeyError:
        raise CorruptFile(path, "does not say which model its weights belong to") from None
    except (SafetensorError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CorruptFile(path, f"not the weights of a model: {error}".splitlines()[0]) from None
    return model.eval()


def _stored(name: str, layer: SparseLinear, values: Tensor) -> dict[str, Tensor]:
    if layer.shape[0] * layer.shape[1] <= DENSE_WEIGHTS:
        return {name: layer.dense_weight()}
    return {f"{name}.values": values, f"{name}.positions": torch.from_numpy(layer.connected)}


def _sparse_layers(tensors: dict[str, Tensor]) -> dict[str, Positions]:
    """The positions of layers that are stored without a matrix; their values take the name that
    the layer's weights have in a model."""
    sparse = {}
    for name in [name for name in tensors if name.endswith(".weight.positions")]:
        prefix = name.removesuffix(".weight.positions")
        sparse[prefix.rpartition(".")[2]] = tensors.pop(name).numpy()
        tensors[f"{prefix}.weight"] = tensors.pop(f"{prefix}.weight.values")
    return sparse


def _header(content: bytes) -> dict[str, Any]:
    """What a safetensors file begins with: 8 bytes of length (little-endian), then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header
