"""The built-in data, and what happens without a network."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.errors import InputError
from sweeps.training import load_dataset
from sweeps.training.data import DATASETS, DigitsSettings
from sweeps.training.split import split_samples
from sweeps.training.streams import Streams


def test_digits_are_split_by_class_and_always_the_same() -> None:
    dataset = load_dataset(DigitsSettings())
    assert len(dataset.y_train) + len(dataset.y_test) == 1797
    everyone = np.bincount(np.concatenate([dataset.y_train, dataset.y_test]))
    for_testing = np.bincount(dataset.y_test)
    assert (for_testing == np.ceil(everyone / 5)).all()
    assert dataset.checksum == "751def3f3c7debe1"


def test_a_data_set_is_loaded_once_a_process() -> None:
    assert load_dataset(DigitsSettings()) is load_dataset(DigitsSettings(validation=0.0))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_without_a_network_one_line_says_where_the_files_belong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPOSWEEP_DATA", str(tmp_path))
    monkeypatch.setattr(DATASETS[name], "mirrors", ["http://127.0.0.1:9/nobody-listens/"])
    with pytest.raises(InputError) as caught:
        load_dataset(DATASETS[name].Settings())
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / name) in message
    assert "train-images-idx3-ubyte.gz" in message
    assert "data.path" in message


def test_files_are_downloaded_into_the_cache_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on this machine stands for the mirrors; one file on it is not what it should be."""
    import gzip
    import hashlib

    served = tmp_path / "served"
    served.mkdir()
    contents = {
        "train-images-idx3-ubyte.gz": bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2])
        + bytes([1, 2, 3, 4]),
        "train-labels-idx1-ubyte.gz": bytes([0, 0, 8, 1, 0, 0, 0, 2, 3, 4]),
        "t10k-images-idx3-ubyte.gz": bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9]),
        "t10k-labels-idx1-ubyte.gz": bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]),
    }
    sums = {}
    for name, content in contents.items():
        compressed = gzip.compress(content)
        (served / name).write_bytes(compressed)
        sums[name] = hashlib.sha256(compressed).hexdigest()
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=served, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        port = server.stdout.readline().split("port ")[1].split()[0]
        monkeypatch.setenv("TOPOSWEEP_DATA", str(tmp_path / "cache"))
        monkeypatch.setattr(DATASETS["mnist"], "sha256", sums)
        mirrors = ["http://127.0.0.1:9/", f"http://127.0.0.1:{port}/"]
        monkeypatch.setattr(DATASETS["mnist"], "mirrors", mirrors)
        dataset = load_dataset(DATASETS["mnist"].Settings())
        assert dataset.y_train.tolist() == [3, 4]
        assert sorted(p.name for p in (tmp_path / "cache" / "mnist").iterdir()) == sorted(sums)

        cached = tmp_path / "cache" / "mnist" / "t10k-labels-idx1-ubyte.gz"
        cached.write_bytes(b"spoiled")
        (served / cached.name).write_bytes(b"spoiled as well")
        with pytest.raises(InputError, match="could not be downloaded"):
            load_dataset(DATASETS["mnist"].Settings())
    finally:
        server.terminate()
        server.wait()


def test_the_split_covers_every_sample_once_and_follows_the_data_seed_alone() -> None:
    split = split_samples(101, 0.2, 10, Streams(topology=5, weights=6, data=7))
    assert len(split.validation) == 20
    assert sorted([*split.train, *split.validation]) == list(range(101))
    again = split_samples(101, 0.2, 10, Streams(topology=0, weights=0, data=7))
    assert (again.validation == split.validation).all()
    other = split_samples(101, 0.2, 10, Streams(topology=5, weights=6, data=8))
    assert (other.validation != split.validation).any()


def test_every_epoch_has_its_own_order_of_the_same_samples() -> None:
    streams = Streams(0, 0, 0)
    split = split_samples(50, 0.0, 10, streams)
    first, second = split.order(streams, 0), split.order(streams, 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert (first != second).any()
    assert (first == split.order(streams, 0)).all()
