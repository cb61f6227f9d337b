"""Whatever becomes of a file in OUT, whoever reads it says so in a line, or is right."""

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from storage import CorruptFile, MetricStore, Run
from storage.footers import FOOTER_KEY
from storage.sealed_json import Unsealed, from_json, to_json
from sweeps.training import load_model
from tests.fuzz.damaged_files import Fuzzer
from tests.fuzz.small_run import files_of, verified

# How many files to damage; a long hunt sets it higher.
EXAMPLES = int(os.environ.get("TOPOSWEEP_FUZZ_EXAMPLES", "16"))


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def out(fuzzer: Fuzzer, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fuzzer.whole, tmp_path / "out"))


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_file_is_named_or_does_no_harm(fuzzer: Fuzzer, part: int) -> None:
    said = []
    for number in range(part, EXAMPLES, 4):
        _, ends = fuzzer.check(f"suite-{number}")
        said += [end for end in ends.values() if end != "right"]
    assert said


def test_a_flipped_bit_in_a_footer_is_noticed_before_a_column_has_another_name(
    tmp_path: Path,
) -> None:
    metrics = MetricStore(tmp_path)
    path = metrics.append("0" * 12, "tiny", 1, [{"step": 1, "epoch": 1, "loss": 0.5}])
    assert path is not None
    content = Path(str(path)).read_bytes()
    place = content.rindex(b"loss")
    Path(str(path)).write_bytes(content[:place] + b"m" + content[place + 1 :])
    with pytest.raises(CorruptFile, match="its footer does not have the checksum"):
        metrics.load()
    assert [problem.path for problem in metrics.verify()] == [str(path)]


def test_files_from_before_there_were_checksums_of_footers_are_read(out: Path) -> None:
    before = Run.open(out).masks.index(with_config=False)
    for path in out.glob("masks/staging/*/*.parquet"):
        with pq.ParquetFile(path) as file:
            table, metadata = file.read(), dict(file.metadata.metadata)
        assert metadata.pop(FOOTER_KEY.encode())
        with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
            writer.add_key_value_metadata(metadata)
            writer.write_table(table)
    assert Run.open(out).masks.index(with_config=False).equals(before)


def test_a_mapping_says_when_it_is_not_what_was_written() -> None:
    value = {"step": 10, "nested": {"é": [0.1, None, -1e-300]}, "10": True}
    content = to_json(value)
    assert from_json(content) == value
    assert from_json(to_json(json.loads(content))) == value  # read and written by others
    for digit in (b"10", b"0.1", b"300"):
        with pytest.raises(Unsealed):
            from_json(content.replace(digit, b"9" + digit[1:], 1))
    by_hand = json.loads(content)
    del by_hand["crc32"]
    assert from_json(json.dumps({**by_hand, "step": 11}).encode()) == {**value, "step": 11}
    with pytest.raises(ValueError, match="given twice"):
        from_json(b'{"a": 1, "a": 2}')


@pytest.mark.parametrize("kind", ["record", "claim", "run", "spec", "mask manifest"])
def test_another_digit_in_a_json_file_is_noticed(out: Path, kind: str) -> None:
    path = files_of(out)[kind][0]
    content = path.read_text()
    digit = next(k for k, sign in enumerate(content) if sign.isdigit())
    path.write_text(content[:digit] + str(9 - int(content[digit])) + content[digit + 1 :])
    if kind == "run":
        with pytest.raises(CorruptFile, match=r"run\.json: does not have the checksum"):
            Run.open(out)
    else:
        assert [line for line in verified(out) if str(path) in line]


def test_masks_behind_a_file_in_the_place_of_a_folder_are_not_passed_over(out: Path) -> None:
    staged = files_of(out)["staged masks"][0]
    (out / "aside").mkdir()
    staged.rename(out / "aside" / "file")
    staged.mkdir()
    with pytest.raises(CorruptFile, match=staged.name):
        Run.open(out).masks.index()
    shutil.rmtree(staged.parent)
    staged.parent.write_text("")
    with pytest.raises(CorruptFile, match="is a file, not a trial's folder"):
        Run.open(out).masks.index()


def test_weights_with_a_flipped_bit_or_of_another_trial_are_refused(out: Path) -> None:
    first, second = files_of(out)["weights"][:2]
    whole = first.read_bytes()
    assert load_model(first) is not None
    changed = bytearray(whole)
    changed[-1] ^= 1
    first.write_bytes(changed)
    for name in (first, out / "moved.safetensors"):
        name.write_bytes(changed)
        with pytest.raises(CorruptFile, match="does not have the checksum"):
            load_model(name)
    shutil.copy(second, first)
    with pytest.raises(CorruptFile, match="weights of another trial"):
        load_model(first)
    assert any(str(first) in line for line in verified(out))
