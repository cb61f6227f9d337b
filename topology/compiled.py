"""How the metric's kernels are compiled: once a machine, kept on disk beside the source."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _sources() -> str:
    """A digest of every file that holds a kernel."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    contents = (file.read_bytes() for file in files)
    return hashlib.sha256(b"".join(c for c in contents if b"@compiled" in c)).hexdigest()


_SOURCES = _sources()


class _Cache(FunctionCache):
    """numba's cache, which looks at a kernel's own file only, though it holds what the kernel
    calls from other files as well: after an edit there it would go on with the old code."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _SOURCES)  # type: ignore[no-untyped-call]


def compiled(function: _Function) -> _Function:
    """numba's njit; compiled code is kept on disk, and other threads run beside it.

    Where neither the source's folder nor the user's cache folder can be written, each process
    compiles for itself.
    """
    kernel: Any = numba.njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):  # numba finds no folder for its cache
        kernel._cache = _Cache(function)  # type: ignore[no-untyped-call]
    compiled_function: _Function = kernel
    return compiled_function
