"""Trained weights as a safetensors file that says what they belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from storage.checkpoints import UNSEALED, check_weights, seal_weights
from storage.errors import CorruptFile, InputError
from storage.filesystem import Location, read_bytes, run_folder
from sweeps.training.entries import check_listed
from sweeps.training.imports import allow_imports
from sweeps.training.models import MODELS
from sweeps.training.settings import parse_settings

_METADATA = "toposweep"


def weights_to_bytes(
    model: nn.Module, config: Mapping[str, Any], input_shape: tuple[int, ...], n_classes: int
) -> bytes:
    """The model's parameters and, as metadata, the trial's configuration and the model's ends."""
    about = {"config": config, "input_shape": list(input_shape), "n_classes": n_classes,
             "crc32": UNSEALED}  # fmt: skip
    # A clone each: safetensors refuses tensors that share memory, and these are views of one.
    tensors = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
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
        model: nn.Module = model_class(settings, tuple(about["input_shape"]), about["n_classes"])
        model.load_state_dict(tensors)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except KeyError:
        raise CorruptFile(path, "does not say which model its weights belong to") from None
    except (SafetensorError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CorruptFile(path, f"not the weights of a model: {error}".splitlines()[0]) from None
    return model.eval()


def _header(content: bytes) -> dict[str, Any]:
    """What a safetensors file begins with: 8 bytes of length (little-endian), then JSON."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header
