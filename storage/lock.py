"""The lock of a run's folder: one driver at a time compacts, syncs and runs.

Each holder makes the next generation file, `OUT/lock/<n>.json`; the highest generation holds. The
file stays when the lock is released, so that numbers only rise: a holder that slept through its
own expiry sees a higher number and stops.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from storage.errors import CorruptFile, InputError
from storage.filesystem import (
    AnyPath,
    Location,
    age_s,
    create_exclusive,
    names_in,
    read_json,
    remove_temporaries,
    run_folder,
    write_atomic,
)
from storage.processes import Process
from storage.retrying import may_pass

RENEW_EVERY_S = 10.0
EXPIRES_AFTER_S = 60.0
TAKEN_OVER = "another process has taken over the lock of this run"
LOOK_EVERY_S = 1.0  # of who waits for a sign of life


@dataclass(frozen=True)
class Holder:
    """The content of a generation file."""

    process: Process
    purpose: str
    since: str
    renewed_at: str
    released: bool = False
    token: str = ""
    stopping: bool = False

    def to_json(self) -> bytes:
        """As stored."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Seen:
    """A live holder, and when it last renewed the lock: seconds since 1970, the storage's clock."""

    holder: Holder
    renewed_at: float


class RunLock:
    """OUT's lock, held inside a `with`.

    A lock is free when it was released, when its holder is known to have ended, or when it was not
    renewed for a minute.

    Args:
        out: the run's folder; made if need be.
        purpose: what for, for the message that others get.

    Attributes:
        on_lost: called from a thread once it is seen that another has taken over.

    Raises:
        InputError: on entering: somebody else holds it.
    """

    def __init__(self, out: Location, purpose: str) -> None:
        self.out = run_folder(out)
        self.purpose = purpose
        self.generation = 0
        self.on_lost: Callable[[], object] = lambda: None
        self._folder = self.out / "lock"
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None
        self._since = ""
        self._token = uuid.uuid4().hex  # tells two locks of one process apart
        self._stopping = False
        self._writing = threading.Lock()  # else a renewal under way undoes what came after it

    def __enter__(self) -> "RunLock":
        self._since = _now()
        self._stopping = False
        while True:
            highest = max(self._generations(), default=0)
            if highest and (holder := self._live_holder(highest)):
                raise InputError(
                    f"{self.out} is in use by pid {holder.process.pid} on {holder.process.host} "
                    f"({holder.purpose}, since {holder.since}): wait until it has ended, or end it"
                )
            if not create_exclusive(self._path(highest + 1), self._content()):
                continue
            # Others may have come and gone since the look: then that number is of the past.
            if max(self._generations()) == highest + 1:
                break
            self._path(highest + 1).unlink(missing_ok=True)
        self.generation = highest + 1
        for older in self._generations():
            if older < self.generation:
                self._path(older).unlink(missing_ok=True)
        remove_temporaries(self._folder)
        self._stop.clear()
        self._renewer = threading.Thread(target=self._renew, name="run-lock", daemon=True)
        self._renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        away = isinstance(error, OSError) and may_pass(error)  # waited for long enough already
        if not away:
            if self._renewer is not None:
                self._renewer.join()
            with suppress(OSError):  # then it expires
                self._write(released=True)
        self.generation = 0

    def ask_to_stop(self) -> None:
        """Have the trials of this holder stop where they are: see `must_stop`."""
        self._stopping = True
        self._write()

    def check(self) -> None:
        """Raise InputError unless this still holds the lock; call it before what cannot be undone.

        It can be lost only by a minute without renewal: the process was suspended, or the storage
        did not answer.
        """
        if not self._is_mine():
            raise InputError(f"{self.out}: {TAKEN_OVER}")

    def _is_mine(self) -> bool:
        return self.generation > 0 and max(self._generations(), default=0) == self.generation

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_EVERY_S):
            with suppress(OSError):  # the next renewal may succeed; check() tells when it was late
                if not self._write():
                    self.on_lost()
                    return

    def _write(self, released: bool = False) -> bool:
        """Say in OUT how it stands with this holder; whether it still is one."""
        with self._writing:
            mine = self._is_mine()
            if mine:
                write_atomic(self._path(self.generation), self._content(released))
            return mine

    def look(self) -> "Seen | None":
        """Who holds the lock, for somebody who may only read OUT; None: nobody.

        Raises:
            CorruptFile: the lock's file cannot be read.
        """
        while highest := max(self._generations(), default=0):
            path = self._path(highest)
            try:
                renewed_at = path.stat().st_mtime
                holder = _read_holder(path)
            except FileNotFoundError:  # its successor has just removed it
                continue
            except CorruptFile:
                if time.time() - renewed_at > EXPIRES_AFTER_S:
                    return None
                raise
            if holder.released or holder.process.is_gone():
                return None
            age = time.time() - renewed_at
            if not 0 <= age <= EXPIRES_AFTER_S:  # dead, or our clock is not the storage's
                with suppress(OSError):
                    age = age_s(path)
            return Seen(holder, renewed_at) if age <= EXPIRES_AFTER_S else None
        return None

    def _live_holder(self, generation: int) -> Holder | None:
        """Who holds a generation, or None when it is free."""
        path = self._path(generation)
        try:
            age = age_s(path)
            holder = _read_holder(path)
        except FileNotFoundError:  # its successor has just removed it: look again
            return None
        except CorruptFile:
            if age > EXPIRES_AFTER_S:
                return None
            raise
        if holder.released or age > EXPIRES_AFTER_S or holder.process.is_gone():
            return None
        return holder

    def _content(self, released: bool = False) -> bytes:
        return Holder(
            process=Process.current(),
            purpose=self.purpose,
            since=self._since,
            renewed_at=_now(),
            released=released,
            token=self._token,
            stopping=self._stopping,
        ).to_json()

    def _path(self, generation: int) -> AnyPath:
        return _generation_path(self._folder, generation)

    def _generations(self) -> list[int]:
        names = names_in(self._folder)
        stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]


def must_stop(out: Location, generation: int) -> bool:
    """Whether whoever works for a holder of the lock is to stop.

    So it is when the holder has asked for it, has released the lock, or has a successor. A file
    that is there all the time is read anew, since file servers' clients remember for half a minute
    that a file is not there.

    Raises:
        CorruptFile, OSError: it cannot be told.
    """
    try:
        holder = _read_holder(_generation_path(run_folder(out) / "lock", generation))
    except FileNotFoundError:
        return True
    return holder.released or holder.stopping


def outwait(out: Location, say: Callable[[str], object]) -> None:
    """Wait while a holder of the lock may well be dead, so that it then is free or surely held.

    That is one whose process cannot be seen from here and that renews nothing, until its lock has
    expired. A scheduler may begin a job on another host seconds after the last one was killed.

    Args:
        out: the run's folder.
        say: called once with one line, where there is something to wait for.
    """
    lock = RunLock(out, "look")
    first = seen = lock.look()
    if first is None or first.holder.process.is_near:
        return
    process = first.holder.process
    say(f"{lock.out} is in use by pid {process.pid} on {process.host}, or was when that died: "
        "waiting for a sign of life")  # fmt: skip
    give_up = time.monotonic() + EXPIRES_AFTER_S + RENEW_EVERY_S
    while seen == first and time.monotonic() < give_up:
        time.sleep(LOOK_EVERY_S)
        seen = lock.look()


@contextmanager
def held(out: AnyPath, purpose: str, lock: RunLock | None) -> Iterator[RunLock]:
    """`lock` itself, which the caller holds, or a lock of our own."""
    if lock is not None:
        lock.check()
        yield lock
    else:
        with RunLock(out, purpose) as own:
            yield own


def _generation_path(folder: AnyPath, generation: int) -> AnyPath:
    return folder / f"{generation}.json"


def _read_holder(path: AnyPath) -> Holder:
    stored: Any = read_json(path)
    try:
        return Holder(**{**stored, "process": Process(**stored["process"])})
    except (TypeError, KeyError) as error:
        raise CorruptFile(path, f"is no lock: {error}") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
