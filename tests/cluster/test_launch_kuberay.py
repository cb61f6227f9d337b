"""Files for KubeRay: the documented structure, names, and the study in its ConfigMap."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from sweeps.launch_command import PLATFORMS
from sweeps.study_file import load_study
from tests.cluster.launched import OWN, Files, launched

LABEL = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
CLUSTER_KEYS = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
JOB_KEYS = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
            "rayClusterSpec"}  # fmt: skip
GROUP_KEYS = {"rayStartParams", "template"}
WORKER_KEYS = GROUP_KEYS | {"groupName", "replicas", "minReplicas", "maxReplicas"}
POD_KEYS = {"serviceAccountName", "terminationGracePeriodSeconds", "containers", "volumes"}
WORKER_POD_KEYS = POD_KEYS | {"nodeSelector", "tolerations"}
CONTAINER_KEYS = {"name", "image", "env", "envFrom", "volumeMounts", "resources", "lifecycle"}


def documents(text: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The ConfigMap, the Ray object and its cluster's specification."""
    config, ray = yaml.safe_load_all(text)
    return config, ray, ray["spec"].get("rayClusterSpec", ray["spec"])


def test_kuberay_files_have_the_documented_structure(files: Files) -> None:
    kinds = set()
    for platform, text in files:
        if platform != "kuberay":
            continue
        config, ray, cluster = documents(text)
        assert (config["apiVersion"], config["kind"]) == ("v1", "ConfigMap")
        assert ray["apiVersion"] == "ray.io/v1"
        kinds.add(ray["kind"])
        assert set(ray["spec"]) == (JOB_KEYS if ray["kind"] == "RayJob" else CLUSTER_KEYS)
        assert set(cluster) == CLUSTER_KEYS
        assert cluster["authOptions"] == {"mode": "token"}
        head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
        assert set(head) == GROUP_KEYS
        assert set(workers) == WORKER_KEYS
        assert head["rayStartParams"] == {"num-cpus": "0"}  # text, as KubeRay wants it
        assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] >= 1
        for group, keys in ((head, POD_KEYS), (workers, WORKER_POD_KEYS)):
            check_pod(group["template"]["spec"], keys, config["metadata"]["name"])
    assert kinds == {"RayJob", "RayCluster"}


def check_pod(pod: dict[str, Any], keys: set[str], config: str) -> None:
    assert set(pod) <= keys
    assert pod["terminationGracePeriodSeconds"] >= 30
    (container,) = pod["containers"]
    assert set(container) == CONTAINER_KEYS
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["RAY_AUTH_MODE"] == "token"
    assert all(isinstance(value, str) for value in environment.values())
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    assert pod["volumes"][0]["configMap"]["name"] == config
    assert set(container["resources"]) == {"requests", "limits"}
    assert container["lifecycle"]["preStop"]["exec"]["command"]


def test_every_name_is_one_that_kubernetes_takes(files: Files) -> None:
    for platform, text in files:
        if platform == "kuberay":
            for document in yaml.safe_load_all(text):
                assert re.fullmatch(LABEL, document["metadata"]["name"])


def test_the_config_map_brings_the_study_as_it_is(own: Path, tmp_path: Path) -> None:
    words = ("kuberay", own, "--nodes", 2, "--gpus-per-node", 1, "--out", "s3://bucket/a run")
    config, _, cluster = documents(launched(*words))
    assert config["data"]["study.yaml"] == OWN
    there = tmp_path / "study.yaml"
    there.write_text(config["data"]["study.yaml"])
    assert load_study(there) == load_study(own)
    mount = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]
    assert (
        f"toposweep run {mount['mountPath']}/study.yaml --out 's3://bucket/a run'"
        in (config["data"]["run.sh"])
    )
    subprocess.run(["bash", "-n", "-c", config["data"]["run.sh"]], check=True)


def test_a_study_that_begins_with_blanks_keeps_them(tmp_path: Path) -> None:
    study = tmp_path / "indented.yaml"
    study.write_text("".join(f"  {line}\n" for line in OWN.splitlines()))
    words = ("kuberay", study, "--nodes", 2, "--gpus-per-node", 1, "--out", "s3://bucket/x")
    config, _, _ = documents(launched(*words))
    assert yaml.safe_load(config["data"]["study.yaml"]) == yaml.safe_load(study.read_text())


def test_a_study_with_its_own_server_is_not_given_another(tmp_path: Path, own: Path) -> None:
    tracked = tmp_path / "tracked.yaml"
    tracked.write_text(OWN + "tracking: {uri: 'https://mlflow.example'}\n")
    for platform in PLATFORMS:
        words = ("--nodes", 2, "--gpus-per-node", 1, "--out", "s3://bucket/x")
        assert "--tracking-uri" not in launched(platform, tracked, *words)
        assert "--tracking-uri" in launched(platform, own, *words)
