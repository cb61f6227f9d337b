"""The way from a command to a Ray cluster."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cluster import Cluster, connect, resolve_address, watched
from storage.errors import InputError
from sweeps.leaving import LeaveRequest
from sweeps.progress import Progress


@contextmanager
def reached(
    address: str | None,
    progress: Progress | None = None,
    request: LeaveRequest | None = None,
    packages: Sequence[str] = (),
) -> Iterator[Cluster]:
    """The connected cluster.

    Args:
        address: see `cluster.resolve_address`.
        progress: where to show that it is being reached.
        request: hears of it when the cluster goes.
        packages: of the user's own, for the workers of a cluster.

    Raises:
        InputError: there is none at the address.
    """
    target = resolve_address(address)
    if progress is not None:
        if target.note:
            progress.note(target.note)
        where = "starting Ray" if target.address is None else f"connecting to {target.address}"
        progress.note(where)
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(connect(address, packages=packages))
        except ValueError as error:
            raise InputError(f"--address {error}") from None
        if request is not None:
            request.listen()  # Ray has taken SIGTERM for itself
            stack.enter_context(watched(request.lose))
        yield cluster
