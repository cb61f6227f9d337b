"""What the README promises to readers who have never heard of toposweep."""

import duckdb
import numpy as np
import pandas as pd
import polars
import pytest
from snapshots import append, masks_of, trial

from storage import MaskStore, MetricStore, decode_mask

KEYS = [(trial(1), 0), (trial(1), 10), (trial(2), 0)]


@pytest.fixture
def out(tmp_path):
    store = MaskStore(tmp_path)
    for key in KEYS:
        append(store, *key)
    store.compact()
    metrics = MetricStore(tmp_path)
    for number in (1, 2):
        metrics.append(trial(number), "tiny", 1, [{"step": 10, "epoch": 1, "loss": 0.5}])
    metrics.compact()
    return tmp_path


def check(rows):
    """Every row decodes to its mask."""
    assert len(rows) == 3 * len(KEYS)
    for row in rows:
        right = masks_of(row["trial_id"], row["step"])[row["layer"]]
        np.testing.assert_array_equal(decode_mask(row), right)


def test_pandas_reads_the_folder_and_one_line_decodes_a_mask(out):
    table = pd.read_parquet(out / "masks" / "compact")
    check([row for _, row in table.iterrows()])
    row = table[table.encoding == "gap"].iloc[0]
    gap, n_out, n_in = row.gap, row.n_out, row.n_in
    m = np.zeros(n_out * n_in, bool)
    m[np.cumsum(gap) - 1] = True
    np.testing.assert_array_equal(
        m.reshape(n_out, n_in), masks_of(row.trial_id, row.step)[row.layer]
    )
    assert pd.read_parquet(out / "metrics" / "compact").loss.tolist() == [0.5, 0.5]


def test_polars_reads_it(out):
    check(polars.read_parquet(out / "masks" / "compact" / "*.parquet").to_dicts())


def test_duckdb_reads_it(out):
    rows = duckdb.sql(f"select * from '{out}/masks/compact/*.parquet'").to_arrow_table().to_pylist()
    check(rows)


def test_temporary_files_disturb_no_reader(out):
    (out / "masks" / "compact" / ".part-0.parquet.0123456789ab.tmp").write_bytes(b"half")
    assert len(pd.read_parquet(out / "masks" / "compact")) == 9
    assert len(polars.read_parquet(out / "masks" / "compact" / "*.parquet")) == 9
    counted = duckdb.sql(f"select count(*) from '{out}/masks/compact/*.parquet'").fetchall()
    assert counted == [(9,)]
