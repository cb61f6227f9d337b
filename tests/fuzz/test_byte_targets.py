"""Whatever bytes an importer, the IDX reader or a condition is given, it reads them or says why."""

import io
import os
import zipfile
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import InputError
from storage.import_formats import read_matrix, read_network
from tests.fuzz.byte_targets import TARGETS, good, mutated

# How many mutations of each kind; a long hunt sets it higher.
EXAMPLES = int(os.environ.get("TOPOSWEEP_FUZZ_EXAMPLES", "60"))


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_are_read(name: str, tmp_path: Path) -> None:
    assert all(TARGETS[name](content, tmp_path) for content in good(name))


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_bytes_are_read_or_refused_in_a_line(name: str, tmp_path: Path) -> None:
    whole = good(name)

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(seed=st.integers(0, 2**32), number=st.integers(0, len(whole) - 1))
    def check(seed: int, number: int) -> None:
        TARGETS[name](mutated(whole[number], Random(seed)), tmp_path)

    check()


@settings(max_examples=150, derandomize=True, deadline=None, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    text=st.lists(
        st.sampled_from(["seed", "flag", "method_name", "nothing", "'set'", "0", "1.5", "None",
        "True",
                         "==", "<", "in", "not", "and", "or", "is", "(", ")", "[", "]", ",", "-",
                         "**",
                         ".", ":", "lambda", "if", "else", "\n", "\\", "#", "{", "}", "'", "\0",
                         "é"]),
        max_size=12,
    )
)  # fmt: skip
def test_any_words_are_a_condition_or_are_refused_in_a_line(
    tmp_path: Path, text: list[str]
) -> None:
    TARGETS["where"](" ".join(text).encode(), tmp_path)


def test_a_member_of_an_npz_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("fc.npy", b"no array at all")
    for read in (read_network, read_matrix):
        with pytest.raises(InputError, match=r"net\.npz: cannot be read: .*fc is no array"):
            read(path)


def test_a_flipped_bit_in_the_weights_of_a_state_dict_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"fc.weight": torch.zeros(40, 50)}, path)
    content = bytearray(path.read_bytes())
    place = content.index(bytes(4000))
    content[place + 2003] ^= 4
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["fc.weight"].count_nonzero() == 1
    with pytest.raises(InputError, match=r"net\.pt: is cut or damaged"):
        read_network(path)


def test_a_state_dict_written_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"fc.weight": torch.eye(3)}, tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    file = io.BytesIO()
    torch.save({"fc.weight": torch.eye(3)}, file, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(file.getvalue())
    for name in ("net.pt", "old.pt"):
        (layer,) = read_network(tmp_path / name)
        assert layer.read().there.sum() == 3
