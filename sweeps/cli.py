"""The command line: parses, calls, prints. Heavy imports wait until a command needs them."""

import json
import os
import sys
from typing import Any

import click
from rich.console import Console

from cluster import resolve_address
from storage.errors import InputError
from sweeps.cut_short import INTERRUPTED, CutShort, ended_by_signals, resumable
from sweeps.import_command import import_command
from sweeps.launch_command import launch_command
from sweeps.leaving import TERMINATED
from sweeps.remote import STUDY_FILE, option_words
from sweeps.status import status_command

LOG_WIDTH = 120  # columns where there is no terminal to ask

_width = None if sys.stdout.isatty() else LOG_WIDTH
# No markup: paths and reasons are printed as they are, square brackets and all.
_out = Console(soft_wrap=True, markup=False, highlight=False, width=_width)
_err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="toposweep")
def cli() -> None:
    """Train many sparse neural networks at once, keep every mask, and measure how far apart their
    topologies are.

    Begin with `toposweep run quickstart`. Exit codes: 0 all done; 1 some of it failed, the rest is
    complete and usable (or all of it stopped, for want of storage or cluster: it can be resumed);
    2 the input is wrong; 130 and 143 ended by Ctrl-C and by SIGTERM: it can be resumed.
    """


_address = click.option(
    "--address", metavar="ADDR",
    help="A Ray cluster: auto, HOST:PORT or ray://HOST:PORT. Default: Ray on this machine.",
)  # fmt: skip
_tracking = click.option(
    "--tracking-uri", metavar="URI",
    help="MLflow. Default: the study's, MLFLOW_TRACKING_URI, or sqlite beside the run.",
)  # fmt: skip
_folder = click.argument("out")


@cli.command()
@click.argument("study")
@click.option("--out", metavar="DIR", help="The run's folder. Default: runs/NAME of the study.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Override one dotted key of the study; may be repeated.")  # fmt: skip
@_address
@_tracking
@click.option("--retry-failed", is_flag=True, help="Train again what failed before.")
@click.option("--dry-run", is_flag=True, help="List the trials and what they will cost; run none.")
def run(
    study: str,
    out: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    tracking_uri: str | None,
    retry_failed: bool,
    dry_run: bool,
) -> None:
    """Run STUDY (a file, or a built-in study's name) whole: sweep, distances, report, MLflow.

    A finished OUT that holds a smaller version of the study gets only what is new.
    """
    from sweeps.study_file import load_study

    checked = load_study(study, overrides)
    if dry_run:
        from sweeps.checks import check_job
        from sweeps.estimate import print_plan

        print_plan(checked, check_job(checked, out, address, tracking_uri), _out)
        return
    if resolve_address(address).is_client:
        options = option_words(out=out, tracking_uri=tracking_uri, retry_failed=retry_failed)
        _run_remotely(address, out, "run", STUDY_FILE, *options, study=checked)
    _run_job(checked, out or f"runs/{checked.name}", address, tracking_uri, retry_failed)


@cli.command()
@_folder
@click.option("--retry-failed", is_flag=True, help="Train again what failed before.")
@click.option("--repair", is_flag=True, help="First put damaged files aside, into OUT/quarantine, "
              "and train their trials again.")  # fmt: skip
@_address
@_tracking
def resume(
    out: str, retry_failed: bool, repair: bool, address: str | None, tracking_uri: str | None
) -> None:
    """Go on with the run in OUT after whatever stopped it; finished trials do not run again."""
    if resolve_address(address).is_client:
        options = option_words(tracking_uri=tracking_uri, retry_failed=retry_failed, repair=repair)
        _run_remotely(address, out, "resume", out, *options)
    from storage.runs import Run
    from sweeps.checks import stored_study

    if repair:
        from sweeps.repair import repair_job
        from sweeps.summary import print_repair

        print_repair(repair_job(out), _out)
    _run_job(stored_study(Run.open(out)), out, address, tracking_uri, retry_failed)


def _run_remotely(address: str | None, out: str | None, *words: Any, study: Any = None) -> None:
    """The command runs on the cluster's head; this one ends as it ends."""
    from sweeps.progress import ConsoleProgress
    from sweeps.remote import run_remotely

    again = f"toposweep resume {out} --address {address}"
    try:
        with ended_by_signals():
            code = run_remotely(address, words, out, study, ConsoleProgress(_out))
    except KeyboardInterrupt:
        raise CutShort(f"interrupted; if it had begun, go on with: {again}", INTERRUPTED) from None
    if code in (INTERRUPTED, TERMINATED):
        _err.print(f"from here: {again}")
    sys.exit(code)


def _run_job(
    study: Any, out: str, address: str | None, tracking_uri: str | None, retry_failed: bool
) -> None:
    from sweeps.job import run_job
    from sweeps.progress import ConsoleProgress
    from sweeps.summary import print_outcome

    with resumable(out, _err.print) as request:
        outcome = run_job(
            study,
            out,
            address=address,
            tracking_uri=tracking_uri,
            retry_failed=retry_failed,
            progress=ConsoleProgress(_out),
            request=request,
        )
    print_outcome(outcome, _out)
    for warning in outcome.warnings:
        _err.print(f"warning: {warning}", style="yellow")
    for problem in outcome.problems:
        _err.print(f"error: {problem}", style="red")
    if outcome.damaged:
        _err.print("to put damaged files aside and train their trials again: "
                   f"toposweep resume {out} --repair")  # fmt: skip
    if outcome.failed or outcome.problems:
        sys.exit(1)


@cli.command()
@_folder
@click.option("--name", metavar="NAME", help="Which distances, by name. Default: all that "
              "the study names; `custom` where options but --chance are given.")  # fmt: skip
@click.option("--method", type=click.Choice(["layerwise", "reference", "joint", "in_place"]),
              help="How to match neurons: each layer given the one before, as the paper's "
              "published code does, all layers together, or not at all.")  # fmt: skip
@click.option("--shared-indices", is_flag=True, default=None,
              help="For joint: the networks grew from one initialisation.")  # fmt: skip
@click.option("--steps", metavar="STEPS", help="first, last, all, or a list: 0ep,10ep,500it.")
@click.option("--against", metavar="STEP", help="Each snapshot against its own trial's first, "
              "last, or a given one (10ep), instead of all pairs.")  # fmt: skip
@click.option("--where", metavar="EXPR", help="Which snapshots, such as "
              "\"method_name == 'set' and method_density < 0.1\".")  # fmt: skip
@click.option("--include-dense", is_flag=True, default=None,
              help="Also networks that are dense everywhere.")  # fmt: skip
@click.option("--chance", type=click.IntRange(2, 1000), metavar="N", help="Also the "
              "distance expected by chance: of N pairs of random networks for each two classes of "
              "networks with about the same degrees.")  # fmt: skip
@_address
def distances(out: str, name: str | None, address: str | None, **options: Any) -> None:
    """Compute distance matrices over the snapshots in OUT; tiles that are there already stay."""
    given = {key: value for key, value in options.items() if value is not None}
    if resolve_address(address).is_client:
        _run_remotely(address, out, "distances", out, *option_words(name=name, **given))
    from sweeps.job import distances_job
    from sweeps.progress import ConsoleProgress
    from sweeps.summary import print_distances

    with resumable(out, _err.print) as request:
        done = distances_job(
            out, name, given, address=address, progress=ConsoleProgress(_out), request=request
        )
    for result in done:
        print_distances(result, _out)


@cli.command()
@_folder
def report(out: str) -> None:
    """Write OUT/report/index.html anew from what OUT holds."""
    from storage.runs import Run
    from sweeps.report import build_report

    stored = Run.open(out)
    _out.print(f"report: {build_report(stored)}")
    problems = stored.unreadable()
    for problem in problems:
        _err.print(f"error: {problem}", style="red")
    if problems:
        sys.exit(1)


@cli.command()
@_folder
@_tracking
def sync(out: str, tracking_uri: str | None) -> None:
    """Bring MLflow up to what OUT holds; twice adds nothing."""
    from sweeps.job import sync_job

    result = sync_job(out, tracking_uri)
    if result.warning:
        _err.print(f"warning: {result.warning}", style="yellow")
    else:
        _out.print(
            f"{result.trials} trials, {result.metrics_sent} new metric values, "
            f"{result.artifacts} new artifacts -> {result.uri}"
        )


@cli.command()
@_folder
def verify(out: str) -> None:
    """Check every file of OUT (masks, metrics, records, distances) against what was written."""
    from storage.checkpoints import verify_checkpoints
    from storage.distances import verify_distances
    from storage.runs import Run

    stored = Run.open(out)
    bad = [*stored.verify(), *verify_checkpoints(stored.out), *verify_distances(stored.out)]
    for problem in bad:
        _err.print(f"error: {problem}", style="red")
    if bad:
        _err.print("to put damaged files aside and train their trials again: "
                   f"toposweep resume {out} --repair")  # fmt: skip
        sys.exit(1)
    index = stored.masks.index(with_config=False)
    snapshots = len(index[["trial_id", "step"]].drop_duplicates())
    _out.print(f"all good: {snapshots} snapshots, {len(index)} masks")


@cli.command()
@click.argument("name", required=False)
def studies(name: str | None) -> None:
    """List the built-in studies, or print the one called NAME."""
    from sweeps.study_file import builtin_names, builtin_text, load_study

    if name is not None:
        _out.print(builtin_text(name), end="")
        return
    for builtin in builtin_names():
        _out.print(f"{builtin:20s} {load_study(builtin).description}")


@cli.command()
def schema() -> None:
    """Print the JSON Schema of a study file, for editors."""
    from sweeps.study import study_schema

    click.echo(json.dumps(study_schema(), indent=2))


cli.add_command(import_command)
cli.add_command(launch_command)
cli.add_command(status_command)


def main() -> None:
    """The console script: no traceback for wrong input."""
    try:
        code = cli.main(standalone_mode=False)
    except InputError as error:
        _err.print(f"error: {error}", style="red")
        code = 2
    except OSError as error:  # a folder that cannot be written, too long a name, a full disk
        where = f" {error.filename}" if error.filename else ""
        _err.print(f"error:{where}: {error.strerror or error}", style="red")
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except CutShort as cut:
        _err.print(str(cut))
        code = cut.code
        if cut.at_once:
            sys.stdout.flush()
            os._exit(code)
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
