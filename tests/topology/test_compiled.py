import shutil
import subprocess
import sys
from pathlib import Path

import topology

PACKAGE = Path(topology.__file__).parent
SCRIPT = """
from topology.compiled import compiled
from topology.callee import answer

@compiled
def ask():
    return answer()

print(ask(), ask.stats.cache_hits[()] if () in ask.stats.cache_hits else 0)
"""


def _run(folder, **environment):
    done = subprocess.run(
        [sys.executable, "caller.py"], cwd=folder, capture_output=True, text=True, check=True,
        env={"PATH": "", "HOME": str(folder), **environment},
    )  # fmt: skip
    return done.stdout.split()


def _package(tmp_path):
    """The one module, a kernel in a file of its own, and one that calls it."""
    package = tmp_path / "topology"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(PACKAGE / "compiled.py", package)
    (tmp_path / "caller.py").write_text(SCRIPT)
    return package


def _answer(package, value):
    (package / "callee.py").write_text(
        "from topology.compiled import compiled\n\n\n"
        f"@compiled\ndef answer():\n    return {value}\n"
    )


def test_kernels_are_kept_on_disk_until_one_that_they_call_changes(tmp_path):
    package = _package(tmp_path)
    _answer(package, 41)
    assert _run(tmp_path) == ["41", "0"]
    assert _run(tmp_path) == ["41", "1"]
    _answer(package, 42)
    assert _run(tmp_path) == ["42", "0"]


def test_without_a_folder_to_write_to_kernels_are_compiled_all_the_same(tmp_path, monkeypatch):
    from numba.core.caching import CacheImpl

    from topology.compiled import compiled

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    def double(x: int) -> int:
        return 2 * x

    assert compiled(double)(21) == 42
