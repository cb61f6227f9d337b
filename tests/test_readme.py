"""The README: every command and every line of Python in it runs, in order, as written."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from sweeps.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def blocks() -> Iterator[tuple[str, str]]:
    """(language, content) of each fenced block, in order."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
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
    elif words[0] == "make":  # what it does is what runs this test and the continuous integration
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    else:
        raise AssertionError(f"nobody runs this line of the README: {line}")


@pytest.mark.usefixtures("ray_here")
def test_every_command_and_every_line_of_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for language, content in blocks():
        if language == "yaml":
            name = re.search(r"^name: (\S+)$", content, re.MULTILINE)
            assert name
            Path(f"{name[1]}.yaml").write_text(content)
        elif language == "python":
            exec(compile(content, "README.md", "exec"), names)
        elif language == "sh":
            for line in content.splitlines():
                run_command(line, monkeypatch)
        else:
            assert language == ""  # a listing
    assert (tmp_path / "runs" / "densities" / "report" / "index.html").is_file()
    assert len(names["matrix"]) == 8
    assert names["mask"].sum() == names["row"]["nnz"]


def test_every_relative_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link
