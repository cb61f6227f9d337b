"""Launching sparse-training sweeps and bringing their results together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.job import run_study
    from sweeps.study import Study
    from sweeps.study_file import load_study

__all__ = ["Study", "load_study", "run_study"]


def __getattr__(name: str) -> Any:
    # Looked up when asked for: `toposweep --help` and `status` must not wait for ray and torch.
    if name == "run_study":
        from sweeps.job import run_study

        return run_study
    if name == "Study":
        from sweeps.study import Study

        return Study
    if name == "load_study":
        from sweeps.study_file import load_study

        return load_study
    raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
