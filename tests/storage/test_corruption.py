import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import append, keys, layers_of, manifest_path, masks_of, trial

from storage import CorruptFile, LayerMask, MaskStore, MetricStore
from storage.attempts import claim_attempt


@pytest.fixture
def store(tmp_path):
    store = MaskStore(tmp_path)
    for number in (1, 2):
        for step in (0, 10):
            append(store, trial(number), step)
    return store


def staged(store, number, step):
    return store.out / "masks" / "staging" / trial(number) / f"{step:08d}-a1.parquet"


def only_part(store):
    (part,) = (store.out / "masks" / "compact").glob("[!.]*")
    return part


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
    "no parquet": lambda path: path.write_bytes(b"PAR1 but nothing else PAR1"),
}
damages = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())


@damages
def test_a_damaged_staged_file_is_named_by_everyone_who_needs_it(store, damage):
    path = staged(store, 1, 10)
    damage(path)
    (problem,) = store.verify()
    assert problem.path == str(path)
    with pytest.raises(CorruptFile) as error:
        store.load(trial(1), 10)
    assert error.value.path == str(path)
    assert set(store.load(trial(2), 10)) == set(masks_of(trial(2), 10))
    assert set(store.load(trial(1), 0)) == set(masks_of(trial(1), 0))


@damages
def test_compaction_leaves_a_damaged_staged_file_and_goes_on(store, damage):
    path = staged(store, 1, 10)
    damage(path)
    content = path.read_bytes()
    result = store.compact()
    assert [problem.path for problem in result.corrupt] == [str(path)]
    assert result.rows == 9
    assert path.read_bytes() == content
    assert [problem.path for problem in store.verify()] == [str(path)]
    with pytest.raises(CorruptFile):
        store.load(trial(1), 10)
    assert set(store.load(trial(1), 0)) == set(masks_of(trial(1), 0))
    append(store, trial(1), 20)
    assert store.compact().rows == 12  # again and again: it never counts as compacted
    assert path.read_bytes() == content


@damages
def test_a_damaged_part_is_named_and_kept_while_the_others_go_on(store, monkeypatch, damage):
    monkeypatch.setattr("storage.parts.PART_ROW_GROUPS", 1)
    store.compact()
    manifest = json.loads(manifest_path(store.out / "masks").read_text())
    names = {p["row_groups"][0]["trial_id"]: p["file"] for p in manifest["parts"]}
    path = store.out / "masks" / "compact" / names[trial(1)]
    damage(path)
    content = path.read_bytes()
    assert [problem.path for problem in store.verify()] == [str(path)]
    with pytest.raises(CorruptFile) as error:
        store.load(trial(1), 10)
    assert error.value.path == str(path)
    assert set(store.load(trial(2), 10)) == set(masks_of(trial(2), 10))

    append(store, trial(1), 20)
    append(store, trial(2), 20)
    result = store.compact()
    assert [problem.path for problem in result.corrupt] == [str(path)]
    assert path.read_bytes() == content
    assert set(store.load(trial(2), 20)) == set(masks_of(trial(2), 20))
    with pytest.raises(CorruptFile):
        list(store.iter())
    assert [problem.path for problem in store.verify()] == [str(path)]


def test_the_rows_of_a_new_attempt_are_kept_beside_a_damaged_part(store):
    """What becomes of the part is for people to decide."""
    store.compact()
    flip(only_part(store), 100)
    claim_attempt(store.out, trial(1), -1)
    claim_attempt(store.out, trial(1), -1)
    for step in (0, 10):
        append(store, trial(1), step, attempt=2)
    assert len(store.compact().corrupt) == 1
    assert (store.out / "masks" / "staging" / trial(1)).exists() is False
    assert len(list((store.out / "masks" / "compact").iterdir())) == 2


def test_a_missing_part_is_named(store):
    store.compact()
    path = only_part(store)
    path.unlink()
    with pytest.raises(CorruptFile, match="is missing, but the manifest names it"):
        store.index()
    assert [problem.path for problem in store.verify()] == [str(path)]
    append(store, trial(1), 20)
    assert [problem.path for problem in store.compact().corrupt] == [str(path)]


def test_a_link_to_nothing_is_named(store):
    path = staged(store, 1, 10)
    path.unlink()
    path.symlink_to("nowhere.parquet")
    with pytest.raises(CorruptFile, match="is a link to a file that is not there"):
        store.index()
    assert [problem.path for problem in store.verify()] == [str(path)]
    assert [problem.path for problem in store.compact().corrupt] == [str(path)]


def test_a_file_under_another_ones_name_is_named(store):
    shutil.copy(staged(store, 1, 0), staged(store, 1, 20))
    shutil.copy(staged(store, 1, 0), staged(store, 2, 0))
    assert {problem.path for problem in store.verify()} == {
        str(staged(store, 1, 20)),
        str(staged(store, 2, 0)),
    }
    with pytest.raises(CorruptFile, match="not of the step in its name"):
        store.load(trial(1), 20)
    with pytest.raises(CorruptFile, match="not of the trial and attempt in its name"):
        store.load(trial(2), 0)


def test_two_parts_under_each_others_name_are_named(store, monkeypatch):
    monkeypatch.setattr("storage.parts.PART_ROW_GROUPS", 1)
    store.compact()
    one, other = sorted((store.out / "masks" / "compact").iterdir())
    spare = one.with_name("spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    assert {problem.path for problem in store.verify()} == {str(one), str(other)}
    with pytest.raises(CorruptFile):
        store.load(trial(1), 0)


def test_files_that_no_reader_would_take_are_named(store):
    wrong = [
        store.out / "masks" / "staging" / trial(1) / "10-a1.parquet",
        store.out / "masks" / "staging" / "elsewhere" / "00000010-a1.parquet",
        store.out / "masks" / "compact" / "part-1.parquet",
    ]
    for path in wrong:
        path.parent.mkdir(exist_ok=True)
        shutil.copy(staged(store, 1, 0), path)
    assert {problem.path for problem in store.verify()} == set(map(str, wrong))
    assert len(keys(store)) == 4


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"schema_version": 2, "parts": []}', '{"schema_version": 1, "parts": [1]}',
     '{"schema_version": 1, "parts": [{"file": "../../../etc/passwd", "bytes": 1, "crc32": 1, '
     '"rows": 0, "row_groups": []}]}'],
)  # fmt: skip
def test_a_damaged_manifest_is_named_and_nothing_is_touched(store, content):
    store.compact()
    part = only_part(store).read_bytes()
    append(store, trial(1), 20)
    path = manifest_path(store.out / "masks")
    path.write_text(content)
    for read in (store.index, lambda: store.load(trial(1), 20), lambda: list(store.iter())):
        with pytest.raises(CorruptFile) as error:
            read()
        assert error.value.path == str(path)
    assert [problem.path for problem in store.verify()] == [str(path)]
    assert [problem.path for problem in store.compact().corrupt] == [str(path)]
    assert only_part(store).read_bytes() == part
    assert path.read_text() == content
    assert staged(store, 1, 20).exists()


def test_a_damaged_claim_keeps_its_trial_as_it_is_while_the_others_go_on(store):
    for number in (1, 1, 2):
        claim_attempt(store.out, trial(number), -1)
    claim = store.out / "attempts" / trial(1) / "2.json"
    claim.write_text("{")
    with pytest.raises(CorruptFile) as error:
        store.index()
    assert error.value.path == str(claim)
    result = store.compact()
    assert [problem.path for problem in result.corrupt] == [str(claim)]
    assert result.rows == 6
    assert staged(store, 1, 0).exists()
    assert not staged(store, 2, 0).exists()
    assert set(store.load(trial(2), 0)) == set(masks_of(trial(2), 0))


def test_a_damaged_metrics_file_is_named(tmp_path):
    metrics = MetricStore(tmp_path)
    good = metrics.append(trial(1), "tiny", 1, [{"step": 1, "epoch": 1, "loss": 0.5}])
    bad = metrics.append(trial(2), "tiny", 1, [{"step": 1, "epoch": 1, "loss": 0.5}])
    cut(bad)
    with pytest.raises(CorruptFile) as error:
        metrics.load()
    assert error.value.path == str(bad)
    assert len(metrics.load([trial(1)])) == 1
    result = metrics.compact()
    assert [problem.path for problem in result.corrupt] == [str(bad)]
    assert bad.exists()
    assert not good.exists()
    with pytest.raises(CorruptFile):
        metrics.load()


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    """A staged file, to be damaged in copies."""
    store = MaskStore(tmp_path_factory.mktemp("out"))
    return append(store, trial(1), 10).read_bytes()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_flipped_bit_or_a_cut_anywhere_is_an_error_or_the_right_masks(
    tmp_path_factory, whole_file, data
):
    store = MaskStore(tmp_path_factory.getbasetemp() / "flipped")
    path = staged(store, 1, 10)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytearray(whole_file)
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content = content[:position]
    path.write_bytes(content)
    problem = None
    try:
        masks = store.load(trial(1), 10)
        index = store.index()
    except CorruptFile as error:
        problem = error
    if problem is not None:
        assert problem.path == str(path)
        return
    right = layers_of(trial(1), 10)
    assert [*masks] == [layer.name for layer in right]
    for layer in right:
        assert (masks[layer.name].toarray() == layer.mask).all()
    assert index.in_group.tolist() == [layer.in_group for layer in right]
    assert index.role.tolist() == [layer.role for layer in right]


def test_layers_that_are_missing_are_noticed(tmp_path):
    store = MaskStore(tmp_path)
    path = append(store, trial(1), 0)
    from storage.staged import StagedTable

    table: StagedTable = store._table
    rows = table.read(None)
    table.commit(
        path, rows.filter([True, False, True]).replace_schema_metadata(rows.schema.metadata)
    )
    assert "layers are missing or doubled" in str(store.verify()[0])
    assert isinstance(layers_of(trial(1), 0)[0], LayerMask)
