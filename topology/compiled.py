"""How the metric's kernels are compiled: once a machine, cached beside the source."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """numba's njit; compiled code is kept on disk, and other threads run beside it.

    Where neither the source's folder nor the user's cache folder can be written, each process
    compiles for itself.
    """
    kernel: Any
    try:
        kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba finds no folder for its cache
        kernel = numba.njit(nogil=True, error_model="numpy")(function)
    compiled_function: _Function = kernel
    return compiled_function
