"""What `toposweep launch` prints, and a study to launch."""

from click.testing import CliRunner

from sweeps.cli import cli

Files = list[tuple[str, str]]  # platform and file

OUTS = {"slurm": "/shared/runs", "kuberay": "s3://bucket/runs", "aws": "s3://bucket/runs",
        "gcp": "gs://bucket/a run"}  # fmt: skip

OWN = """\
# Two quotes " ' and $HOME, `date`, {{ braces }} that no template may touch.
name: My_Study.v2
data: {name: digits, validation: 0.1}
model: {name: mlp, hidden: [8]}
method: {name: set, density: 0.3}
epochs: 2

space: {seed: [0, 1]}
resources: {cpu: 2, gpu: 0.5}
"""


def launched(*words: object) -> str:
    """What the command prints."""
    result = CliRunner().invoke(cli, ["launch", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout
