"""`toposweep import`: networks that were trained elsewhere, for the same distances and reports."""

import sys
from typing import Any

import click
from rich.console import Console

MOST_TRIALS = 20  # lines that are printed of networks


@click.command("import")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--out", required=True, metavar="DIR", help="The run's folder; more may be imported "
              "into it later.")  # fmt: skip
@click.option("--pattern", metavar="TEXT", help="How files are named, such as "
              "\"{trial}/step_{step}/{layer}.npz\"; {epoch} for {step}; without {layer} a file is "
              "a whole network.")  # fmt: skip
@click.option("--layers", metavar="LAYERS", help="Which layers, in order: names with commas "
              "between, or a range of positions, 0:3 the first three. Default: all.")  # fmt: skip
@click.option("--labelled-outputs/--no-labelled-outputs", default=None, help="Whether the last "
              "layer's neurons are the classes, which keep their places. Default: yes, unless "
              "--layers leaves the last layer out.")  # fmt: skip
@click.option("--transpose", is_flag=True, help="With --pattern: matrices are (n_in, n_out).")
@click.option("--bias-row", type=click.Choice(["first", "last", "none"]), default="none",
              help="With --pattern: which input is the bias, and no connection.")  # fmt: skip
@click.option("--steps-per-epoch", type=click.IntRange(min=1), default=1, metavar="N",
              help="Training steps in an epoch. Default: 1.")  # fmt: skip
@click.option("--name-prefix", default="", metavar="TEXT", help="Put before every network's name.")
def import_command(sources: tuple[str, ...], out: str, **options: Any) -> None:
    """Import sparse networks that were trained elsewhere: masks or weights, in files or folders.

    A SOURCE is a file: a PyTorch state dict (.pt, .pth), safetensors, or a .npz of one array a
    layer; or a folder, in which state dicts, safetensors and the files NAME/epoch_N/weight_lK.npz
    of SET's authors are found. --pattern finds all others. Nothing is unpickled.

    Connections are what a mask beside the weights says (weight_mask, mask), else the weights that
    are not 0. What is in the run's folder already stays as it is.
    """
    from storage.filesystem import run_folder
    from storage.importers import ImportOptions, import_networks
    from sweeps.checks import check_vacant
    from sweeps.job import versions
    from sweeps.progress import ConsoleProgress

    console = Console(soft_wrap=True, markup=False, highlight=False)
    check_vacant(run_folder(out))
    with ConsoleProgress(console).snapshots() as progress:
        result = import_networks(sources, out, ImportOptions(**options), versions(), progress)
    _print(result, console)
    for problem in result.corrupt:
        click.secho(f"error: {problem}", fg="red", err=True)
    if result.corrupt:
        sys.exit(1)


def _print(result: Any, console: Console) -> None:
    """A line for each network, then what there is now and what can be done with it."""
    from sweeps.readable import shown

    for trial in result.trials[:MOST_TRIALS]:
        new = f"epochs {_list(trial.added)} new" if trial.added else "nothing new"
        there = f", {trial.present} there before" if trial.present else ""
        console.print(
            f"{trial.trial_id}  {trial.name}: {new}{there}; {len(trial.layers)} layers, "
            f"density {100 * trial.density:.3g}%"
        )
    if len(result.trials) > MOST_TRIALS:
        console.print(f"and {len(result.trials) - MOST_TRIALS} more networks")
    added = sum(len(trial.added) for trial in result.trials)
    present = sum(trial.present for trial in result.trials)
    folder = shown(result.run.out)
    console.print(f"{added} snapshots imported, {present} there before -> {folder}")
    if added:
        console.print(f"next       toposweep distances {folder} --steps last")


def _list(numbers: list[int]) -> str:
    texts = [str(number) for number in numbers]
    return ", ".join(texts if len(texts) <= 8 else [*texts[:6], "...", texts[-1]])
