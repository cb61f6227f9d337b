"""What must hold on every node of a cluster before a job begins there.

Each check costs one line that names the node: without it the job would hang, or fail in the night.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster import Cluster, Node, ask_nodes, check_versions
from storage.errors import InputError
from storage.filesystem import write_atomic
from storage.runs import Run
from sweeps.own_code import OwnCode, own_code
from sweeps.plan import PlannedTrial, corner_trials
from sweeps.progress import Progress
from sweeps.readable import readable_bytes
from sweeps.shipped_data import NeededData, needed_data, ship_data
from sweeps.study import Study

TILE = {"CPU": 1.0}  # what a task of the distance stage takes

# For all nodes together: to import torch, load the data, and read and write OUT.
PROBE_SECONDS = 300.0


def check_sweep(
    cluster: Cluster, study: Study, run: Run, todo: Sequence[PlannedTrial], progress: Progress
) -> None:
    """A job's trials and distances can run on this cluster; its nodes get the data that they lack.

    Raises:
        InputError: the first thing that is wrong.
    """
    count = len(todo) or (study.search.num_samples if study.search.algorithm == "optuna" else 0)
    told = cluster.describe()
    if count:
        wanted = study.resources.bundle()
        _check_fits(cluster, wanted, "resources")
        told += f"; {cluster.describe_demand(wanted, count)}"
    progress.note(told)
    if study.distances:
        _check_fits(cluster, TILE, "distances")
    if _is_this_machine(cluster):
        return
    trials = todo or (corner_trials(study) if count else [])
    _check_programs(cluster)
    _check_storage(cluster, run, own_code(study), needed_data(trials), progress)


def check_distances_stage(cluster: Cluster, run: Run) -> None:
    """The distance stage of a run can run on this cluster.

    Raises:
        InputError: the first thing that is wrong.
    """
    _check_fits(cluster, TILE, "distances")
    if not _is_this_machine(cluster):
        _check_programs(cluster)
        _check_storage(cluster, run, OwnCode({}, ()), [], Progress())


def _is_this_machine(cluster: Cluster) -> bool:
    """Ray as it is started here: its workers see and import what the driver does."""
    return cluster.address is None and len(cluster.nodes) == 1


def _check_fits(cluster: Cluster, wanted: Mapping[str, float], key: str) -> None:
    try:
        cluster.check_fits(wanted)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from None


def _check_programs(cluster: Cluster) -> None:
    try:
        check_versions(cluster.workers)
    except ValueError as error:
        raise InputError(str(error)) from None


@dataclass(frozen=True)
class Token:
    """What the driver leaves in OUT for the nodes to find: a name that nothing has, and a content
    that nothing else holds."""

    name: str
    content: bytes

    def of(self, node_id: str) -> str:
        """The name under which a node leaves the same content."""
        return f"{self.name}-{node_id}"


@dataclass(frozen=True)
class Findings:
    """What a node says: why OUT cannot be used there, which data sets it lacks, and why, and why
    the user's own code cannot be imported there."""

    out: str | None
    data: dict[NeededData, str]
    code: str | None = None


def _check_storage(
    cluster: Cluster, run: Run, own: OwnCode, needed: Sequence[NeededData], progress: Progress
) -> None:
    """Every node imports the user's own code, reads and writes the driver's own OUT, and can load
    the data."""
    token = Token(f".preflight-{uuid.uuid4().hex}", uuid.uuid4().bytes)
    names = [token.name, *(token.of(node.id) for node in cluster.workers)]
    write_atomic(run.out / token.name, token.content)
    try:
        answers = _ask(cluster, str(run.out), token, own, needed)
        for node, findings in answers.items():
            if findings.code is not None:
                raise InputError(f"{findings.code} (on {node})")
            why = findings.out
            if why is None and not _holds(run, token.of(node.id), token.content):
                why = "writes where the driver does not see it"
            if why is not None:
                raise InputError(
                    f"--out {run.out}: {node} {why}: OUT must be a folder that all nodes share, "
                    "or s3://, gs:// or abfs://"
                )
    finally:
        for name in names:
            (run.out / name).unlink(missing_ok=True)
    _ship_lacking(cluster, run, needed, answers, progress)


def _ask(
    cluster: Cluster, out: str, token: Token, own: OwnCode, needed: Sequence[NeededData]
) -> dict[Node, Findings]:
    try:
        return ask_nodes(
            cluster.workers, look_around, out, token, own, list(needed), seconds=PROBE_SECONDS
        )
    except ValueError as error:
        raise InputError(str(error)) from None


def look_around(out: str, token: Token, own: OwnCode, needed: Sequence[NeededData]) -> Findings:
    """What this node sees of OUT, of the data and of the user's code; Ray runs it on each node."""
    import ray

    if problem := own.problem_here():  # data sets may be of that code
        return Findings(None, {}, problem)
    missing = {data: why for data in needed if (why := data.problem_here())}
    try:
        run = Run.open(out)
        if not _holds(run, token.name, token.content):
            return Findings("sees another folder by that name", missing)
    except InputError:
        return Findings("does not see the run there", missing)
    except Exception as error:  # object stores have errors of many kinds
        return Findings(f"cannot read it ({_gist(error)})", missing)
    try:
        mine = run.out / token.of(ray.get_runtime_context().get_node_id())
        write_atomic(mine, token.content)
    except Exception as error:
        return Findings(f"cannot write there ({_gist(error)})", missing)
    return Findings(None, missing)


def _gist(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]


def _holds(run: Run, name: str, content: bytes) -> bool:
    try:
        return bytes((run.out / name).read_bytes()) == content
    except FileNotFoundError:
        return False


def _ship_lacking(
    cluster: Cluster,
    run: Run,
    needed: Sequence[NeededData],
    answers: Mapping[Node, Findings],
    progress: Progress,
) -> None:
    """Put into OUT what some node lacks, or nodes that an autoscaler starts might."""
    for data in needed:
        lacking = {node: found.data[data] for node, found in answers.items() if data in found.data}
        if not lacking and not cluster.autoscaler.at_work:
            continue
        node, why = next(iter(lacking.items()), (None, ""))
        if not data.files():
            if node is not None:  # it comes with a library: that one differs
                raise InputError(f"data.name: {data.name!r} on {node}: {why}")
            continue
        written = ship_data(run, [data])
        who = f"{node}: {why}" if node is not None else "for nodes that are yet to start"
        if written:
            progress.note(f"data {data.name} copied to {run.out / 'data'} "
                          f"({readable_bytes(written)}); {who}")  # fmt: skip
