"""Which package may import which, and what the light commands must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sweeps", "topology", "storage", "cluster")
ALLOWED = {
    "sweeps": {"topology", "storage", "cluster"},
    "topology": {"storage", "cluster"},
    "storage": set(),
    "cluster": set(),
}
METRIC = sorted(
    path.stem
    for path in (ROOT / "topology").glob("*.py")
    if path.stem not in {"__init__", "pairwise", "spec", "tiles", "tile_tasks", "overlap_torch"}
    if not path.stem.startswith(("chance_stage", "plot", "heatmaps", "embedding"))
)
METRIC_MAY_IMPORT = {"numpy", "scipy", "numba", "llvmlite", "topology"}
TRAINING_MUST_NOT = {"ray", "pyarrow", "mlflow", "pandas", "topology", "cluster"}


def imports(path: Path) -> set[str]:
    """Full names of everything a module imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_between_packages_point_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        others = tops(path) & set(PACKAGES) - {package}
        assert others <= ALLOWED[package], path


@pytest.mark.parametrize("module", METRIC)
def test_the_metric_needs_only_numeric_libraries(module: str) -> None:
    third_party = tops(ROOT / "topology" / f"{module}.py") - set(sys.stdlib_module_names)
    assert third_party <= METRIC_MAY_IMPORT


def test_training_knows_nothing_of_ray_parquet_or_mlflow() -> None:
    for path in (ROOT / "sweeps" / "training").glob("*.py"):
        assert not tops(path) & TRAINING_MUST_NOT, path
        own = {name for name in imports(path) if name.startswith("sweeps.")}
        assert all(name.startswith(("sweeps.training", "sweeps.validation")) for name in own), path


def test_only_pairwise_knows_ray_in_topology() -> None:
    knowing = {p.name for p in (ROOT / "topology").glob("*.py") if "ray" in tops(p)}
    assert knowing <= {"pairwise.py"}


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import storage, storage.tracking", ["ray", "torch", "mlflow"]),
        ("import topology", ["ray", "torch", "mlflow"]),
        ("import sweeps", ["ray", "torch", "mlflow", "pandas"]),
        ("import sweeps.cli as c; c.cli.main(['--help'], standalone_mode=False)", ["ray", "torch"]),
        ("import sweeps.summary", ["ray", "torch", "mlflow"]),
        (
            "import sweeps.status, storage.run_progress, storage.runs",
            ["ray", "torch", "mlflow", "pandas", "pyarrow", "numpy", "scipy", "pydantic"],
        ),
    ],
)
def test_light_imports_stay_light(code: str, heavy: list[str]) -> None:
    check = f"{code}\nimport sys\nprint('LOADED', [m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("LOADED []")
