import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from topology.canonical import form_of
from topology.layerwise import match_layerwise
from topology.lockstep import layerwise_many
from topology.overlap import input_places, is_dense, overlap_counts
from topology.overlap_torch import Counter, Pair, device_for, pays
from topology.prepared import prepare

CUDA = torch.cuda.is_available()
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not CUDA, reason="no GPU here")),
]
on_each_device = pytest.mark.parametrize("device", DEVICES)


def _layer(mask):
    return prepare([mask]).layers[0]


def _random(rng, n_out, n_in, density):
    return _layer(rng.random((n_out, n_in)) < density)


def _plain(pair):
    """The matrix product in whole numbers, with a column of nothing for inputs that B lacks."""
    a, b = (layer.mask.toarray().astype(int) for layer in (pair.a, pair.b))
    b = np.hstack([b, np.zeros((len(b), 1), dtype=int)])
    return a @ b[:, pair.places].T


def _some_pairs(seed=0):
    """Three networks' layers, all pairs both ways; widths differ, and B lacks inputs of A."""
    rng = np.random.default_rng(seed)
    layers = [_random(rng, *shape, 0.3) for shape in ((150, 130), (100, 130), (170, 90))]
    pairs = []
    for a in layers:
        for b in layers:
            matching = np.full(a.shape[1], -1)
            n = min(a.shape[1], b.shape[1])
            matching[rng.permutation(a.shape[1])[:n]] = rng.permutation(b.shape[1])[:n]
            pairs.append(Pair(a, b, input_places(matching, 1, a.shape[1], b.shape[1])))
    return pairs


def _check(counter, pairs):
    found = list(counter.counts(pairs))
    assert len(found) == len(pairs)
    for counts, pair in zip(found, pairs, strict=True):
        assert counts.dtype == np.int32
        np.testing.assert_array_equal(counts, _plain(pair))
        np.testing.assert_array_equal(counts, overlap_counts(pair.a.rows, pair.b.bits, pair.places))


@on_each_device
@pytest.mark.parametrize("density", [0.0, 0.005, 0.03, 0.2, 0.9, 1.0])
def test_counts_are_the_same_integers_at_any_density(device, density):
    rng = np.random.default_rng(0)
    a, b = (_random(rng, 90, 300, density) for _ in range(2))
    _check(Counter(device), [Pair(a, b, rng.permutation(300))])


@on_each_device
def test_counts_of_many_pairs_come_in_order_and_stay_as_they_were(device):
    _check(Counter(device), _some_pairs())
    assert list(Counter(device).counts([])) == []


@given(data=st.data())
def test_counts_follow_any_matching_of_the_neurons_before_in_groups(data):
    group, before_a, before_b = (data.draw(st.integers(1, 4)) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a = _random(rng, data.draw(st.integers(1, 6)), before_a * group, 0.5)
    b = _random(rng, data.draw(st.integers(1, 6)), before_b * group, 0.5)
    partners = data.draw(st.permutations([*range(before_b), *[-1] * before_a]))[:before_a]
    places = input_places(np.array(partners), group, before_a * group, before_b * group)
    _check(Counter("cpu"), [Pair(a, b, places)])


@on_each_device
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_no_precision_that_torch_multiplies_in_rounds_a_count(device, precision):
    n = 2**13 + 3  # no number of TF32 or bfloat16
    full = _layer(np.ones((70, n), dtype=bool))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        (counts,) = Counter(device).counts([Pair(full, full, np.arange(n))])
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(counts, np.full((70, 70), n))


@on_each_device
def test_a_callers_autocast_rounds_nothing(device):
    full = _layer(np.ones((70, 4099), dtype=bool))
    with torch.autocast(device, dtype=torch.bfloat16):
        (counts,) = Counter(device).counts([Pair(full, full, np.arange(4099))])
        assert torch.is_autocast_enabled(device)
    np.testing.assert_array_equal(counts, np.full((70, 70), 4099))


class _Recorded(Counter):
    """A counter that notes how many neurons of A it takes at a time, and what it holds."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rows, self.held = [], []

    def _count(self, pair, rows):
        self.rows.append(rows)
        done = super()._count(pair, rows)
        self.held.append([mask.nbytes for mask in self._masks.values()])
        return done


@on_each_device
def test_a_small_bound_takes_fewer_neurons_at_a_time_and_forgets_masks(device):
    pairs = _some_pairs()
    wide = _Recorded(device, bound=2**24)
    _check(wide, pairs)
    assert wide.rows == [pair.a.shape[0] for pair in pairs]
    assert {len(held) for held in wide.held[3:]} == {3}
    narrow = _Recorded(device, bound=270_000)
    _check(narrow, pairs)
    assert len(narrow.rows) == len(pairs)
    assert any(rows < pair.a.shape[0] for rows, pair in zip(narrow.rows, pairs, strict=True))
    assert 2 in {len(held) for held in narrow.held[3:]}


@on_each_device
def test_what_does_not_fit_is_counted_on_the_cpu(device):
    counter = _Recorded(device, bound=1000)
    _check(counter, _some_pairs())
    assert counter.rows == []


class _Smaller(_Recorded):
    """On a device that has less memory than the bound says."""

    memory = 0

    def _count(self, pair, rows):
        if rows * pair.b.shape[0] > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super()._count(pair, rows)


@pytest.mark.parametrize("memory", [0, 13_000])
def test_a_device_out_of_memory_gets_smaller_pieces_and_at_last_none(memory):
    counter = _Smaller("cpu", bound=2**24)
    counter.memory = memory
    pairs = _some_pairs()
    _check(counter, pairs)
    assert counter._bound < 2**24
    fitting = [rows for rows in counter.rows if rows < 100]  # no network has so few neurons
    assert bool(fitting) == (memory > 0)


def test_other_errors_of_the_device_are_not_taken_for_want_of_memory():
    a = _layer(np.ones((3, 4), dtype=bool))
    with pytest.raises((RuntimeError, IndexError), match=r"out of (range|bounds)"):
        list(Counter("cpu").counts([Pair(a, a, np.full(4, 9))]))


@pytest.mark.skipif(not CUDA, reason="no GPU here")
def test_a_gpu_that_is_really_out_of_memory_is_no_failure():
    rng = np.random.default_rng(0)
    a, b = (_random(rng, 3000, 3000, 0.2) for _ in range(2))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(100e6 / total)
    try:
        counter = _Recorded("cuda", bound=2**33)
        (counts,) = counter.counts([Pair(a, b, np.arange(3000))])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert counter._bound < 2**33
    np.testing.assert_array_equal(counts, overlap_counts(a.rows, b.bits, np.arange(3000)))


def _forms(networks, labelled_outputs):
    return [form_of(prepare(masks), labelled_outputs) for masks in networks]


def _networks():
    """Widths that differ, dense and sparse layers, four inputs a neuron, empty and equal rows."""
    rng = np.random.default_rng(1)
    networks = []
    for widths in ((40, 30), (40, 30), (44, 25), (40, 30)):
        shapes = [(widths[0], 50), (widths[1], widths[0]), (20, 4 * widths[1]), (10, 20)]
        densities = (0.1, 0.3, 0.015, 0.5)
        masks = [rng.random(s) < p for s, p in zip(shapes, densities, strict=True)]
        masks[0][:3] = False
        masks[1][5] = masks[1][4]
        networks.append(masks)
    networks[3][:2] = networks[0][:2]
    return networks


@on_each_device
@pytest.mark.parametrize("labelled_outputs", [False, True])
def test_lockstep_gives_bit_for_bit_what_a_pair_alone_gives(device, labelled_outputs, monkeypatch):
    monkeypatch.setattr("topology.lockstep._TOGETHER", 3)
    forms = _forms(_networks(), labelled_outputs)
    pairs = [(a, b) for a in forms for b in forms]
    kernels = {is_dense(x, y) for a, b in pairs for x, y in zip(a.layers, b.layers, strict=True)}
    assert kernels == {False, True}  # both of the CPU's
    done = list(layerwise_many(pairs, labelled_outputs, device, wide=1))
    assert len(done) == len(pairs)
    for (distances, matchings, gap), pair in zip(done, pairs, strict=True):
        expected = match_layerwise(*pair, labelled_outputs)
        assert distances == expected[0]
        assert gap == expected[2]
        for matching, alone in zip(matchings, expected[1], strict=True):
            np.testing.assert_array_equal(matching, alone)


def test_narrow_layers_in_lockstep_are_counted_on_the_cpu(monkeypatch):
    def never(self, pair):
        raise AssertionError

    monkeypatch.setattr(Counter, "_start", never)
    a, b = _forms(_networks()[:2], False)
    (done,) = layerwise_many([(a, b)], False, "cpu")
    assert done[0] == match_layerwise(a, b, False)[0]


def test_no_pairs_in_lockstep_are_no_results():
    assert list(layerwise_many([], False, "cpu")) == []


def test_a_device_is_asked_where_masks_are_wide_and_dense():
    rng = np.random.default_rng(0)
    dense, sparse = (_random(rng, 100, 100, density) for density in (0.1, 0.005))
    assert pays(dense, dense, wide=100)
    assert not pays(dense, dense, wide=101)
    assert not pays(dense, dense)
    assert not pays(sparse, sparse, wide=100)
    assert device_for([[dense], [sparse]]) is None


def test_a_wide_network_gets_the_gpu_that_is_here_and_none_without():
    wide = _random(np.random.default_rng(0), 2000, 2000, 0.03)
    device = device_for([[wide]])
    assert (device is not None) == CUDA


def test_hidden_gpus_are_not_looked_for(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_for([[_random(np.random.default_rng(0), 2000, 2000, 0.03)]]) is None


def test_torch_is_loaded_only_where_a_layer_is_wide():
    code = (
        "import sys, numpy as np\n"
        "import topology.lockstep\n"
        "from topology.overlap_torch import device_for\n"
        "from topology.prepared import prepare\n"
        "device_for([prepare([np.ones((9, 9), bool)]).layers])\n"
        "print('torch' in sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.stdout.strip() == "False", done.stderr
