"""Launch files to look at."""

from pathlib import Path

import pytest

from sweeps.launch_command import PLATFORMS
from tests.cluster.launched import OUTS, OWN, Files, launched


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one's own, in a folder with a blank in its name."""
    path = tmp_path_factory.mktemp("my studies") / "own.yaml"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="session")
def files(own: Path) -> Files:
    """(platform, file) for a built-in study and one's own, small and large, GPUs and none."""
    made = []
    sizes = (("quickstart", 1, 0), ("quickstart", 3, 1), (own, 2, 1), (own, 8, 4))
    for platform in PLATFORMS:
        for study, nodes, gpus in sizes:
            words = (platform, study, "--nodes", nodes, "--gpus-per-node", gpus)
            made.append((platform, launched(*words, "--out", OUTS[platform])))
            if platform == "kuberay":
                made.append((platform, launched(*words, "--out", OUTS[platform], "--stay")))
    return made
