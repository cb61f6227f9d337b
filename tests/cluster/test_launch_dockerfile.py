"""The Dockerfile, read by Docker's own rules: nothing here can build it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INSTRUCTIONS = {"ARG", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR"}  # Docker has some more


def instructions() -> list[tuple[str, str]]:
    """(instruction, what follows), comments left out and continued lines joined."""
    lines = (ROOT / "cluster" / "launch" / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined if line.strip()]


def test_every_instruction_is_one_of_docker() -> None:
    found = instructions()
    assert found[0][0] == "FROM"
    assert {name for name, _ in found} <= INSTRUCTIONS


def test_python_and_torch_are_the_projects() -> None:
    python = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", instructions()[0][1])
    assert python
    assert PROJECT["project"]["requires-python"] == f">={python[1]}"
    pinned = re.findall(
        r"\S+==\S+", " ".join(rest for name, rest in instructions() if name == "RUN")
    )
    assert pinned
    assert set(pinned) <= set(PROJECT["project"]["dependencies"])


def test_all_that_the_package_is_built_from_is_copied() -> None:
    sources = {source for name, rest in instructions() if name == "COPY"
               for source in rest.split()[:-1]}  # fmt: skip
    assert all((ROOT / source).exists() for source in sources)
    assert sources == {
        "pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"],
        *(package for package in PROJECT["tool"]["setuptools"]["packages"] if "." not in package),
    }  # fmt: skip


def test_extras_that_it_installs_exist() -> None:
    (extras,) = re.findall(r"/opt/toposweep\[([\w,]+)\]", str(instructions()))
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_image_demands_a_token_and_runs_as_nobody_special() -> None:
    found = instructions()
    assert any(name == "ENV" and "RAY_AUTH_MODE=token" in rest for name, rest in found)
    assert [rest for name, rest in found if name == "USER"] == ["ray"]
    assert not any(re.search(r"(TOKEN|PASSWORD|SECRET|KEY)\w*=", rest) for _, rest in found)
