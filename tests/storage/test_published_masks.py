"""The masks published with the paper, where they are at hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from storage import LayerMask, MaskStore

SHARED = Path(
    os.environ.get("TOPOSWEEP_SHARED_DATA") or Path(__file__).parents[3] / "shared" / "data"
)
FOLDER = SHARED / "published-topologies"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published masks are not here")


def published():
    """(trial_id, epoch, layers) of every published snapshot; (inputs + bias, outputs) on disk."""
    for number, net in enumerate(sorted(path for path in FOLDER.iterdir() if path.is_dir())):
        for folder in sorted(net.iterdir()):
            files = sorted(folder.glob("weight_l*.npz"))
            layers = [
                LayerMask(
                    path.stem,
                    scipy.sparse.load_npz(path).toarray()[:-1].T != 0,
                    "output" if path == files[-1] else "hidden",
                )
                for path in files
            ]
            yield f"{number:012x}", int(folder.name.removeprefix("epoch_")), layers


def test_a_published_mask_takes_at_most_3900_bytes_and_comes_back(tmp_path):
    store = MaskStore(tmp_path)
    wide = 0
    for trial_id, epoch, layers in published():
        store.append(trial_id, "published", epoch, epoch, 1, layers)
        wide += sum(layer.mask.shape == (784, 784) for layer in layers)
    result = store.compact()
    expected = json.loads((FOLDER / "expected_nnstd.json").read_text())
    assert wide == 3 * 3 * len(expected["nets"])
    assert result.bytes / wide <= 3900  # although the other layers are counted, too
    for trial_id, epoch, layers in published():
        masks = store.load(trial_id, epoch)
        for layer in layers:
            np.testing.assert_array_equal(masks[layer.name].toarray(), layer.mask)
    assert store.verify() == []
