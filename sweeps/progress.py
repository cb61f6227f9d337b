"""How long work shows itself: silently, as plain lines, or as bars on a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBars

PLAIN_INTERVAL = 15.0  # seconds between lines where there is no terminal to draw on


@dataclass
class Counts:
    """How far a sweep is; `restarts` counts trials begun again after their process died."""

    total: int
    done: int = 0
    failed: int = 0
    restarts: int = 0
    epochs_done: int = 0
    epochs_total: int = 0
    running: set[str] = field(default_factory=set)

    def describe(self) -> str:
        """`12/15 trials, 2 running, 1 failed`."""
        parts = [f"{self.done + self.failed}/{self.total} trials"]
        if self.running:
            parts.append(f"{len(self.running)} running")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.restarts:
            parts.append(f"{self.restarts} restarted")
        return ", ".join(parts)


class Progress:
    """Shows nothing: what a notebook or a test gets."""

    def note(self, text: str) -> None:
        """One line about what happens next."""

    @contextmanager
    def sweep(self) -> Iterator[Callable[[Counts], None]]:
        """Yields what the sweep calls after every change."""
        yield lambda counts: None

    @contextmanager
    def pairs(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Yields what the distance stage calls with (pairs done, pairs in all)."""
        yield lambda done, total: None

    @contextmanager
    def snapshots(self) -> Iterator[Callable[[int, int, str], None]]:
        """Yields what an import calls with (snapshots done, snapshots in all, what is done)."""
        yield lambda done, total, what: None


class ConsoleProgress(Progress):
    """Bars on a terminal; a line now and then in a log."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, text: str) -> None:
        """One line."""
        self._console.print(text, style="dim")

    @contextmanager
    def sweep(self) -> Iterator[Callable[[Counts], None]]:
        """Epochs as the bar, since trials end in bursts; trials in words beside it."""
        with self._bar("epochs") as advance:

            def show(counts: Counts) -> None:
                advance(counts.epochs_done, counts.epochs_total, counts.describe(), "epochs")

            yield show

    @contextmanager
    def pairs(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Pairs done, pairs per second, time left."""
        started, before = time.monotonic(), -1  # before: pairs that were there at the start
        with self._bar("pairs") as advance:

            def show(done: int, total: int) -> None:
                nonlocal started, before
                if before < 0:
                    started, before = time.monotonic(), done
                rate = (done - before) / max(time.monotonic() - started, 1e-9)
                speed = f", {rate:,.0f} pairs/s" if rate >= 1 else ""  # kernels may be compiling
                advance(done, total, f"distances {name}{speed}", "pairs")

            yield show

    @contextmanager
    def snapshots(self) -> Iterator[Callable[[int, int, str], None]]:
        """Snapshots checked, then written."""
        with self._bar("snapshots") as advance:
            yield lambda done, total, what: advance(done, total, what, "snapshots")

    @contextmanager
    def _bar(self, unit: str) -> Iterator[Callable[[int, int, str, str], None]]:
        if not self._console.is_terminal:
            yield self._plain()
            return
        bars = RichBars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        with bars:
            task = bars.add_task("starting", total=None)

            def advance(done: int, total: int, text: str, unit: str) -> None:
                bars.update(task, completed=done, total=total or None, description=text)

            yield advance

    def _plain(self) -> Callable[[int, int, str, str], None]:
        last = time.monotonic()

        def advance(done: int, total: int, text: str, unit: str) -> None:
            nonlocal last
            if time.monotonic() - last >= PLAIN_INTERVAL:
                last = time.monotonic()
                self._console.print(f"{text} ({done}/{total} {unit})")

        return advance
