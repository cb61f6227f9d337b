"""Whose fault it is when a trial's process dies or raises: the trial's, its node's, the storage's.

Ray Tune counts every death against `max_failures`. Only what is the trial's own may make it failed.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from storage.errors import InputError
from storage.retrying import may_pass

Fault = Literal["trial", "node", "storage"]

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FencedError(Exception):
    """A later attempt of this trial has begun elsewhere: this one must not write any more."""


class EndedAlready(FencedError):
    """The trial is over by its record: no attempt of it is to begin."""


class GivenUp(Exception):
    """The driver has recorded that this trial has failed: its processes died too often."""


class Halted(Exception):
    """The trial was asked to stop, and stands at a checkpoint. `step` goes on from there."""


class ProcessLeaves(Exception):
    """The trial's process or its node is about to end; the trial stands at a checkpoint."""


class StorageFailed(Exception):
    """OUT cannot be written or read; the message is what `pack_error` gives."""


def checked_data_error(error: OSError) -> Exception:
    """What an error of reading the data means: the machine is in need, or the trial is wrong."""
    if error.errno in FULL or may_pass(error):
        return error
    return InputError(f"data: {describe_os_error(error)}")


def describe_os_error(error: OSError) -> str:
    """`/path: No space left on device`, in one line."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text


def pack_error(error: OSError) -> dict[str, Any]:
    """An error as it travels from a worker: plain values."""
    name = None if error.filename is None else str(error.filename)
    return {"errno": error.errno or errno.EIO, "text": error.strerror or str(error), "file": name}


def unpack_error(packed: dict[str, Any]) -> OSError:
    """The error that `pack_error` had."""
    return OSError(packed["errno"], packed["text"], packed["file"])


def storage_error_in(error: BaseException | None) -> OSError | None:
    """The full disk behind an error of Ray Tune's own files, which it quotes as text."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        for number in FULL:
            if f"[Errno {number}]" in str(error):
                return OSError(number, os.strerror(number))
        error = error.__cause__ or error.__context__
    return None


def last_death(trial: Any) -> str:
    """What Ray Tune wrote down of a trial's last failure; empty where it did not get to it."""
    with suppress(OSError, TypeError, AttributeError):
        text = Path(trial.error_file).read_text(errors="replace")
        return text.rpartition("\nFailure # ")[2].partition("\n")[2].strip()
    return ""


def fault_of(death: str) -> Fault:
    """Whose fault a death was, from Ray's words for it (there are no others: see the tests).

    An attempt that found itself replaced is no fault of the trial's: it goes on as the next one.
    """
    if any(sign in death for sign in ("ProcessLeaves", "FencedError: ", "its node has died")):
        return "node"
    return "storage" if "StorageFailed" in death else "trial"


def why_died(death: str) -> str:
    """The one line of Ray's words that tells most."""
    lines = [line.strip() for line in death.splitlines() if line.strip()]
    telling = ("running low on memory", "its worker process has died", "Worker exit detail")
    for sign in telling:
        for line in lines:
            if sign in line:
                return line
    return lines[-1] if lines else "nothing is known of the reason"
