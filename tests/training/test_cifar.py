"""CIFAR-10's python batches: read wherever they lie; whatever else a file holds is named."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import CorruptFile, InputError
from sweeps.training import dataset_checksum, load_dataset
from sweeps.training.cifar import ARCHIVE, BATCHES, FOLDER, Cifar10Settings
from sweeps.training.data import dataset_files
from sweeps.training.python_batch import read_batch
from tests.training.python_batches import batch_bytes, cifar_batches, pickled

WriteCifar = Callable[..., Path]


def archived(folder: Path, prefix: str = f"{FOLDER}/", only: list[str] = BATCHES) -> Path:
    """A folder with the archive alone, made of a folder with batches."""
    made = folder.with_name(f"{folder.name}-{len(only)}-archive")
    made.mkdir()
    with tarfile.open(made / ARCHIVE, "w:gz") as archive:
        info = tarfile.TarInfo(f"{prefix}readme.html")
        archive.addfile(info, io.BytesIO())
        for name in only:
            archive.add(folder / name, f"{prefix}{name}")
    return made


def test_images_come_back_channel_by_channel_with_their_labels(cifar: WriteCifar) -> None:
    dataset = load_dataset(Cifar10Settings(path=str(cifar())))
    batches = cifar_batches()
    pixels = np.concatenate([batches[name][0] for name in BATCHES[:5]])
    labels = np.concatenate([batches[name][1] for name in BATCHES[:5]])
    assert dataset.input_shape == (3, 32, 32)
    assert (dataset.y_train == labels).all()
    assert (dataset.y_test == batches["test_batch"][1]).all()
    scaled = (pixels - pixels.mean()) / pixels.std()
    # The green value of pixel (2, 5), for one: 1,024 of a colour, row by row.
    np.testing.assert_allclose(
        dataset.x_train[:, 1, 2, 5], scaled[:, 1024 + 2 * 32 + 5], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(dataset.x_train.reshape(len(labels), -1), scaled, rtol=1e-4,
                               atol=1e-5)  # fmt: skip


def test_a_batch_is_what_pythons_own_unpickler_reads(cifar: WriteCifar) -> None:
    for images, labels in cifar_batches().values():
        content = batch_bytes(images, labels)
        known = pickle.loads(content, encoding="bytes")
        assert (known[b"data"] == images).all()
        got_images, got_labels = read_batch(content)
        assert (got_images == known[b"data"]).all()
        assert got_labels == known[b"labels"] == labels


def test_the_checksum_is_of_the_images_wherever_they_lie(cifar: WriteCifar, tmp_path: Path) -> None:
    folder = cifar()
    expected = dataset_checksum(Cifar10Settings(path=str(folder)))
    above = tmp_path / "above"
    above.mkdir()
    (above / FOLDER).symlink_to(folder)
    assert dataset_checksum(Cifar10Settings(path=str(above))) == expected
    for archive in (archived(folder), archived(cifar(), only=BATCHES[::-1], prefix="")):
        assert dataset_checksum(Cifar10Settings(), str(archive)) == expected
    other = cifar_batches()["data_batch_3"]
    other[0][2, 7] ^= 1
    changed = cifar(data_batch_3=batch_bytes(*other))
    assert dataset_checksum(Cifar10Settings(path=str(changed))) != expected
    augmented = Cifar10Settings(path=str(folder), augment="set", validation=0.3)
    assert dataset_checksum(augmented) == expected


def test_files_are_what_a_node_needs_in_one_folder(cifar: WriteCifar, tmp_path: Path) -> None:
    folder = cifar()
    for source in (folder, archived(folder)):
        files = dataset_files(Cifar10Settings(), str(source))
        assert len(files) in (1, 6)
        there = tmp_path / f"there-{len(files)}"
        there.mkdir()
        for file in files:
            (there / file.name).write_bytes(file.read_bytes())
        copied = dataset_checksum(Cifar10Settings(path=str(there)))
        assert copied == dataset_checksum(Cifar10Settings(path=str(folder)))


def test_missing_files_are_wrong_input(
    cifar: WriteCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"^data\.path: .* no such folder"):
        load_dataset(Cifar10Settings(path=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match=r"^data\.path: .* holds neither data_batch_1"):
        load_dataset(Cifar10Settings(path=str(cifar(data_batch_4=None))))
    from sweeps.training.cifar import Cifar10

    monkeypatch.setenv("TOPOSWEEP_DATA", str(tmp_path))
    monkeypatch.setattr(Cifar10, "mirrors", ["http://127.0.0.1:9/nobody-listens/"])
    with pytest.raises(InputError, match=f"could not be downloaded.*put {ARCHIVE} there"):
        load_dataset(Cifar10Settings())


IMAGES, LABELS = cifar_batches()["data_batch_2"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no python batch of CIFAR-10: "),
        (b"no pickle at all", "no python batch of CIFAR-10: "),
        (batch_bytes(IMAGES, LABELS)[:-1], "no python batch of CIFAR-10: "),
        (batch_bytes(IMAGES, LABELS)[:2000], "no python batch of CIFAR-10: "),
        (b"\x80\x02K\x01.", "holds no dictionary"),
        (pickled({"labels": LABELS}), "holds no data"),
        (pickled({"data": IMAGES}), "holds no labels"),
        (pickled({"labels": b"12", "data": IMAGES}), "its labels are no list of numbers"),
        (pickled({"labels": LABELS, "data": [1, 2]}), "its data is no array of bytes"),
        (batch_bytes(IMAGES.ravel(), LABELS), "its data is no array of bytes"),
        (batch_bytes(IMAGES.astype(">i2"), LABELS), "its data is no array of bytes"),
        (batch_bytes(IMAGES[:, :-3], LABELS), "its images have 3069 values; 3,072 are needed"),
        (batch_bytes(IMAGES, LABELS[:-1]), "holds 10 labels for 11 images"),
        (batch_bytes(IMAGES, [*LABELS[:-1], 10]), "label 10 at index 10; labels are 0 to 9"),
        (batch_bytes(IMAGES, [-1, *LABELS[1:]]), "label -1 at index 0"),
        (pickle.dumps({b"data": IMAGES, b"labels": LABELS}), "which no such file does"),
        (batch_bytes(IMAGES, LABELS).replace(b"numpy\nndarray", b"numpy\nmatrices"),
         "asks for 'numpy matrices', which no such file does"),
    ],
)  # fmt: skip
def test_damage_is_named_with_the_file_and_what_was_found(
    cifar: WriteCifar, content: bytes, why: str
) -> None:
    folder = cifar(data_batch_2=content)
    with pytest.raises(CorruptFile) as caught:
        load_dataset(Cifar10Settings(path=str(folder)))
    assert str(folder / "data_batch_2") in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(CorruptFile) as caught:
        load_dataset(Cifar10Settings(path=str(archived(folder))))
    assert f"{ARCHIVE}: data_batch_2" in str(caught.value)
    assert why in str(caught.value)


def test_a_damaged_archive_is_named(cifar: WriteCifar) -> None:
    folder = cifar()
    made = archived(folder)
    whole = (made / ARCHIVE).read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    for content in (b"", b"no archive", whole[: len(whole) // 2], bytes(damaged)):
        (made / ARCHIVE).write_bytes(content)
        with pytest.raises(CorruptFile, match="cannot be read"):
            load_dataset(Cifar10Settings(path=str(made)))
    short = archived(folder, only=BATCHES[:-1])
    with pytest.raises(CorruptFile, match=f"holds no {FOLDER}/test_batch"):
        load_dataset(Cifar10Settings(path=str(short)))


class Runs:
    """Its pickle calls a function."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_is_a_program_runs_nothing(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    content = pickle.dumps({b"labels": [1], b"data": Runs(marker)}, protocol=protocol)
    with pytest.raises(ValueError, match="which no such file does"):
        read_batch(content)
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists()  # so it would have


@settings(max_examples=300, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_mutated_bytes_are_read_or_refused_and_run_nothing(data: st.DataObject) -> None:
    images = IMAGES[:3, :8]
    content = bytearray(batch_bytes(images, LABELS[:3]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        end = place + data.draw(st.integers(0, 3))
        content[place:end] = data.draw(st.binary(max_size=6))
    try:
        got, labels = read_batch(bytes(content))
    except ValueError:
        return
    assert got.dtype == np.uint8
    assert got.ndim == 2
    assert got.size <= len(content)
    assert all(type(label) is int for label in labels)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([
                b"}", b"]", b"(", b")", b"t", b"e", b"a", b"u", b"s", b"R", b"b", b"N", b"\x88",
                b"\x85", b"\x86", b"\x87", b"q\x01", b"h\x01", b"r\xff\xff\xff\xff", b"K\x03",
                b"j\xff\xff\xff\xff", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"U\x02u1", b"0",
                b"cos\nsystem\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"\x81", b"o", b"2",
                b"(ios\nsystem\n", b"\x82\x01", b"P1\n", b"Q", b"X\x01\x00\x00\x00a", b"I1\n",
                b"L" + b"9" * 5000 + b"L\n", b"\x8b\xff\xff\xff\x7f", b"T\xff\xff\xff\x7f",
            ]),
            st.binary(max_size=3),
        ),
        max_size=25,
    )
)  # fmt: skip
def test_any_program_ends_with_a_value_or_a_refusal(parts: list[bytes]) -> None:
    with suppress(ValueError):
        read_batch(b"\x80\x02" + b"".join(parts) + b".")
