"""Launch files: one template a platform in `launch/`, filled in for a study.

The templates are the only source: what is in that folder is what a user gets.
"""

import hashlib
import json
import math
import re
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cluster.machines import FAMILIES, smallest_machine

CPUS_WITHOUT_GPUS = 16

# Ray adds up to 28 characters to the name of a machine, which Google wants in 63.
LONGEST_NAME = 30

TEMPLATES = {
    "slurm": "slurm.sh.jinja",
    "kuberay": "kuberay.yaml.jinja",
    "aws": "aws.yaml.jinja",
    "gcp": "gcp.yaml.jinja",
}
_STUDY_THERE = {
    "kuberay": "/etc/toposweep/study.yaml",
    "aws": "/home/ray/toposweep/study.yaml",
    "gcp": "/home/ray/toposweep/study.yaml",
}
_SELDOM_SHARED = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/")


@dataclass(frozen=True)
class LaunchedStudy:
    """What a launch file has to know of a study.

    Attributes:
        name: the study's.
        builtin: what a built-in study is called wherever toposweep is installed; None for a file.
        file: its absolute path on this machine; None for a built-in one.
        text: what the file holds; None for a built-in one.
        cpu: CPUs of a trial.
        gpu: GPUs of a trial, a fraction where trials share one.
        tracked: whether it names its own MLflow server.
        packages: what it imports of its user's own.
    """

    name: str
    builtin: str | None
    file: Path | None
    text: str | None
    cpu: float
    gpu: float
    tracked: bool
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class LaunchFile:
    """A launch file, and what its user should know before using it."""

    text: str
    warnings: tuple[str, ...]


def launch_file(
    platform: str,
    study: LaunchedStudy,
    *,
    nodes: int,
    gpus_per_node: int,
    out: str,
    in_bucket: bool,
    environment: str,
    cpus_per_node: int | None = None,
    stay: bool = False,
) -> LaunchFile:
    """The launch file of a platform, filled in for a study.

    Args:
        platform: a key of `TEMPLATES`.
        study: what is launched.
        nodes: machines that train; on all but Slurm another, small one leads.
        gpus_per_node: GPUs of each.
        out: the run's folder, which every node reaches: a URI, or on Slurm an absolute path; empty
            where none is given.
        in_bucket: whether it is a URI of an object store.
        environment: for Slurm, the script that makes `toposweep` known to a shell.
        cpus_per_node: CPUs of each; None: what the trials that fit the GPUs take, without GPUs 16.
        stay: for KubeRay, a cluster that stays instead of one that ends with the study.

    Raises:
        ValueError: one line, beginning with the option that is wrong.
    """
    if nodes < 1:
        raise ValueError(f"nodes {nodes}: is not allowed: at least 1")
    if stay and platform != "kuberay":
        raise ValueError(f"stay: is not allowed for {platform}: only for kuberay")
    _check_out(platform, out, in_bucket)
    cpus, machine = _machine(platform, study, gpus_per_node, cpus_per_node)
    at_once = nodes * trials_at_once(study, cpus, gpus_per_node)
    warnings = []
    if gpus_per_node and not study.gpu:
        warnings.append("the study asks for no GPU (resources.gpu): the nodes' GPUs will be idle")
    if nodes > 1 and out.startswith(_SELDOM_SHARED):
        warnings.append(f"--out {out}: nodes seldom share that folder")
    if study.packages and platform != "slurm":
        warnings.append(
            f"imports: {', '.join(study.packages)}: the head must have it, installed or in the "
            "folder where toposweep runs; from there it is shipped to the others"
        )
    source = study.builtin or _STUDY_THERE.get(platform, str(study.file))
    tracking = _default_tracking(platform) if in_bucket and not study.tracked else None
    command = ["toposweep", "run", source, "--out", out, "--address", "auto"]
    if tracking:
        command += ["--tracking-uri", tracking]
    text = (
        _environment()
        .get_template(TEMPLATES[platform])
        .render(
            study=study.name,
            name=study.name if platform == "slurm" else plain_name(study.name),
            study_source=source,
            study_file=None if study.file is None else str(study.file),
            study_text=study.text,
            nodes=nodes,
            gpus=gpus_per_node,
            cpus=cpus,
            machine=machine,
            at_once=at_once,
            out=out,
            in_bucket=in_bucket,
            environment=environment,
            default_tracking=tracking,
            kind="RayCluster" if stay else "RayJob",
            submit=shlex.join(["ray", "job", "submit", "--no-wait", "--", *command]),
            ray_version=version("ray"),
            toposweep_version=version("toposweep"),
        )
    )
    return LaunchFile(text, tuple(warnings))


def trials_at_once(study: LaunchedStudy, cpus: int, gpus: int) -> int:
    """How many trials a node with so many CPUs and GPUs runs side by side."""
    by_cpu = math.floor(cpus / study.cpu + 1e-9)
    return min(by_cpu, _by_gpu(study, gpus)) if study.gpu else by_cpu


def _by_gpu(study: LaunchedStudy, gpus: int) -> int:
    if study.gpu < 1:  # Ray never splits a trial over two GPUs
        return gpus * math.floor(1 / study.gpu + 1e-9)
    return math.floor(gpus / study.gpu + 1e-9)


def plain_name(name: str) -> str:
    """`name` as Kubernetes and the clouds take it: a letter, then small letters, digits, hyphens.

    Names that would fall together get a few digits of their hash.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"s-{plain}".rstrip("-")
    if plain == name and len(plain) <= LONGEST_NAME:
        return plain
    digits = hashlib.sha256(name.encode()).hexdigest()[:5]
    return f"{plain[: LONGEST_NAME - 6].rstrip('-')}-{digits}"


def _machine(
    platform: str, study: LaunchedStudy, gpus: int, asked: int | None
) -> tuple[int, str | None]:
    """CPUs of a node, and in a cloud the machine that has them."""
    if gpus < 0:
        raise ValueError(f"gpus-per-node {gpus}: is not allowed: at least 0")
    if asked is not None and asked < 1:
        raise ValueError(f"cpus-per-node {asked}: is not allowed: at least 1")
    if study.gpu > gpus:
        raise ValueError(
            f"gpus-per-node {gpus}: is not allowed: a trial takes {study.gpu:g} GPU "
            f"(resources.gpu of {study.name})"
        )
    cpus = asked or _enough_cpus(study, gpus)
    machine = None
    if platform in FAMILIES:
        cpus, machine = smallest_machine(platform, gpus, cpus)
    if study.cpu > cpus:
        raise ValueError(
            f"cpus-per-node {cpus}: is not allowed: a trial takes {study.cpu:g} CPU "
            f"(resources.cpu of {study.name})"
        )
    return cpus, machine


def _enough_cpus(study: LaunchedStudy, gpus: int) -> int:
    if not study.gpu:
        return max(CPUS_WITHOUT_GPUS, math.ceil(study.cpu))
    return math.ceil(study.cpu * _by_gpu(study, gpus))


def _check_out(platform: str, out: str, in_bucket: bool) -> None:
    if not out.isprintable():
        raise ValueError(f"out {out!r}: is not allowed: it has signs that cannot be printed")
    if not in_bucket and platform != "slurm":
        given = f"out {out}: is not allowed" if out else "out: is missing"
        raise ValueError(
            f"{given}: its machines share no folder: s3://BUCKET/FOLDER, gs:// or abfs://; where "
            "all of them mount a volume, put its path into the file afterwards"
        )


def _default_tracking(platform: str) -> str:
    """A database on the leading node, which goes with it: `toposweep sync` makes it again."""
    return "sqlite:////tmp/mlflow.db" if platform == "slurm" else "sqlite:////home/ray/mlflow.db"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cluster", "launch"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # shell and YAML: what is not a plain word goes through a filter
    )
    environment.filters["shell"] = shlex.quote
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    environment.filters["block"] = _block
    return environment


def _block(text: str, width: int) -> str:
    """The lines of a YAML block scalar, each moved in by `width` blanks."""
    lines = text.rstrip("\n").split("\n")
    return "\n".join(" " * width + line if line else line for line in lines)
