"""Machines of one GPU type in each cloud: which one has so many GPUs and CPUs."""

# By GPUs, then by CPUs: its name. AWS: NVIDIA A10G, 24 GB each; Google: NVIDIA L4, 24 GB each.
FAMILIES: dict[str, dict[int, dict[int, str]]] = {
    "aws": {
        0: {4: "m6i.xlarge", 8: "m6i.2xlarge", 16: "m6i.4xlarge", 32: "m6i.8xlarge",
            64: "m6i.16xlarge", 96: "m6i.24xlarge", 128: "m6i.32xlarge"},
        1: {4: "g5.xlarge", 8: "g5.2xlarge", 16: "g5.4xlarge", 32: "g5.8xlarge",
            64: "g5.16xlarge"},
        4: {48: "g5.12xlarge", 96: "g5.24xlarge"},
        8: {192: "g5.48xlarge"},
    },
    "gcp": {
        0: {4: "n2-standard-4", 8: "n2-standard-8", 16: "n2-standard-16", 32: "n2-standard-32",
            64: "n2-standard-64", 96: "n2-standard-96", 128: "n2-standard-128"},
        1: {4: "g2-standard-4", 8: "g2-standard-8", 12: "g2-standard-12", 16: "g2-standard-16",
            32: "g2-standard-32"},
        2: {24: "g2-standard-24"},
        4: {48: "g2-standard-48"},
        8: {96: "g2-standard-96"},
    },
}  # fmt: skip


def smallest_machine(platform: str, gpus: int, cpus: int) -> tuple[int, str]:
    """The smallest machine with exactly so many GPUs and at least so many CPUs.

    Returns:
        Its CPUs and its name.

    Raises:
        ValueError: there is none; the line names what there is.
    """
    family = FAMILIES[platform]
    if gpus not in family:
        there = ", ".join(str(count) for count in family)
        raise ValueError(
            f"gpus-per-node {gpus}: is not allowed: {platform} has machines of {there}"
        )
    fitting = [have for have in family[gpus] if have >= cpus]
    if not fitting:
        raise ValueError(
            f"cpus-per-node {cpus}: is not allowed: {platform} has at most {max(family[gpus])} "
            f"with {gpus} GPUs"
        )
    return min(fitting), family[gpus][min(fitting)]
