"""Files that other programs keep sparse networks in, read without ever unpickling.

A file holds one layer (a matrix as .npz or .npy), or a whole network as named arrays: a PyTorch
state dict (.pt, .pth), safetensors, or several arrays in one .npz.
"""

import errno
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import load_npz

from storage.checkpoints import check_weights
from storage.errors import InputError
from storage.import_masks import Connected, connections

ARRAYS = (".npz", ".npy")
TORCH = (".pt", ".pth")
SAFETENSORS = ".safetensors"
EXTENSIONS = (*ARRAYS, *TORCH, SAFETENSORS)

_NESTED = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the state dict
_WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
# Of one layer: a mask stands before the weights, and names its layer in one of these ways.
_MASKS = ("weight_mask", "mask")
_WEIGHTS = ("weight", "weight_orig")
_ADVICE = re.compile("weights_only|allow_pickle")


@dataclass(frozen=True)
class StoredLayer:
    """A layer of a file that was opened; `read` looks at its weights, and may raise InputError."""

    name: str
    read: Callable[[], Connected]


def format_of(path: Path) -> str:
    """`arrays`, `torch` or `safetensors`, by a file's name.

    Raises:
        InputError: it is none of them.
    """
    suffix = path.suffix.lower()
    if suffix not in EXTENSIONS:
        raise InputError(f"{path}: expected a file that ends in {', '.join(EXTENSIONS)}")
    return "arrays" if suffix in ARRAYS else "torch" if suffix in TORCH else "safetensors"


def read_matrix(path: Path, sparse: bool = False) -> NDArray[np.bool_]:
    """Where the one array of a .npy or .npz file is not zero.

    Args:
        path: the file.
        sparse: whether it must be a scipy sparse matrix.

    Raises:
        InputError: it cannot be read, or does not hold one array of numbers.
    """
    kind = "a scipy sparse matrix (.npz)" if sparse else "one array (.npy, .npz)"
    if path.suffix.lower() not in ARRAYS:
        raise InputError(f"{path}: expected {kind} for one layer")
    values: Any
    with _readable(path, kind):
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                names = list(stored.files)
                values = None if "format" in names or len(names) != 1 else _array(stored, names[0])
            if "format" in names:
                values = load_npz(path)
        else:
            names, values = [path.name], np.load(path, allow_pickle=False)
    if values is None or (sparse and "format" not in names):
        raise InputError(f"{path}: holds {len(names)} arrays: expected {kind}")
    return connections(values, str(path))


def read_network(path: Path) -> list[StoredLayer]:
    """The layers of a file that holds a whole network, in order.

    The order is the file's; safetensors files keep none, there it is that of the names, numbers in
    them taken as numbers. A layer is a matrix or a convolution's weights. Where a mask stands
    beside them (`weight_mask` of `torch.nn.utils.prune`, or `mask`), that tells the connections;
    else a weight of exactly 0 is none, although training may have left it so.

    Raises:
        InputError: it cannot be read, or holds no layer.
    """
    layers = _layers(_READERS[format_of(path)](path), path)
    if not layers:
        raise InputError(f"{path}: holds no layer: expected weights of 2 or 4 dimensions by name")
    return layers


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sorting key by which `layer10` comes after `layer9`."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _layers(arrays: Mapping[str, Any], path: Path) -> list[StoredLayer]:
    """The layers among named arrays; each stands where the first of its arrays does."""
    of_layer: dict[str, dict[str, str]] = {}
    for name in arrays:
        stem, kind = _parts(name)
        of_layer.setdefault(stem, {})[kind] = name
    layers = []
    # Elsewhere than in torch's files a matrix may be a flattened convolution.
    linear = format_of(path) != "arrays"
    for stem, names in of_layer.items():
        mask, weights = (
            next((names[kind] for kind in kinds if kind in names), None)
            for kinds in (_MASKS, (*_WEIGHTS, ""))
        )
        told = mask or weights
        if told is None or arrays[weights or told].ndim < 2:
            continue
        if weights and arrays[weights].shape != arrays[told].shape:
            shape = tuple(arrays[weights].shape)
            raise InputError(f"{path}: {told}: expected the shape {shape} of {weights}")
        read = partial(_connected, stem, arrays[told], f"{path}: {told}", linear)
        layers.append(StoredLayer(stem, read))
    return layers


def _connected(name: str, values: Any, what: str, linear: bool) -> Connected:
    if getattr(values, "is_meta", False):
        raise InputError(f"{what}: has no values, it is on torch's meta device")
    return Connected(name, connections(_numpy(values), what), linear)


def _parts(name: str) -> tuple[str, str]:
    """A layer's name and what the array is of it: `fc1.weight_mask` is (fc1, weight_mask)."""
    stem, _, last = name.rpartition(".")
    if last in (*_MASKS, *_WEIGHTS):
        return stem or "weight", last
    if re.search(r"(^|[._])bias(_mask|_orig)?$", name):
        return stem, "bias"
    return name, ""


def _numpy(values: Any) -> NDArray[Any]:
    """A tensor as an array of numbers whose zeros and non-numbers are the tensor's."""
    if isinstance(values, np.ndarray):
        return values
    import torch

    if values.layout is not torch.strided:
        values = values.to_dense()
    if values.is_quantized:
        values = values.dequantize()
    if values.is_floating_point() and values.dtype not in (torch.float32, torch.float64):
        values = values.to(torch.float32)  # numpy has no bfloat16
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array


def _read_arrays(path: Path) -> dict[str, Any]:
    with _readable(path, "arrays by name (.npz), one a layer"):
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                if "format" not in stored.files:  # which a scipy sparse matrix has
                    return {name: _array(stored, name) for name in stored.files}
    raise InputError(f"{path}: holds one layer: say with --pattern where its name stands")


def _array(stored: Any, name: str) -> NDArray[Any]:
    """A member of a .npz, of which numpy gives the bytes where it is no array."""
    values = stored[name]
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{name} is no array")
    return values


def _read_torch(path: Path) -> dict[str, Any]:
    import torch

    # Bounds are checked: an index beyond a sparse tensor's shape would be written anywhere.
    bounds = torch.sparse.check_sparse_tensor_invariants()  # type: ignore[no-untyped-call]
    with _readable(path, "a state dict, tensors by name, as torch.save leaves it"), bounds:
        _check_zip(path)
        named = _state_dict(torch.load(path, map_location="cpu", weights_only=True))
    if not named:
        raise InputError(
            f"{path}: holds no tensors by name: expected a state dict, or one under "
            f"{', '.join(_NESTED)}"
        )
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in named):
            named = {name.removeprefix(wrapper): value for name, value in named.items()}
    return named


def _check_zip(path: Path) -> None:
    """Compare the members of a zip with their checksums, which torch itself passes over.

    Raises:
        BadZipFile: one is not what was written. Where all differ none was written: torch can be
            told to leave them out.
    """
    if not zipfile.is_zipfile(path):
        return  # as torch wrote before 1.6
    damaged = whole = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            try:
                with archive.open(member) as file:
                    while file.read(2**22):
                        pass
            except zipfile.BadZipFile:
                damaged += 1
            else:
                whole += member.file_size > 0
    if damaged and whole:
        raise zipfile.BadZipFile


def _state_dict(stored: Any) -> dict[str, Any]:
    """The tensors by name, wherever a checkpoint keeps them."""
    import torch

    if not isinstance(stored, Mapping):
        return {}
    tensors = {str(k): v for k, v in stored.items() if isinstance(v, torch.Tensor)}
    if any(tensor.ndim > 1 for tensor in tensors.values()):
        return tensors
    nested = (_state_dict(stored[key]) for key in _NESTED if key in stored)
    return next((found for found in nested if found), tensors)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with _readable(path, "a safetensors file"), safe_open(path, framework="pt") as stored:
        check_weights(path, path.read_bytes())
        return {name: stored.get_tensor(name) for name in sorted(stored.keys(), key=natural)}


_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "arrays": _read_arrays,
    "torch": _read_torch,
    "safetensors": _read_safetensors,
}


@contextmanager
def _readable(path: Path, expected: str) -> Iterator[None]:
    """Whatever a reader finds wrong with a file becomes one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own versions
            yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(
            f"{path}: claims more than there is memory for: expected {expected}"
        ) from None
    except OSError as error:
        # torch says EINVAL of a file that ends too soon.
        why = "it is cut" if error.errno in (None, errno.EINVAL) else error.strerror
        raise InputError(f"{path}: cannot be read: expected {expected}: {why}") from None
    except (zipfile.BadZipFile, EOFError):
        raise InputError(f"{path}: is cut or damaged: expected {expected}") from None
    except Exception as error:  # numpy, scipy, torch and safetensors share no class of errors
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        if _ADVICE.search(str(error)):  # how to read it all the same, which would run its code
            why = "it is damaged, or holds more than numbers"
        raise InputError(f"{path}: cannot be read: expected {expected}: {why}") from None
