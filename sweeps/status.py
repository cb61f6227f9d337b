"""`toposweep status`: how far a run is, once or until it has ended; light, for any machine."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from storage.errors import InputError
from storage.filesystem import names_in
from sweeps.readable import counted, readable_bytes, readable_seconds, shown

if TYPE_CHECKING:
    from storage.run_progress import Rate, RunProgress, UnfinishedDistances
    from storage.runs import Run

EVERY_S = 5.0  # between two looks of --watch
MOST_FAILURES = 10  # lines, one a reason


class _StatusCommand(click.Command):
    """Lets --watch stand alone, also before OUT."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give --watch its default where no number follows."""
        filled = []
        for word, following in zip(args, [*args[1:], ""], strict=True):
            alone = word == "--watch" and not _is_number(following)
            filled.append(f"--watch={EVERY_S:g}" if alone else word)
        return super().parse_args(ctx, filled)


def _is_number(word: str) -> bool:
    with suppress(ValueError):
        float(word)
        return True
    return False


@click.command("status", cls=_StatusCommand)
@click.argument("out")
@click.option("--watch", type=click.FloatRange(min=0.1), metavar="[SECONDS]", help="Look again "
              f"every few seconds ({EVERY_S:g}) until the run has ended or Ctrl-C.")  # fmt: skip
def status_command(out: str, watch: float | None) -> None:
    """How far the run in OUT is: trials by state, rate, time left, failures with reasons,
    snapshots, distances. From any machine that can read OUT, at any time."""
    from storage.runs import Run

    run = Run.open(out)
    if watch is not None:
        watch_status(run, out, watch)
        return
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for line in status_lines(run, out, look(run)):
        console.print(line)


def look(run: "Run") -> "RunProgress":
    """How far a run is at this moment."""
    from storage.run_progress import read_progress

    return read_progress(run.out, _planned(run))


def _planned(run: "Run") -> int:
    """Trials that an Optuna search will have: their records come one by one."""
    from storage.filesystem import read_bytes

    text = read_bytes(run.study_path)
    if b"optuna" not in text:
        return 0
    import yaml

    with suppress(yaml.YAMLError, KeyError, TypeError, ValueError):
        search = yaml.safe_load(text)["search"]
        return int(search["num_samples"]) if search["algorithm"] == "optuna" else 0
    return 0


def watch_status(run: "Run", out: str, every: float) -> None:
    """Show the status again and again: in place on a terminal, else a line each time.

    Args:
        run: which run.
        out: its folder as the user gave it.
        every: seconds between looks.
    """
    progress = look(run)
    lines, short = status_lines(run, out, progress), short_line(progress)
    with suppress(KeyboardInterrupt), _screen() as show:
        while progress.driver is not None:
            show(lines, short)
            time.sleep(every)
            try:
                progress = look(run)
                lines, short = status_lines(run, out, progress), short_line(progress)
            except (OSError, InputError) as error:  # files come and go, storage comes back
                short = f"{_clock()}  no answer: {error}"
                lines = [*status_lines(run, out, progress), short]
        show(lines, None)


@contextmanager
def _screen() -> Iterator[Callable[[Sequence[str], str | None], None]]:
    """Yields what shows all lines on a terminal; elsewhere the short one, unless there is none."""
    console = Console(markup=False, highlight=False)
    if console.is_terminal:
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as live:
            yield lambda lines, short: live.update(Text("\n".join(lines)), refresh=True)
        return

    def show(lines: Sequence[str], short: str | None) -> None:
        for line in lines if short is None else [short]:
            console.print(line, soft_wrap=True)

    yield show


def short_line(progress: "RunProgress") -> str:
    """The run in one line, for a log."""
    parts = [
        f"{_clock()}  {counted(progress.states) or 'no trials'}",
        f"{progress.census.n_snapshots} snapshots, {readable_bytes(progress.census.bytes)}",
    ]
    if progress.rate is not None:
        parts.append(f"{_number(progress.rate.epochs)} epochs a minute")
    parts += [_tiles(begun) for begun in progress.unfinished]
    if progress.seconds_left is not None:
        parts.append(f"about {readable_seconds(progress.seconds_left)} of training left")
    return "; ".join(parts)


def status_lines(run: "Run", out: str, progress: "RunProgress") -> list[str]:
    """A run for people.

    Args:
        run: which.
        out: its folder as the user gave it, for the commands.
        progress: how far it is.
    """
    states, census = progress.states, progress.census
    lines = [
        f"{run.study} in {run.out}",
        f"  trials     {len(progress.records)}: {counted(states) or 'none'}",
    ]
    if states["running"] or states["pending"]:
        lines.append(f"  epochs     {progress.epochs_done:.0f} of {progress.epochs_total:.0f}")
    if progress.rate is not None:
        lines.append(f"  rate       {_rate(progress.rate)}")
    if progress.seconds_left is not None:
        lines.append(f"  left       about {readable_seconds(progress.seconds_left)} of training")
    lines.append(
        f"  masks      {census.n_snapshots} snapshots, {census.files} file(s), "
        f"{readable_bytes(census.bytes)}"
    )
    lines += [f"  distances  {s.describe()} -> {shown(s.path)}" for s in progress.finished]
    lines += [f"  distances  {_tiles(begun)}" for begun in progress.unfinished]
    lines += [f"  failed     {line}" for line in _failures(run, progress)]
    lines += [f"  damaged    {problem}" for problem in progress.problems]
    return [*lines, *(f"  {line}" for line in _driver(run, out, progress))]


def _rate(rate: "Rate") -> str:
    amounts = (
        f"{_number(rate.trials)} trials, {_number(rate.epochs)} epochs, "
        f"{_number(rate.snapshots)} snapshots a minute"
    )
    return f"{amounts}, over the last {readable_seconds(60 * rate.minutes)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _tiles(set_: "UnfinishedDistances") -> str:
    begun = set_.begun
    text = f"{set_.name}: {set_.done} of {begun.tiles} tiles, {begun.pairs} pairs in all"
    if set_.seconds_left is not None and set_.done < begun.tiles:
        text += f", about {readable_seconds(set_.seconds_left)} left"
    return text


def _failures(run: "Run", progress: "RunProgress") -> Iterator[str]:
    """A line for each reason: a trial that failed so, how many others did, and its log."""
    by_reason: dict[str, list[str]] = {}
    for record in progress.records.values():
        if record.state == "failed":
            lines = (record.reason or "").strip().splitlines() or ["no reason given"]
            by_reason.setdefault(lines[0], []).append(record.trial_id)
    logs = set(names_in(run.out / "logs")) if by_reason else set()
    for reason, (first, *others) in list(by_reason.items())[:MOST_FAILURES]:
        more = f" and {len(others)} more" if others else ""
        path = run.log_path(first)
        if path.name not in logs:  # it died before it could write one
            path = run.out / "trials" / f"{first}.json"
        yield f"{first}{more}: {reason} ({shown(path)})"
    hidden = list(by_reason.values())[MOST_FAILURES:]
    if hidden:
        yield f"and {sum(map(len, hidden))} more, for {len(hidden)} other reasons"


def _driver(run: "Run", out: str, progress: "RunProgress") -> Iterator[str]:
    """Who drives the run, or how to go on."""
    driver, states = progress.driver, progress.states
    if driver is not None:
        yield (
            f"driver     {driver.purpose}, pid {driver.process.pid} on {driver.process.host}, "
            f"since {driver.since}"
        )
        return
    folder = shlex.quote(out)
    if states["running"] or states["pending"]:
        cut = f"{states['running']} trials were cut off; " if states["running"] else ""
        yield f"driver     none; {cut}go on with: toposweep resume {folder}"
    elif not progress.unfinished and _lacks_report(run, progress):
        yield f"driver     none; go on with: toposweep resume {folder}"
    for begun in progress.unfinished:
        words = " ".join([folder, "--name", begun.name, *_options(begun.begun.options)])
        yield f"driver     none; go on with: toposweep distances {words}"
    if states["failed"]:
        yield f"again      toposweep resume {folder} --retry-failed"


def _lacks_report(run: "Run", progress: "RunProgress") -> bool:
    """Whether the driver died after the last trial; imported networks have no driver at all."""
    trained = any("imported" not in record.config for record in progress.records.values())
    return trained and not (run.report_folder / "index.html").exists()


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    """A distance set's options as `toposweep distances` takes them."""
    for key, value in options.items():
        yield f"--{key.replace('_', '-')}"
        if value is not True:
            yield shlex.quote(",".join(value) if isinstance(value, list) else str(value))


def _clock() -> str:
    return datetime.now().strftime("%H:%M:%S")
