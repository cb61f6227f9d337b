"""`python -m cluster.child MODULE WORD...`: `python -m MODULE WORD...` that ends with its parent.

When the process that started it ends, however it ends, it gets SIGTERM: its user has gone.
"""

import ctypes
import os
import runpy
import signal
import sys
from contextlib import suppress

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h


def main() -> None:
    """Arrange for the signal, then become the module's program."""
    parent = os.getppid()
    with suppress(OSError, AttributeError):  # not on this system: the program goes on to its end
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # it ended just before
            return
    module = sys.argv[1]
    sys.argv = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
