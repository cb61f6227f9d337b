"""Masks in Parquet beside the plain ways to keep them.

    python tests/benchmarks/bench_masks.py [--trials 150] [--full]

* One mask out of many snapshots (20 a trial), before and after compaction, beside pandas that finds
  it in the same files. `--full` takes 1,000 trials, 20,000 snapshots; making them takes minutes.
* Bytes per mask beside npz, bits, and a row of column indices per neuron: of the published masks
  where they are at hand (TOPOSWEEP_SHARED_DATA or ../shared/data), else of random ones.
* The time an append takes beside a bare write and fsync of as many bytes.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse
from numpy.typing import NDArray

from storage import LayerMask, MaskStore

STEPS = 20  # snapshots a trial
SHAPE = (784, 784)
DENSITY = 0.006
SHARED = Path(
    os.environ.get("TOPOSWEEP_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
)


def milliseconds(function: Callable[[], object], repeats: int) -> float:
    """Median of some calls, the first one thrown away."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[1:])


def snapshot(trial: int, step: int) -> list[LayerMask]:
    """A network of one sparse and one dense layer."""
    rng = np.random.default_rng([trial, step])
    sparse = np.zeros(SHAPE[0] * SHAPE[1], dtype=np.bool_)
    sparse[rng.integers(0, sparse.size, int(DENSITY * sparse.size))] = True
    dense = np.ones((10, SHAPE[0]), dtype=np.bool_)
    return [LayerMask("fc1", sparse.reshape(SHAPE), "hidden"), LayerMask("out", dense, "output")]


def reads(folder: Path, trials: int) -> None:
    """One mask out of many, and the index of all."""
    store = MaskStore(folder)
    fsync = os.fsync
    os.fsync = lambda _: None  # making the snapshots is not what is measured here
    for trial in range(trials):
        for step in range(STEPS):
            store.append(f"{trial:012x}", "bench", step, step, 1, snapshot(trial, step))
    os.fsync = fsync
    wanted = (f"{trials // 2:012x}", STEPS // 2)
    filters = [("trial_id", "==", wanted[0]), ("step", "==", wanted[1]), ("layer", "==", "fc1")]

    def through_pandas(name: str) -> pd.DataFrame:
        return pd.read_parquet(folder / "masks" / name, filters=filters)

    print(f"\n{trials * STEPS:,} snapshots of {trials:,} trials", end="")
    print(f"{'':16}staged     compacted")
    rows = {"one mask, MaskStore.load": [milliseconds(lambda: store.load(*wanted), 9)]}
    rows["one mask, pandas.read_parquet"] = [milliseconds(lambda: through_pandas("staging"), 1)]
    rows["index of all, MaskStore.index"] = [milliseconds(store.index, 1)]
    started = time.perf_counter()
    result = store.compact()
    seconds = time.perf_counter() - started
    rows["one mask, MaskStore.load"] += [milliseconds(lambda: store.load(*wanted), 9)]
    rows["one mask, pandas.read_parquet"] += [milliseconds(lambda: through_pandas("compact"), 9)]
    rows["index of all, MaskStore.index"] += [milliseconds(store.index, 3)]
    for name, (staged, compacted) in rows.items():
        print(f"{name:42} {staged:9.1f} ms {compacted:9.1f} ms")
    print(f"compaction: {seconds:.1f} s, {result.files} files, {result.bytes / 2**20:.1f} MiB")


def published() -> list[tuple[str, int, list[LayerMask]]]:
    """The published snapshots' hidden layers; (inputs + bias, outputs) on disk."""
    found = []
    for number, net in enumerate(sorted((SHARED / "published-topologies").glob("*/"))):
        for folder in sorted(net.glob("epoch_*")):
            layers = [
                LayerMask(path.stem, scipy.sparse.load_npz(path).toarray()[:-1].T != 0, "hidden")
                for path in sorted(folder.glob("weight_l[0-2].npz"))
            ]
            found.append((f"{number:012x}", int(folder.name[6:]), layers))
    return found


def npz_bytes(mask: NDArray[np.bool_]) -> int:
    """As scipy saves it."""
    buffer = io.BytesIO()
    scipy.sparse.save_npz(buffer, scipy.sparse.csr_array(mask.astype(np.float32)))
    return buffer.tell()


def bits_bytes(mask: NDArray[np.bool_]) -> int:
    """Packed bits through zstd."""
    return len(pa.compress(np.packbits(mask).tobytes(), codec="zstd", asbytes=True))


def lists_bytes(mask: NDArray[np.bool_]) -> int:
    """A Parquet file with a row of column indices per neuron."""
    buffer = io.BytesIO()
    lists = [np.flatnonzero(neuron).astype(np.int16) for neuron in mask]
    pq.write_table(pa.table({"inputs": lists}), buffer, compression="zstd")
    return buffer.tell()


def sizes(folder: Path) -> None:
    """Bytes per mask."""
    snapshots = published()
    source = "published masks, 0.6%"
    if not snapshots:
        source = "random masks, 0.6%"
        snapshots = [(f"{t:012x}", s, snapshot(t, s)[:1]) for t in range(5) for s in range(9)]
    store = MaskStore(folder)
    for trial_id, step, layers in snapshots:
        store.append(trial_id, "bench", step, step, 1, layers)
    masks = [layer.mask for _, _, layers in snapshots for layer in layers]
    rows = {
        "staged files": store.usage()[1] / len(masks),
        "compacted, everything counted": store.compact().bytes / len(masks),
        "scipy npz (zip)": statistics.mean(map(npz_bytes, masks)),
        "bits (zstd)": statistics.mean(map(bits_bytes, masks)),
        "lists of indices (Parquet, zstd)": statistics.mean(map(lists_bytes, masks)),
        "bits, not packed": SHAPE[0] * SHAPE[1] / 8,
    }
    print(f"\nbytes per mask: {len(masks)} {source}")
    for name, value in rows.items():
        print(f"{name:42} {value:9,.0f}")


def appends(folder: Path) -> None:
    """A committed snapshot beside a bare write and fsync."""
    store = MaskStore(folder)
    layers = snapshot(0, 0)
    steps = iter(range(1000))
    size = store.append("0" * 12, "bench", next(steps), 0, 1, layers).stat().st_size

    def bare() -> None:
        with (folder / f"bare-{next(steps)}").open("wb") as file:
            file.write(os.urandom(size))
            file.flush()
            os.fsync(file.fileno())

    print(f"\none snapshot of {size:,} bytes")
    append = milliseconds(lambda: store.append("0" * 12, "bench", next(steps), 0, 1, layers), 100)
    print(f"{'MaskStore.append, committed':42} {append:9.1f} ms")
    print(f"{'bare write and fsync':42} {milliseconds(bare, 100):9.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=150, help="trials of 20 snapshots each")
    parser.add_argument("--full", action="store_true", help="1,000 trials, 20,000 snapshots")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        appends(Path(folder, "appends"))
        sizes(Path(folder, "sizes"))
        reads(Path(folder, "reads"), 1000 if arguments.full else arguments.trials)


if __name__ == "__main__":
    main()
