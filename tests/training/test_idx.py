"""IDX files: any spelling is read, any damage is named."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import CorruptFile, InputError
from sweeps.training import dataset_checksum, load_dataset
from sweeps.training.idx import read_idx
from sweeps.training.mnist import FashionMnistSettings, MnistSettings

NAMES = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "t10k-images": "t10k-images-idx3-ubyte",
    "t10k-labels": "t10k-labels-idx1-ubyte",
}


def idx_bytes(array: np.ndarray) -> bytes:
    """The format as its description has it, written independently of the reader."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def some_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train-images": rng.integers(0, 256, (12, 4, 3)),
        "train-labels": rng.integers(0, 10, 12),
        "t10k-images": rng.integers(0, 256, (5, 4, 3)),
        "t10k-labels": rng.integers(0, 10, 5),
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the four files; keywords replace the bytes of one of them."""
    counter = iter(range(10_000))

    def write(spelling: str = "-idx", compressed: bool = False, **replaced: bytes | None) -> Path:
        folder = tmp_path / str(next(counter))
        folder.mkdir()
        for key, array in some_arrays().items():
            content = replaced.get(key.replace("-", "_"), idx_bytes(array))
            name = NAMES[key].replace("-idx", spelling)
            if content is None:
                continue
            if compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
        return folder

    return write


def test_arrays_come_back_scaled_by_the_training_pixels(write: Callable[..., Path]) -> None:
    dataset = load_dataset(MnistSettings(path=str(write())))
    arrays = some_arrays()
    pixels = arrays["train-images"]
    expected = (arrays["t10k-images"] - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(dataset.x_test[:, 0], expected, rtol=1e-5, atol=1e-6)
    assert dataset.x_train.mean() == pytest.approx(0, abs=1e-5)
    assert dataset.x_train.std() == pytest.approx(1, rel=1e-4)
    assert (dataset.y_train == arrays["train-labels"]).all()
    assert dataset.input_shape == (1, 4, 3)


def test_the_checksum_is_of_the_arrays_not_of_the_files(write: Callable[..., Path]) -> None:
    raw = dataset_checksum(MnistSettings(path=str(write())))
    assert len(raw) == 16
    assert dataset_checksum(MnistSettings(path=str(write(spelling=".idx")))) == raw
    assert dataset_checksum(MnistSettings(path=str(write(compressed=True)))) == raw
    assert dataset_checksum(MnistSettings(), str(write(compressed=True, spelling=".idx"))) == raw
    assert dataset_checksum(FashionMnistSettings(path=str(write()))) == raw
    other = some_arrays()["train-images"]
    other[0, 0, 0] ^= 1
    assert dataset_checksum(MnistSettings(path=str(write(train_images=idx_bytes(other))))) != raw


def test_a_file_that_was_replaced_is_read_again(write: Callable[..., Path]) -> None:
    folder = write()
    before = dataset_checksum(MnistSettings(path=str(folder)))
    labels = folder / NAMES["t10k-labels"]
    labels.write_bytes(idx_bytes(np.array([1, 2, 3, 4, 5])))
    assert dataset_checksum(MnistSettings(path=str(folder))) != before


LABELS = some_arrays()["t10k-labels"]


@pytest.mark.parametrize(
    ("replaced", "file", "why"),
    [
        ({"train_images": b""}, "train-images", "cut short: 0 bytes"),
        ({"train_images": b"\x00\x00\x08\x03\x00"}, "train-images", "its header alone takes 16"),
        ({"train_images": idx_bytes(LABELS)}, "train-images", "magic number is 0x00000801"),
        ({"t10k_labels": b"\x00\x00\x0d\x01" + idx_bytes(LABELS)[4:]}, "t10k-labels",
         "magic number is 0x00000d01; an IDX file of unsigned bytes with 1 dimension "
         "starts with 0x00000801"),
        ({"t10k_labels": idx_bytes(LABELS)[:-1]}, "t10k-labels", "holds 12 bytes.* makes it 13"),
        ({"t10k_labels": idx_bytes(LABELS) + b"\x00"}, "t10k-labels", "holds 14 bytes"),
        ({"t10k_labels": idx_bytes(LABELS[:4])}, "t10k-labels", "4 labels for the 5 images"),
        ({"t10k_labels": idx_bytes(np.array([1, 2, 10, 3, 4]))}, "t10k-labels",
         "label 10 at index 2; labels are 0 to 9"),
        ({"t10k_images": idx_bytes(np.zeros((5, 3, 4)))}, "t10k-images", "3 x 4 pixels.* 4 x 3"),
        ({"train_labels": idx_bytes(np.zeros(0)), "train_images": idx_bytes(np.zeros((0, 4, 3)))},
         "train-images", "holds no values: 0 x 4 x 3"),
    ],
)  # fmt: skip
def test_damage_is_named_with_the_file_and_what_was_found(
    write: Callable[..., Path], replaced: dict[str, bytes], file: str, why: str
) -> None:
    with pytest.raises(CorruptFile, match=why) as caught:
        load_dataset(MnistSettings(path=str(write(**replaced))))
    assert NAMES[file] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_a_missing_file_are_wrong_input(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^data\.path: .* no such folder"):
        load_dataset(MnistSettings(path=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="no file t10k-labels-idx1-ubyte"):
        load_dataset(MnistSettings(path=str(write(t10k_labels=None))))


def test_images_without_any_difference_are_wrong_input(write: Callable[..., Path]) -> None:
    folder = write(train_images=idx_bytes(np.full((12, 4, 3), 7)))
    with pytest.raises(InputError, match="all training pixels are equal"):
        load_dataset(MnistSettings(path=str(folder)))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compressed=st.booleans())
def test_any_cut_or_changed_bit_is_an_error_or_changes_only_what_it_says(
    tmp_path: Path, data: st.DataObject, compressed: bool
) -> None:
    array = some_arrays()["train-images"]
    content = idx_bytes(array)
    if compressed:
        content = gzip.compress(content, mtime=0)
    damaged = bytearray(content)
    if data.draw(st.booleans(), label="cut"):
        damaged = damaged[: data.draw(st.integers(0, len(damaged) - 1), label="at")]
    else:
        bit = data.draw(st.integers(0, 8 * len(damaged) - 1), label="bit")
        damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path / ("file.gz" if compressed else "file")
    path.write_bytes(damaged)
    message, got = None, None
    try:
        got = read_idx(path, 3)
    except CorruptFile as error:
        message = str(error)
    if got is None:
        assert message is not None
        assert message.startswith(str(path))
        assert "\n" not in message
    else:
        # Read all the same: then every pixel is right (gzip's header has bits that mean nothing),
        # or the bit was a pixel's own and nothing else is touched.
        assert got.shape == array.shape
        assert np.count_nonzero(got != array) <= (0 if compressed else 1)
