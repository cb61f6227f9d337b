"""What the command line prints about a run."""

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from storage.distances import list_distances
from storage.runs import Run
from sweeps.configurations import name_configurations
from sweeps.intervals import interval
from sweeps.readable import counted, shown

if TYPE_CHECKING:
    from sweeps.job import Outcome
    from sweeps.repair import Repair
    from topology.pairwise import DistanceResult

MOST_ROWS = 30  # of the accuracy table


def mlflow_command(uri: str) -> str:
    """The command that opens a SQLite store, findable without an activated environment."""
    program = "mlflow" if shutil.which("mlflow") else shown(Path(sys.executable).parent / "mlflow")
    prefix = "sqlite:///"
    return f"{program} ui --backend-store-uri {prefix}{shown(uri.removeprefix(prefix))}"


def print_outcome(outcome: "Outcome", console: Console) -> None:
    """Where each result is, and the commands that open them."""
    run = outcome.run
    records = run.records()
    states = Counter[str](record.state for record in records.values())
    console.print()
    console.print(accuracy_table(run))
    console.print(f"trials     {counted(states)}")
    for trial_id in outcome.failed:
        reason = records[trial_id].reason or ""
        console.print(f"  failed   {trial_id}: {reason}")
    if outcome.failed:
        console.print(f"  again    toposweep resume {shown(run.out)} --retry-failed")
    console.print(f"masks      {shown(run.out / 'masks')}")
    console.print(f"metrics    {shown(run.out / 'metrics')}")
    for spec in list_distances(run.out):
        console.print(f"distances  {spec.describe()} -> {shown(spec.path)}")
    if outcome.report is not None:
        console.print(f"report     {shown(outcome.report)}")
    if outcome.tracking_uri.startswith("sqlite"):
        console.print(f"mlflow     {mlflow_command(outcome.tracking_uri)}")
    else:
        console.print(f"mlflow     {outcome.tracking_uri}")


def print_repair(done: "Repair", console: Console) -> None:
    """What was put aside, which trials train again, and what is damaged still."""
    for path in done.put_aside:
        console.print(f"put aside  {shown(path)}")
    for trial_id in sorted(done.trials):
        console.print(f"again      {trial_id}")
    for problem in done.beyond:
        console.print(f"damaged    {problem}")
    if not (done.put_aside or done.trials or done.beyond):
        console.print("nothing is damaged")


def accuracy_table(run: Run) -> Table:
    """Final test accuracy of each configuration: mean and spread over the completed trials."""
    trials = run.trials()
    table = Table(title=f"{run.study}: final test accuracy", title_justify="left", box=SIMPLE_HEAD)
    for column in ("configuration", "trials", "mean", "95% CI", "min", "max"):
        table.add_column(column, justify="left" if column == "configuration" else "right")
    if "final_test_accuracy" not in trials:
        return table
    named = name_configurations(trials)
    done = trials[trials["state"] == "completed"].set_index("trial_id")["final_test_accuracy"]
    labels = named["label"][named.index.isin(done.index)]
    for label in list(dict.fromkeys(labels))[:MOST_ROWS]:
        accuracy = done[labels.index[labels == label]]
        table.add_row(
            str(label),
            str(len(accuracy)),
            f"{accuracy.mean():.4f}",
            f"± {interval(accuracy).half:.4f}" if len(accuracy) > 1 else "",
            f"{accuracy.min():.4f}",
            f"{accuracy.max():.4f}",
        )
    if labels.nunique() > MOST_ROWS:
        table.caption = f"and {labels.nunique() - MOST_ROWS} more in the report"
    return table


def print_distances(result: "DistanceResult", console: Console) -> None:
    """One line for a finished matrix, one for its chance level, and what is not in it."""
    apart = len(result.groups) > 1
    groups = f" in {len(result.groups)} groups that cannot be compared" if apart else ""
    console.print(
        f"{result.name}: {result.n_snapshots} snapshots{groups}, {result.n_pairs} pairs "
        f"({result.n_computed} computed now) in {result.seconds:.1f} s -> {shown(result.path)}"
    )
    if result.n_chance:
        console.print(f"  by chance  {result.n_chance} pairs of random networks compared")
    if result.left_out:
        console.print(f"  left out, for want of the step to compare with: "
                      f"{', '.join(result.left_out)}")  # fmt: skip
