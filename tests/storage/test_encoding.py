import tracemalloc
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from storage import InputError, decode_mask
from storage.encoding import decode_csr, encode_mask

shapes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@st.composite
def masks(draw):
    """Masks of every density, the empty and the full among them."""
    shape = draw(shapes)
    density = draw(st.sampled_from([0.0, 0.02, 0.09, 0.1, 0.11, 0.5, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 2**32))).random(shape) < density


@settings(deadline=None)
@given(masks())
def test_a_mask_comes_back_from_its_row(mask):
    row = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(row), mask)
    sparse = decode_csr(row)
    assert sparse.dtype == np.bool_
    assert sparse.has_canonical_format
    np.testing.assert_array_equal(sparse.toarray(), mask)


@settings(deadline=None)
@given(masks())
def test_the_columns_say_what_the_design_says(mask):
    """Against plain loops over the connections."""
    row = encode_mask(mask)
    flat = [bool(value) for neuron in mask for value in neuron]
    bits = bytearray(-(-len(flat) // 8))
    for position, connected in enumerate(flat):
        bits[position // 8] |= connected << (position % 8)
    assert row["crc32"] == zlib.crc32(bytes(bits))
    assert (row["n_out"], row["n_in"], row["nnz"]) == (*mask.shape, sum(flat))
    if all(flat):
        assert (row["encoding"], row["gap"], row["bits"]) == ("full", None, None)
    elif sum(flat) < 0.1 * len(flat):
        assert (row["encoding"], row["bits"]) == ("gap", None)
        before, gaps = -1, []
        for position, connected in enumerate(flat):
            if connected:
                gaps.append(position - before)
                before = position
        assert row["gap"].dtype == np.int32
        assert row["gap"].tolist() == gaps
    else:
        assert (row["encoding"], row["gap"], row["bits"]) == ("bits", None, bytes(bits))


@settings(deadline=None)
@given(masks(), st.integers(1, 5))
def test_a_sparse_mask_has_the_row_of_the_dense_one_whatever_is_made_at_a_time(mask, chunk):
    expected = encode_mask(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.encoding._CHUNK", 8 * chunk)
        row = encode_mask(csr_array(mask))
        np.testing.assert_array_equal(decode_csr(row).toarray(), mask)
    gap = row.pop("gap")
    assert np.array_equal(gap, expected.pop("gap")) if gap is not None else True
    assert row == {key: value for key, value in expected.items() if key != "gap"}


def test_a_sparse_mask_with_unsorted_doubled_or_false_entries_is_the_mask_it_means():
    rows, columns = np.array([1, 0, 1, 1]), np.array([2, 1, 0, 2])
    values = np.array([True, True, False, True])
    loose = csr_array((values, (rows, columns)), shape=(2, 3))
    row = encode_mask(csr_array((loose.data, loose.indices, loose.indptr), shape=(2, 3)))
    assert np.flatnonzero(decode_mask(row)).tolist() == [1, 5]


def test_a_wide_sparse_mask_takes_memory_by_its_connections():
    n = 20_000
    rng = np.random.default_rng(0)
    where = np.sort(rng.choice(n * n, 5000, replace=False))
    mask = csr_array((np.ones(5000, dtype=bool), (where // n, where % n)), shape=(n, n))
    tracemalloc.start()
    row = encode_mask(mask)
    back = decode_csr(row)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (back != mask).nnz == 0
    assert peak < n * n / 8  # bytes: not even a bit a weight


def test_a_gap_beyond_int32_is_stored_as_bits(monkeypatch):
    """The real limit needs 2 GiB of mask; the rule is the same with a smaller one."""
    monkeypatch.setattr("storage.encoding._INT32_MAX", 300)
    mask = np.zeros((20, 300), dtype=np.bool_)
    mask[0, 299] = True
    assert encode_mask(mask)["encoding"] == "gap"
    mask[0, 299], mask[1, 0] = False, True
    row = encode_mask(mask)
    assert row["encoding"] == "bits"
    np.testing.assert_array_equal(decode_mask(row), mask)


def test_more_entries_than_a_row_can_hold_are_refused():
    huge = np.lib.stride_tricks.as_strided(
        np.zeros(1, dtype=np.bool_), shape=(2**20, 2**20), strides=(0, 0)
    )
    with pytest.raises(InputError, match="at most"):
        encode_mask(huge)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2)), np.zeros(4, dtype=np.bool_), np.zeros((0, 3), dtype=np.bool_)]
)
def test_what_is_no_mask_is_refused(wrong):
    with pytest.raises(InputError, match="give a bool matrix"):
        encode_mask(wrong)


@pytest.mark.parametrize(
    ("density", "change"),
    [
        (0.05, {"nnz": 3}),
        (0.05, {"crc32": 1}),
        (0.05, {"n_in": 3}),
        (0.05, {"n_out": 0}),
        (0.05, {"n_out": 2**31 - 1, "n_in": 2**31 - 1}),
        (0.05, {"gap": np.array([0, 5, 6], dtype=np.int32), "nnz": 3}),
        (0.05, {"gap": np.array([400, 1], dtype=np.int32), "nnz": 2}),
        (0.05, {"gap": None}),
        (0.05, {"encoding": "full"}),
        (0.05, {"encoding": "other"}),
        (0.05, {"encoding": None}),
        (0.5, {"bits": b"\0"}),
        (0.5, {"bits": None}),
        (0.5, {"nnz": 1}),
        (0.5, {"nnz": None}),
        (0.5, {"n_in": "wide"}),
        (0.5, {"crc32": float("nan")}),
    ],
)
def test_a_row_that_is_not_what_was_written_is_refused(density, change):
    row = encode_mask(np.random.default_rng(0).random((20, 20)) < density)
    with pytest.raises(InputError):
        decode_mask({**row, **change})


def test_a_row_of_a_pandas_table_decodes(tmp_path):
    mask = np.random.default_rng(0).random((20, 20)) < 0.05
    row = pd.DataFrame([encode_mask(mask)]).iloc[0]
    np.testing.assert_array_equal(decode_mask(row), mask)
