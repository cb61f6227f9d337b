"""`toposweep launch`: a study's launch file for Slurm, Kubernetes, AWS or Google Cloud."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cluster.launching import LaunchedStudy

# The keys of cluster.launching.TEMPLATES, which is imported only when it is needed.
PLATFORMS = ("slurm", "kuberay", "aws", "gcp")


@click.command("launch")
@click.argument("platform", type=click.Choice(PLATFORMS))
@click.argument("study")
@click.option("--nodes", type=int, required=True, metavar="N", help="Machines that train.")
@click.option(
    "--gpus-per-node", type=int, required=True, metavar="G", help="GPUs of each; may be 0."
)
@click.option("--cpus-per-node", type=int, metavar="C", help="CPUs of each. Default: what the "
              "trials that fit its GPUs take; 16 without GPUs.")  # fmt: skip
@click.option("--out", metavar="URI", help="The run's folder, which every node reaches: s3://, "
              "gs:// or abfs://; on Slurm also a shared folder, by default "
              "runs/NAME here.")  # fmt: skip
@click.option("--stay", is_flag=True, help="For kuberay: a cluster that stays, for more studies.")
def launch_command(
    platform: str,
    study: str,
    nodes: int,
    gpus_per_node: int,
    cpus_per_node: int | None,
    out: str | None,
    stay: bool,
) -> None:
    """Print the launch file of STUDY for a cluster; its three lines to edit are marked.

    A Slurm batch script, a RayJob for KubeRay, or the cluster of `ray up`. The first lines of the
    file say how to use it.
    """
    from cluster.launching import launch_file
    from storage.errors import InputError
    from storage.filesystem import run_folder
    from storage.object_path import ObjectPath

    known = _launched(study, platform)
    if out is None and platform == "slurm":
        out = f"runs/{known.name}"
    folder = run_folder(out) if out is not None else None
    try:
        made = launch_file(
            platform,
            known,
            nodes=nodes,
            gpus_per_node=gpus_per_node,
            cpus_per_node=cpus_per_node,
            out="" if folder is None else str(folder),
            in_bucket=isinstance(folder, ObjectPath),
            stay=stay,
            environment=str(Path(sys.prefix) / "bin" / "activate"),
        )
    except ValueError as error:
        raise InputError(f"--{error}") from None
    for warning in made.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    click.echo(made.text, nl=False)


def _launched(source: str, platform: str) -> "LaunchedStudy":
    """The checked study as a launch file sees it.

    Raises:
        InputError: it is none, or cannot be used on another machine as it is.
    """
    from cluster.launching import LaunchedStudy
    from storage.errors import InputError
    from storage.tracking_uri import redacted
    from sweeps.study_file import is_file, load_study, parse_mapping

    study = load_study(source)
    file = Path(source).absolute() if is_file(source) else None
    text = None if file is None else file.read_text("utf-8")
    if file is not None and not str(file).isprintable():
        raise InputError(f"{source}: give a file whose path can be printed")
    if text is not None and platform != "slurm":  # Slurm's nodes read the file where it is
        if study.tracking.uri is not None and redacted(study.tracking.uri) != study.tracking.uri:
            raise InputError(
                "tracking.uri: holds a password, which would stand in the launch file or on the "
                "machines: leave it to MLFLOW_TRACKING_URI there"
            )
        data = parse_mapping(text, source).get("data")
        path = data.get("path") if isinstance(data, dict) else None
        if path is not None and not Path(path).is_absolute():
            raise InputError(f"data.path: {path!r} is not allowed: an absolute path on the nodes")
    return LaunchedStudy(
        name=study.name,
        builtin=None if file is not None else source,
        file=file,
        text=text,
        cpu=study.resources.cpu,
        gpu=study.resources.gpu,
        tracked=study.tracking.uri is not None,
        packages=tuple(study.imports),
    )
