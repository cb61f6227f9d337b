"""Common connections of many pairs of wide masks, as products of 0/1 matrices on a GPU.

    counts[i, j] = sum_k A[i, k] B[j, places[k]]

Products and sums of zeros and ones are exact in float32 below 2**24, in whatever precision torch
multiplies: 0 and 1 are themselves in TF32 and bfloat16 too, and these accumulate in float32. So the
integers are those of `overlap.overlap_counts`.

One pair of wide masks is work enough for a device. Many pairs pay because a mask goes there once
for all of them, and because the device counts the next pair while the caller still works on this
one.
"""

import ctypes
import os
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from topology.overlap import is_dense, overlap_counts
from topology.prepared import Layer

if TYPE_CHECKING:
    import torch

Counts = NDArray[np.int32]

# From this width on (the cube root of n_a * n_b * n_in) the device is asked. An estimate;
# `tests/benchmarks/bench_overlap_torch.py` measures where it pays.
WIDE = 2000
# Above this many inputs float32 would round.
_EXACT = 2**24
# What counting takes at most where the device is the CPU; of a GPU half of what is free.
_CPU_BYTES = 2**30
# With room for fewer neurons of A at a time than this, the CPU's own kernel counts.
_FEWEST_ROWS = 64


class Pair(NamedTuple):
    """Two layers whose neurons are compared.

    Attributes:
        places: (n_in of a,) where each input of A lies among B's, as `overlap.input_places` gives
            them.
    """

    a: Layer
    b: Layer
    places: NDArray[np.int64]


def device_for(networks: Iterable[Sequence[Layer]]) -> str | None:
    """The device that counts faster than the CPU for networks like these, None where none does.

    Torch is loaded only where some layer is wide and dense enough, and a driver is there.

    Args:
        networks: the layers of each.
    """
    if not any(pays(layer, layer) for layers in networks for layer in layers):
        return None
    gpus = _gpus()
    # Ray gives tasks without a share in a GPU all of the node's to see.
    return f"cuda:{os.getpid() % gpus}" if gpus else None


def pays(a: Layer, b: Layer, wide: int = WIDE) -> bool:
    """Whether a device is asked for this pair: wide, and a pair whose bits the CPU would count.

    The other kernel of the CPU finds a neuron's pairs in another order, which decides among equal
    gains: there is one kernel's order for each pair, wherever it is computed.
    """
    return a.shape[0] * b.shape[0] * a.shape[1] >= wide**3 and is_dense(a, b)


def _gpus() -> int:
    """How many GPUs torch can use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or find_spec("torch") is None:
        return 0
    try:  # torch takes seconds to load
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


class Counter:
    """Counts common connections on a device.

    Args:
        device: as torch names it, `cuda` or `cpu`.
        bound: bytes of the device's memory to take at most; None for half of what is free. A device
            that has less after all gets half as much at a time, and what does not fit is counted on
            the CPU.
    """

    def __init__(self, device: str, bound: int | None = None) -> None:
        import torch

        self._device = torch.device(device)
        self._bound = _half_of_free(self._device) if bound is None else bound
        # The columns of a mask, (n_in + 1, n_out) bool, the last one used at the end.
        self._masks: OrderedDict[Layer, torch.Tensor] = OrderedDict()

    def counts(self, pairs: Iterable[Pair]) -> Generator[Counts, None, None]:
        """(n_a, n_b) int32 for each pair in turn; the next one is under way when one comes out."""
        try:
            ahead: Callable[[], Counts] | None = None
            for pair in pairs:
                started = self._start(pair)
                if ahead is not None:
                    yield ahead()
                ahead = started
            if ahead is not None:
                yield ahead()
        finally:
            self._masks.clear()

    def _start(self, pair: Pair) -> Callable[[], Counts]:
        """Have a pair counted; what comes back waits for the result."""
        while rows := self._rows_at_a_time(pair):
            try:
                return self._count(pair, rows)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                self._bound = _bytes(pair, rows // 2)
            # Not above, where the error still holds on to what was there.
            self._masks.clear()
            _give_back(self._device)
        return lambda: overlap_counts(pair.a.rows, pair.b.bits, pair.places)

    def _rows_at_a_time(self, pair: Pair) -> int:
        """How many neurons of A the bound has room for beside all of B; 0 for too few."""
        n_a, n_in = pair.a.shape
        rows = min(n_a, (self._bound - _bytes(pair, 0)) // _row_bytes(pair))
        return rows if rows >= min(n_a, _FEWEST_ROWS) and n_in < _EXACT else 0

    def _count(self, pair: Pair, rows: int) -> Callable[[], Counts]:
        import torch

        n_a, n_b = pair.a.shape[0], pair.b.shape[0]
        on_gpu = self._device.type == "cuda"
        # A caller's autocast would round the counts.
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            self._make_room(pair, rows)
            a, b = self._mask(pair.a), self._mask(pair.b)
            # Copies from the device run on by themselves only into pinned memory.
            found = torch.empty((n_a, n_b), dtype=torch.int32, device="cpu", pin_memory=on_gpu)
            places = torch.from_numpy(pair.places).to(self._device)
            inputs_b = b.index_select(0, places).to(torch.float32)
            for i in range(0, n_a, rows):
                rows_a = a[:-1, i : i + rows].to(torch.float32).T
                common = (rows_a @ inputs_b).to(torch.int32)
                found[i : i + rows].copy_(common, non_blocking=on_gpu)
        if not on_gpu:
            return lambda: _as_array(found)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))

        def wait() -> Counts:
            done.synchronize()
            return _as_array(found)

        return wait

    def _mask(self, layer: Layer) -> "torch.Tensor":
        """Its columns on the device, and an empty one for inputs that it lacks."""
        import torch

        if layer not in self._masks:
            n_out, n_in = layer.shape
            indptr, indices = layer.columns
            data = np.ones(layer.nnz, dtype=np.bool_)
            columns = csr_array((data, indices, indptr), shape=(n_in + 1, n_out))
            self._masks[layer] = torch.from_numpy(columns.toarray()).to(self._device)
        self._masks.move_to_end(layer)
        return self._masks[layer]

    def _make_room(self, pair: Pair, rows: int) -> None:
        """Forget masks, those not used for longest first, until this pair keeps to the bound."""
        others = [layer for layer in self._masks if layer not in (pair.a, pair.b)]
        excess = _bytes(pair, rows) + sum(map(_mask_bytes, others)) - self._bound
        for layer in others:
            if excess <= 0:
                break
            excess -= _mask_bytes(layer)
            del self._masks[layer]


def _bytes(pair: Pair, rows: int) -> int:
    """What counting takes with so many neurons of A at a time.

    Both masks; B's inputs in the order of A's, as bytes and as float32, and their places; the rows.
    """
    inputs = pair.a.shape[1] * (5 * pair.b.shape[0] + 8)
    return sum(map(_mask_bytes, {pair.a, pair.b})) + inputs + rows * _row_bytes(pair)


def _mask_bytes(layer: Layer) -> int:
    return layer.shape[0] * (layer.shape[1] + 1)


def _row_bytes(pair: Pair) -> int:
    """A neuron of A as float32, and its counts as float32 and int32."""
    return 4 * pair.a.shape[1] + 8 * pair.b.shape[0]


def _half_of_free(device: "torch.device") -> int:
    import torch

    if device.type != "cuda":
        return _CPU_BYTES
    # What torch holds for later use is free as well.
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + held) // 2


def _give_back(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()


def _out_of_memory(error: RuntimeError) -> bool:
    """Torch's allocator, the driver and cuBLAS each say it in their own way."""
    import torch

    text = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "CUDA error: out of memory" in text
        or "CUBLAS_STATUS_ALLOC_FAILED" in text
    )


def _as_array(counts: "torch.Tensor") -> Counts:
    array: Counts = counts.numpy()
    return array
