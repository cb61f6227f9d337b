"""What `pip install .` brings along."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_and_every_file_beside_the_code_is_installed() -> None:
    packages = {path.parent for name in ("sweeps", "topology", "storage", "cluster")
                for path in (ROOT / name).rglob("*.py")}  # fmt: skip
    named = {str(path.relative_to(ROOT)).replace("/", ".") for path in packages}
    assert named == set(SETUPTOOLS["packages"])
    for top in ("sweeps", "topology", "storage", "cluster"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts:
                patterns = SETUPTOOLS["package-data"][top]
                name = str(path.relative_to(ROOT / top))
                assert any(fnmatch(name, pattern) for pattern in patterns), path
