"""What a cluster offers against what is asked for, its versions, and questions to its nodes."""

import time
from pathlib import Path

import pytest

from cluster import Cluster, Node, ask_nodes, live_nodes
from cluster.autoscaler import Autoscaler, find_autoscaler
from cluster.probe import sources
from cluster.versions import RULES, check_versions, differing

SMALL = Node("a" * 56, "10.0.0.1", {"CPU": 4.0})
GPU = Node("b" * 56, "10.0.0.2", {"CPU": 8.0, "GPU": 2.0})


def test_how_much_runs_at_once_is_counted_node_by_node() -> None:
    cluster = Cluster("10.0.0.1:6379", (SMALL, GPU))
    assert cluster.at_once({"CPU": 3}) == 1 + 2
    assert cluster.at_once({"CPU": 1, "GPU": 0.5}) == 4
    assert cluster.at_once({"CPU": 0.1}) == 120
    assert cluster.at_once({"CPU": 9}) == 0
    assert cluster.describe() == "10.0.0.1:6379: 2 nodes, 12 CPU, 2 GPU"
    assert cluster.describe_demand({"CPU": 3}, 2) == "2 trials of 3 CPU, 2 at once"


def test_what_fits_no_node_is_refused_with_the_most_that_there_is() -> None:
    cluster = Cluster("10.0.0.1:6379", (SMALL, GPU))
    cluster.check_fits({"CPU": 8, "GPU": 2})
    with pytest.raises(ValueError, match=r"9 CPU is not allowed.*the most of each: 8 CPU"):
        cluster.check_fits({"CPU": 9})  # together they have twelve


def test_a_node_that_the_autoscaler_can_start_counts() -> None:
    large = {"CPU": 64.0, "GPU": 8.0}
    known = Cluster("10.0.0.1:6379", (SMALL,), Autoscaler((large,), at_work=True))
    known.check_fits({"CPU": 1, "GPU": 8})
    assert "none before the autoscaler" in known.describe_demand({"CPU": 1, "GPU": 8}, 3)
    with pytest.raises(ValueError, match="live or to be started"):
        known.check_fits({"CPU": 1, "GPU": 9})
    Cluster("10.0.0.1:6379", (SMALL,), Autoscaler(at_work=True)).check_fits({"GPU": 9})


@pytest.mark.usefixtures("ray_here")
def test_the_types_of_node_in_the_file_of_ray_up_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_autoscaler(live_nodes()) == Autoscaler()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ray_bootstrap_config.yaml").write_text(
        "available_node_types:\n"
        "  head: {resources: {CPU: 2}, max_workers: 0}\n"
        "  spot: {resources: {CPU: 8, GPU: 1}, max_workers: 10, node_config: {}}\n"
    )
    found = find_autoscaler(live_nodes())
    assert found == Autoscaler(({"CPU": 8.0, "GPU": 1.0},), at_work=True)


def test_versions_differ_where_results_could() -> None:
    here = dict.fromkeys(RULES, "2.13.1") | {"torch": "2.13.0+cpu", "ray": "2.60.0"}
    assert differing(here, here) == []
    assert differing(here, here | {"torch": "2.13.2+cu128", "pyarrow": "2.9.0"}) == []
    assert differing(here, here | {"torch": "2.12.0"}) == ["torch 2.12.0 (here: 2.13.0+cpu)"]
    assert differing(here, here | {"ray": "2.60.1"}) == ["ray 2.60.1 (here: 2.60.0)"]
    assert differing(here, here | {"numba": None}) == ["no numba (here: 2.13.1)"]
    assert differing(here, here | {"python": "2.12.4"}) == ["python 2.12.4 (here: 2.13.1)"]


def test_a_changed_file_of_data_or_code_changes_the_digest_and_a_cache_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "probed_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    before, place = sources(["probed_package"])
    assert place == str(package)
    (package / "cache.nbi").write_bytes(b"kernel")
    assert sources(["probed_package"])[0] == before
    (package / "study.yaml").write_text("name: x")
    assert sources(["probed_package"])[0] != before
    assert sources(["no_such_package"]) == ("", "")


@pytest.mark.usefixtures("ray_here")
def test_a_node_answers_or_is_named() -> None:
    nodes = live_nodes()
    check_versions(nodes)
    assert ask_nodes(nodes, lambda: 2**10) == {nodes[0]: 1024}
    with pytest.raises(ValueError, match=rf"node {nodes[0].host} .* did not answer within 1 s"):
        ask_nodes(nodes, lambda: time.sleep(60), seconds=1)
    with pytest.raises(ValueError, match=rf"node {nodes[0].host} .*ZeroDivisionError"):
        ask_nodes(nodes, lambda: 1 // 0)
    gone = Node("e" * 56, "10.0.0.9", {"CPU": 1.0})
    assert ask_nodes([*nodes, gone], lambda: 2) == {nodes[0]: 2}
