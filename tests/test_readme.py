"""The README and the guides: every command and every line of Python runs, in order, as written."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from sweeps.cli import main
from sweeps.sections import SECTIONS

ROOT = Path(__file__).parent.parent
PAGES = {page.name: page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, content) of each fenced block, in order."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        yield match[1], match[2]


def toposweep(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, words


def mlflow_ui(words: list[str]) -> None:
    """Start the server as written, on a free port, and ask it for its page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *words, "--port", str(port)]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                    assert page.status == 200
                return
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None
                time.sleep(0.3)
        raise AssertionError("mlflow ui did not answer")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "toposweep" and ">" in words:
        command, file = words[: words.index(">")], words[words.index(">") + 1]
        with open(file, "w") as sink, redirect_stdout(sink):
            toposweep(command, monkeypatch)
        assert Path(file).read_text()
    elif words[0] == "toposweep":
        toposweep(words, monkeypatch)
    elif words[0] == "mlflow":
        mlflow_ui(words)
    elif words[0] == "python":
        command = [sys.executable, *words[1:]]
        own = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
        subprocess.run(command, env={**own, "PYTHONPATH": str(ROOT)}, check=True)
    elif words[0] == "make":  # what it does is what runs this test and the continuous integration
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    else:
        raise AssertionError(f"nobody runs this line: {line}")


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Do all that a page says, in the current folder; returns what its Python has named."""
    names: dict[str, Any] = {}
    for language, content in blocks(page):
        file = re.match(r"# (\w+\.py)$", content, re.MULTILINE)
        if language == "yaml":
            name = re.search(r"^name: (\S+)$", content, re.MULTILINE)
            assert name
            Path(f"{name[1]}.yaml").write_text(content)
        elif language == "python" and file:  # a module, which begins with its file's name
            Path(file[1]).write_text(content)
        elif language == "python":
            exec(compile(content, page.name, "exec"), names)
        elif language == "toml":
            check_entry_points(tomllib.loads(content)["project"]["entry-points"])
        elif language == "sh":
            for line in content.splitlines():
                run_command(line, monkeypatch)
        else:
            assert language == ""  # a listing
    return names


def check_entry_points(groups: dict[str, dict[str, str]]) -> None:
    """Each leads to a class that its section takes."""
    for group, entries in groups.items():
        (registry,) = (r for r in SECTIONS.values() if r.group == group)
        for name, value in entries.items():
            assert name not in registry.builtin
            assert value in registry


@pytest.mark.usefixtures("ray_here")
def test_every_command_and_every_line_of_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page(PAGES["README.md"], monkeypatch)
    assert (tmp_path / "runs" / "densities" / "report" / "index.html").is_file()
    assert len(names["matrix"]) == 8
    assert names["mask"].sum() == names["row"]["nnz"]


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"README.md"}))
def test_every_line_of_a_guide_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(PAGES[name], monkeypatch)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links or page.parent != ROOT
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), link
