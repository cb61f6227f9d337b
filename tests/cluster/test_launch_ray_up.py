"""Files for `ray up`: Ray's own schema, Amazon's model of machines, and what travels with them."""

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.machines import FAMILIES, smallest_machine
from tests.cluster.launched import OUTS, Files, launched


def prepared(text: str) -> dict[str, Any]:
    """The file as Ray's launcher reads it, checked by Ray's schema."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(text))
    validate_config(config)
    return dict(config)


@pytest.mark.parametrize("platform", ["aws", "gcp"])
def test_rays_own_schema_accepts_the_cluster_file(files: Files, platform: str) -> None:
    for name, text in files:
        if name == platform:
            config = prepared(text)
            head, workers = config["available_node_types"].values()
            assert head["resources"] == {"CPU": 0}
            assert workers["min_workers"] == workers["max_workers"] == config["max_workers"]
            assert "/home/ray/.ray/auth_token" in config["file_mounts"]
            assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
            # Nothing of the defaults is left, which install another Ray and open the dashboard.
            assert config["setup_commands"] == []
            commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
            assert not any("dashboard-host" in command for command in commands)


def test_rays_schema_would_find_a_mistyped_key() -> None:
    import jsonschema

    text = launched("aws", "quickstart", "--nodes", 1, "--gpus-per-node", 0, "--out", "s3://b/x")
    with pytest.raises(jsonschema.ValidationError):
        prepared(text.replace("head_node_type:", "head_node_typo:"))


def test_the_study_travels_and_the_command_names_it(own: Path) -> None:
    for platform in ("aws", "gcp"):
        words = (platform, own, "--nodes", 2, "--gpus-per-node", 1, "--out", OUTS[platform])
        text = launched(*words)
        assert yaml.safe_load(text)["file_mounts"]["/home/ray/toposweep/study.yaml"] == str(own)
        (line,) = [line for line in text.splitlines() if "ray job submit" in line]
        assert "/home/ray/toposweep/study.yaml" in line
        done = subprocess.run(["bash", "-n", "-c", line.removeprefix("#")], check=False)
        assert done.returncode == 0


def test_amazons_model_accepts_the_machines(files: Files) -> None:
    loaders = pytest.importorskip("botocore.loaders", reason="boto3 is not installed")
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    model = ServiceModel(loaders.Loader().load_service_model("ec2", "service-2"))
    shape = model.operation_model("RunInstances").input_shape
    known = set(model.shape_for("InstanceType").enum)
    assert {name for family in FAMILIES["aws"].values() for name in family.values()} <= known
    for platform, text in files:
        if platform == "aws":
            for node in yaml.safe_load(text)["available_node_types"].values():
                machine = {**copy.deepcopy(node["node_config"]), "MinCount": 1, "MaxCount": 1}
                report = ParamValidator().validate(machine, shape)
                assert not report.has_errors(), report.generate_report()
                market = machine.get("InstanceMarketOptions", {}).get("MarketType", "spot")
                assert market in model.shape_for("MarketType").enum


def test_google_gets_spot_workers_with_the_gpus_that_were_asked_for() -> None:
    words = ("gcp", "quickstart", "--nodes", 2, "--gpus-per-node", 2, "--out", "gs://b/x")
    workers = yaml.safe_load(launched(*words))["available_node_types"]["workers"]
    assert workers["resources"] == {"CPU": 24, "GPU": 2}
    assert workers["node_config"]["machineType"] == "g2-standard-24"
    assert workers["node_config"]["scheduling"]["provisioningModel"] == "SPOT"


def test_the_smallest_machine_that_fits_is_taken() -> None:
    assert smallest_machine("aws", 1, 5) == (8, "g5.2xlarge")
    assert smallest_machine("aws", 0, 1) == (4, "m6i.xlarge")
    assert smallest_machine("gcp", 8, 96) == (96, "g2-standard-96")
