"""What reads other people's bytes, each as a function that any bytes may be given to.

A target returns whether the bytes were read, and raises Defect where that did not end as it must.
`python -m tests.fuzz.byte_targets idx -max_total_time=60` has atheris, if that is installed (it is
no dependency), look for bytes that fail; without it `--random N` tries N mutations of good files.
"""

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from storage.errors import InputError
from storage.import_formats import read_matrix, read_network
from storage.where import filter_rows, parse_where
from sweeps.training.idx import read_idx
from sweeps.training.python_batch import read_batch
from tests.training.python_batches import batch_bytes

Target = Callable[[bytes, Path], bool]


class Defect(AssertionError):
    """Bytes were read as something that they cannot be, or refused in more than a line."""


def one_line(error: InputError) -> None:
    """Raise Defect unless an error is one line."""
    text = str(error)
    if not text.isprintable() or not 0 < len(text) <= 1000:
        raise Defect(f"no line: {text[:300]!r}")


def idx(content: bytes, folder: Path) -> bool:
    """The reader of IDX files: every byte of what it takes is accounted for."""
    path = folder / "file-idx3-ubyte"
    path.write_bytes(content)
    try:
        array = read_idx(path, 3)
    except InputError as error:
        one_line(error)
        return False
    if array.dtype != np.uint8 or array.ndim != 3 or 16 + array.size != len(content):
        raise Defect(f"{array.dtype} {array.shape} of {len(content)} bytes")
    if array.tobytes() != content[16:]:
        raise Defect("other values")
    return True


def idx_gz(content: bytes, folder: Path) -> bool:
    """The same, compressed."""
    path = folder / "file-idx1-ubyte.gz"
    path.write_bytes(content)
    try:
        return read_idx(path, 1).ndim == 1
    except InputError as error:
        one_line(error)
        return False


def cifar(content: bytes, folder: Path) -> bool:
    """The reader of CIFAR's pickles: it runs nothing and makes nothing larger than they are."""
    try:
        images, labels = read_batch(content)
    except ValueError:
        return False
    if images.dtype != np.uint8 or images.ndim != 2 or images.size > len(content):
        raise Defect(f"{images.dtype} {images.shape} of {len(content)} bytes")
    if not all(type(label) is int for label in labels):
        raise Defect("labels that are none")
    return True


TABLE = pd.DataFrame(
    {
        "method_name": ["dense", "set", None],
        "method_density": [float("nan"), 0.05, 0.2],
        "seed": pd.array([0, 1, None], dtype="Int64"),
        "flag": [True, False, True],
    }
)


def where(content: bytes, folder: Path) -> bool:
    """The language of conditions: it finds rows of a table, or says what it does not know."""
    text = content.decode("utf-8", "replace")
    try:
        condition = parse_where(text)
        found = filter_rows(TABLE, condition)
    except InputError as error:
        one_line(error)
        return False
    if not set(found.index) <= set(TABLE.index) or not condition.names <= set(TABLE.columns):
        raise Defect(f"{text!r} found {found}")
    if filter_rows(TABLE, f"not ({text.strip()})").index.intersection(found.index).size:
        raise Defect(f"{text!r} and its contrary hold for the same row")
    return True


def _imported(name: str) -> Target:
    def target(content: bytes, folder: Path) -> bool:
        path = folder / name
        path.write_bytes(content)
        readers: list[Callable[[Path], Any]] = [
            lambda path: [layer.read().there for layer in read_network(path)]
        ]
        if path.suffix in (".npz", ".npy"):
            readers.append(lambda path: [read_matrix(path)])
        read = 0
        for reader in readers:
            try:
                layers = reader(path)
            except InputError as error:
                one_line(error)
                if name not in str(error):
                    raise Defect(f"names no file: {error}") from None
                continue
            read += 1
            if not all(layer.dtype == np.bool_ and layer.size for layer in layers):
                raise Defect("a layer is no mask")
        return read > 0

    target.__doc__ = f"The importer's readers of {name}."
    return target


TARGETS: dict[str, Target] = {
    "idx": idx, "idx_gz": idx_gz, "cifar": cifar, "where": where, "npz": _imported("net.npz"),
    "npy": _imported("net.npy"), "scipy": _imported("layer.npz"), "pt": _imported("net.pt"),
    "safetensors": _imported("net.safetensors"),
}  # fmt: skip


def good(name: str) -> list[bytes]:
    """Bytes that a target reads."""
    rng = np.random.default_rng(0)
    masks = {f"fc{k}.weight": np.where(rng.random((5 - k, 6 - k)) < 0.4, 0.5, 0) for k in range(3)}
    if name == "idx":
        return [b"\0\0\x08\x03\0\0\0\x03\0\0\0\x02\0\0\0\x02" + bytes(range(12))]
    if name == "idx_gz":
        import gzip

        return [gzip.compress(b"\0\0\x08\x01\0\0\0\x09" + bytes(range(9)), mtime=0)]
    if name == "cifar":
        return [batch_bytes(np.arange(60, dtype=np.uint8).reshape(3, 20), [3, 1, 9])]
    if name == "where":
        texts = ["method_name == 'set' and not method_density < 0.1", "seed in [0, 1] or flag",
                 "0 <= seed < 2", "method_density != None", "(flag)"]  # fmt: skip
        return [text.encode() for text in texts]
    file = io.BytesIO()
    if name == "npz":
        np.savez(file, **masks)
        packed = io.BytesIO()
        np.savez_compressed(packed, **masks)
        return [file.getvalue(), packed.getvalue()]
    if name == "npy":
        np.save(file, masks["fc0.weight"])
        return [file.getvalue()]
    if name == "scipy":
        found = []
        for form in ("csr", "csc", "coo", "bsr", "dia"):
            file = io.BytesIO()
            scipy.sparse.save_npz(file, scipy.sparse.csr_array(masks["fc0.weight"]).asformat(form))
            found.append(file.getvalue())
        return found
    import torch
    from safetensors.torch import save

    tensors = {key: torch.from_numpy(mask) for key, mask in masks.items()}
    if name == "safetensors":
        return [save(tensors)]
    states: list[Any] = [tensors, {"model": tensors, "epoch": 3},
                         {key: value.to_sparse_csr() for key, value in tensors.items()},
                         {key: value.to_sparse() for key, value in tensors.items()}]  # fmt: skip
    found = []
    for state in states:
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(state, file, _use_new_zipfile_serialization=zipped)
            found.append(file.getvalue())
    return found


def mutated(content: bytes, rng: Random) -> bytes:
    """Bits flipped, bytes replaced, moved, taken out or put in; in a zip also behind checksums."""
    if zipfile.is_zipfile(io.BytesIO(content)) and rng.random() < 0.6:
        return _rezipped(content, rng)
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.randrange(len(changed) + 1)
        end = min(len(changed), place + rng.choice([1, 2, 4, 8, 30]))
        what = rng.randrange(6)
        if what == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            changed[place:end] = rng.randbytes(end - place)
        elif what == 2:
            del changed[place:end]
        elif what == 3:
            changed[place:place] = rng.choice([b"\0", b"\xff" * 8, rng.randbytes(4), changed[:end]])
        elif what == 4:
            changed[place:end] = rng.choice([b"\xff", b"\x7f", b"\0", b"9"]) * (end - place)
        else:
            del changed[place:]
    return bytes(changed)


def _rezipped(content: bytes, rng: Random) -> bytes:
    """A member changed, and the zip made anew around it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            data = old.read(name)
            if name == chosen:
                data = mutated(data, rng) if data else rng.randbytes(3)
            new.writestr(name, data)
    return out.getvalue()


def main() -> None:
    """Run atheris on a target, or so many random mutations."""
    name, *rest = sys.argv[1:]
    target = TARGETS[name]
    with TemporaryDirectory() as made:
        folder = Path(made)
        if rest[:1] == ["--random"]:
            seed = int(rest[2]) if len(rest) > 2 else 0
            read = 0
            for number in range(int(rest[1])):
                rng = Random(f"{seed}-{number}")
                content = mutated(rng.choice(good_ones := good(name)), rng) if number else b""
                (folder / "last").write_bytes(content)
                try:
                    read += target(content, folder)
                except Exception:
                    print(f"DEFECT {name} {seed}-{number}", flush=True)
                    raise
            print(f"{name}: {rest[1]} mutations of {len(good_ones)} files, {read} were read")
            return
        import atheris  # type: ignore[import-not-found]

        corpus = folder / "corpus"
        corpus.mkdir()
        for number, content in enumerate(good(name)):
            (corpus / str(number)).write_bytes(content)
        with_folder = lambda content: target(content, folder) and None  # noqa: E731
        atheris.instrument_all()
        atheris.Setup([sys.argv[0], *rest, str(corpus)], with_folder)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
