"""The canonical form against BLISS, which decides isomorphism of coloured graphs in its own way."""

import itertools
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import igraph
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, load_npz

from topology import canonical, labelling
from topology.canonical import CanonicalForm, canonical_form
from topology.prepared import Topology, prepare
from topology.refinement import stable_colours

Mask = np.ndarray[tuple[int, int], np.dtype[np.bool_]]


def full(n_out: int, n_in: int) -> Mask:
    return np.ones((n_out, n_in), dtype=np.bool_)


def below_full(mask: Any, outputs: int = 3) -> list[Mask]:
    """A layer that nothing but its own connections tells anything about."""
    mask = np.asarray(mask, dtype=np.bool_)
    return [full(mask.shape[1], 4), mask, full(outputs, mask.shape[0])]


def cycle(n: int) -> Mask:
    """n and n neurons in one cycle of 2n."""
    return np.eye(n, dtype=np.bool_) | np.roll(np.eye(n, dtype=np.bool_), 1, axis=0)


def blocks(*masks: Any) -> Mask:
    shape = np.sum([np.shape(m) for m in masks], axis=0)
    whole = np.zeros(shape, dtype=np.bool_)
    row = column = 0
    for m in masks:
        whole[row : row + len(m), column : column + len(m[0])] = m
        row, column = row + len(m), column + len(m[0])
    return whole


def relabelled(masks: Sequence[Any], seed: int, labelled_outputs: bool) -> list[Any]:
    rng = np.random.default_rng(seed)
    moved, order = [], np.arange(masks[0].shape[1])
    for index, mask in enumerate(masks):
        group = mask.shape[1] // len(order)
        inputs = (order[:, np.newaxis] * group + np.arange(group)).ravel()
        fixed = labelled_outputs and index == len(masks) - 1
        order = np.arange(mask.shape[0]) if fixed else rng.permutation(mask.shape[0])
        moved.append(mask[order][:, inputs])
    return moved


def arrays(form: CanonicalForm) -> list[list[Any]]:
    return [
        [layer.shape, layer.in_group, *(x.tolist() for x in (*layer.rows, *layer.columns))]
        for layer in form.layers
    ]


def assert_same_form(masks: Sequence[Any], labelled_outputs: bool, seeds: Sequence[int]) -> None:
    form = canonical_form(prepare(masks), labelled_outputs)
    assert form.exact
    for seed in seeds:
        other = canonical_form(prepare(relabelled(masks, seed, labelled_outputs)), labelled_outputs)
        assert other.exact
        assert arrays(other) == arrays(form)
        assert other.digest == form.digest
        for x, y in zip(other.colours, form.colours, strict=True):
            np.testing.assert_array_equal(x, y)


def bliss(topology: Topology, labelled_outputs: bool) -> tuple[Any, ...]:
    """The network's graph in BLISS's canonical order: equal if and only if isomorphic.

    An input of a group is a vertex of its own between its neuron and those that it reaches.
    """
    colours: list[tuple[int, int]] = [(0, k) for k in range(topology.layers[0].shape[1])]
    edges: list[tuple[int, int]] = []
    below = list(range(len(colours)))
    for index, layer in enumerate(topology.layers):
        ports = below
        if index:
            ports = list(range(len(colours), len(colours) + layer.shape[1]))
            for k, port in enumerate(ports):
                colours.append((2 * index, k % layer.in_group))
                edges.append((below[k // layer.in_group], port))
        labelled = labelled_outputs and index == len(topology.layers) - 1
        below = list(range(len(colours), len(colours) + layer.shape[0]))
        colours += [(2 * index + 1, r if labelled else 0) for r in range(layer.shape[0])]
        rows, inputs = layer.mask.nonzero()
        edges += [(ports[k], below[r]) for r, k in zip(rows, inputs, strict=True)]
    names = {name: number for number, name in enumerate(sorted(set(colours)))}
    graph = igraph.Graph(len(colours), edges)
    graph.vs["colour"] = colours
    moved = graph.permute_vertices(graph.canonical_permutation(color=[names[c] for c in colours]))
    return tuple(moved.vs["colour"]), tuple(sorted(tuple(sorted(e)) for e in moved.get_edgelist()))


@st.composite
def tiny_networks(draw: st.DrawFn) -> list[Mask]:
    """Networks of every density, with inputs in groups, equal neurons and equal blocks."""
    depth = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 7), min_size=depth + 1, max_size=depth + 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        group = draw(st.integers(1, 3)) if index else 1
        shape = n_out, n_in * group
        kind = draw(st.sampled_from(["random", "full", "regular", "equal", "blocks"]))
        mask = rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.3, 0.5, 0.8, 1]))
        if kind == "full":
            mask[:] = True
        elif kind == "regular":
            degree = draw(st.integers(0, shape[1]))
            mask = np.argsort(rng.random(shape), axis=1) < degree
        elif kind == "equal":
            mask = mask[rng.integers(0, n_out, n_out)]
        elif kind == "blocks" and group == 1:
            half = mask[: n_out // 2, : n_in // 2]
            mask[: n_out // 2 * 2, : n_in // 2 * 2] = np.kron(np.eye(2, dtype=np.bool_), half)
        masks.append(mask)
    return masks


@given(tiny_networks(), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_relabelled_copies_have_the_same_masks(
    masks: list[Mask], labelled_outputs: bool, seed: int
) -> None:
    assert_same_form(masks, labelled_outputs, [seed])


@given(tiny_networks(), st.booleans())
def test_the_form_is_the_network_in_the_order_it_names(
    masks: list[Mask], labelled_outputs: bool
) -> None:
    form = canonical_form(prepare(masks), labelled_outputs)
    before = np.arange(masks[0].shape[1])
    for mask, layer, order in zip(masks, form.layers, form.orders, strict=True):
        inputs = (before[:, np.newaxis] * layer.in_group + np.arange(layer.in_group)).ravel()
        moved = csr_array(mask[order][:, inputs])
        np.testing.assert_array_equal(layer.mask.toarray(), moved.toarray())
        np.testing.assert_array_equal(layer.rows.indptr, moved.indptr)
        np.testing.assert_array_equal(layer.rows.indices, moved.indices)
        columns = moved.T.tocsr()
        np.testing.assert_array_equal(layer.columns.indptr, [*columns.indptr, columns.indptr[-1]])
        np.testing.assert_array_equal(layer.columns.indices, columns.indices)
        assert np.all(np.sort(order) == np.arange(len(order)))
        before = order
    if labelled_outputs:
        np.testing.assert_array_equal(before, np.arange(len(before)))


@given(tiny_networks(), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_digests_are_equal_exactly_where_bliss_finds_an_isomorphism(
    masks: list[Mask], labelled_outputs: bool, seed: int
) -> None:
    """Also for a copy in which two connections of equal degrees were exchanged."""
    rng = np.random.default_rng(seed)
    other = [mask.copy() for mask in relabelled(masks, seed, labelled_outputs)]
    mask = other[rng.integers(len(other))]
    (r, s), (k, m) = rng.integers(0, mask.shape[0], 2), rng.integers(0, mask.shape[1], 2)
    if mask[r, k] and mask[s, m] and not mask[r, m] and not mask[s, k]:
        mask[[r, s], [k, m]] = False
        mask[[r, s], [m, k]] = True
    a, b = prepare(masks), prepare(other)
    same = bliss(a, labelled_outputs) == bliss(b, labelled_outputs)
    forms = canonical_form(a, labelled_outputs), canonical_form(b, labelled_outputs)
    assert (forms[0].digest == forms[1].digest) == same
    assert (arrays(forms[0]) == arrays(forms[1])) == same


def test_all_networks_of_a_small_shape_fall_into_the_classes_that_bliss_finds() -> None:
    """Every 3 x 3 layer between layers that say nothing: 512 networks."""
    ours, theirs = set(), set()
    pairs = set()
    for bits in itertools.product([False, True], repeat=9):
        topology = prepare(below_full(np.reshape(bits, (3, 3))))
        pair = canonical_form(topology, True).digest, bliss(topology, True)
        pairs.add(pair)
        ours.add(pair[0])
        theirs.add(pair[1])
    assert len(ours) == len(theirs) == len(pairs) == 36  # OEIS A002724


@pytest.mark.parametrize("first", ["full", "sparse"])
def test_tiny_sparse_networks_with_and_without_a_full_first_layer(first: str) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        masks = [rng.random(shape) < 0.1 for shape in ((24, 16), (24, 24), (10, 24))]
        if first == "full":
            masks[0][:] = True
        assert_same_form(masks, True, [seed])


PETERSEN = nx.to_numpy_array(nx.petersen_graph())
SYMMETRIC = {
    "nothing": np.zeros((9, 9)),
    "equal neurons": np.ones((9, 9)),
    "perfect matching": np.eye(60),
    "complement of a perfect matching": 1 - np.eye(60),
    "one cycle": cycle(60),
    "many cycles": blocks(*[cycle(5)] * 6, *[cycle(7)] * 3),
    "equal full blocks": blocks(*[np.ones((12, 12))] * 8),
    "equal random blocks": blocks(*[np.random.default_rng(0).random((12, 12)) < 0.3] * 8),
    "random regular": nx.to_numpy_array(nx.random_regular_graph(3, 64, seed=1)),
    "random regular, dense": nx.to_numpy_array(nx.random_regular_graph(40, 80, seed=1)),
    "different regular blocks": blocks(
        *(nx.to_numpy_array(nx.random_regular_graph(3, 16, seed=s)) for s in range(5))
    ),
    "circulant": nx.to_numpy_array(nx.circulant_graph(60, [1, 5, 17])),
    "cubical": nx.to_numpy_array(nx.cubical_graph()),
    "petersen": PETERSEN,
    "torus": nx.to_numpy_array(nx.grid_2d_graph(8, 8, periodic=True)),
    "hypercube": nx.to_numpy_array(nx.hypercube_graph(6)),
    "paley": np.array([[pow(i - j, 18, 37) == 1 for j in range(37)] for i in range(37)]),
    "incidence of a complete graph": nx.incidence_matrix(nx.complete_graph(15)).toarray().T,
    "rook's moves": nx.to_numpy_array(nx.line_graph(nx.complete_bipartite_graph(6, 6))),
}


SHRIKHANDE = [
    ((a, b), ((a + c) % 4, (b + d) % 4))
    for a, b in itertools.product(range(4), repeat=2)
    for c, d in ((0, 1), (1, 0), (1, 1))
]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_layers_in_which_all_neurons_look_alike_have_one_form(name: str) -> None:
    masks = below_full(SYMMETRIC[name])
    assert_same_form(masks, True, range(3))
    assert_same_form([*masks[:2], masks[1].T, masks[1]], False, range(2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (cycle(6), blocks(cycle(3), cycle(3))),
        (blocks(cycle(4), cycle(6)), blocks(cycle(5), cycle(5))),
        (1 - cycle(8), 1 - blocks(cycle(4), cycle(4))),
        (
            nx.to_numpy_array(nx.random_regular_graph(3, 40, seed=1)),
            nx.to_numpy_array(nx.random_regular_graph(3, 40, seed=2)),
        ),
        (
            PETERSEN,
            nx.to_numpy_array(nx.circular_ladder_graph(5)),
        ),
        (  # strongly regular graphs of 16 vertices, and their edges
            nx.incidence_matrix(nx.line_graph(nx.complete_bipartite_graph(4, 4))).toarray().T,
            nx.incidence_matrix(nx.Graph(SHRIKHANDE)).toarray().T,
        ),
    ],
    ids=["6+6 or 12", "8+12 or 10+10", "their complements", "regular", "prism", "shrikhande"],
)
def test_what_refinement_cannot_tell_apart_has_different_digests(one: Any, other: Any) -> None:
    a, b = prepare(below_full(one)), prepare(below_full(other))
    for x, y in zip(stable_colours(a, True), stable_colours(b, True), strict=True):
        np.testing.assert_array_equal(np.sort(x), np.sort(y))
    forms = [canonical_form(t, True) for t in (a, b)]
    assert forms[0].exact
    assert forms[1].exact
    assert forms[0].digest != forms[1].digest
    assert bliss(a, True) != bliss(b, True)


def test_offsets_label_the_inputs_of_a_group() -> None:
    """One neuron read at offsets 0 and 1 is not two neurons read at one offset each."""
    one = [full(2, 1), np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=np.bool_)]
    other = [full(2, 1), np.array([[1, 0, 0, 1], [0, 1, 1, 0]], dtype=np.bool_)]
    assert (
        canonical_form(prepare(one), False).digest != canonical_form(prepare(other), False).digest
    )
    assert_same_form(one, False, range(4))
    assert_same_form(other, False, range(4))


def plain_refinement(masks: Sequence[Mask], rounds: int) -> list[list[int]]:
    """Colours of all neurons after so many rounds, in Python's hashes of sorted tuples."""
    colours = [[index] * mask.shape[0] for index, mask in enumerate(masks)]
    for _ in range(rounds):
        new = []
        for index, mask in enumerate(masks):
            below = range(mask.shape[1]) if index == 0 else colours[index - 1]
            above = masks[index + 1] if index + 1 < len(masks) else np.zeros((0, mask.shape[0]))
            new.append(
                [
                    hash(
                        (
                            colours[index][r],
                            tuple(sorted(below[k] for k in np.flatnonzero(mask[r]))),
                            tuple(
                                sorted(colours[index + 1][s] for s in np.flatnonzero(above[:, r]))
                            ),
                        )
                    )
                    for r in range(mask.shape[0])
                ]
            )
        colours = new
    return colours


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_colours_of_two_networks_agree_exactly_where_rounds_of_refinement_do(
    seed: int, density: float
) -> None:
    """However many rounds the one or the other needs: sixty are enough for both."""
    rng = np.random.default_rng(seed)
    one = [rng.random(shape) < density for shape in ((6, 3), (6, 6), (6, 6))]
    other = relabelled(one, seed, False)
    other[2] = rng.random((6, 6)) < density
    ours = [np.concatenate(stable_colours(prepare(masks), False)) for masks in (one, other)]
    plain = [list(chain(*plain_refinement(masks, 60))) for masks in (one, other)]
    for x, y in itertools.product(range(18), repeat=2):
        assert (ours[0][x] == ours[1][y]) == (plain[0][x] == plain[1][y])
        assert (ours[0][x] == ours[0][y]) == (plain[0][x] == plain[0][y])


def test_the_form_is_exact_even_where_all_hashes_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(topology: Topology, labelled_outputs: bool) -> tuple[Any, ...]:
        return tuple(np.zeros(layer.shape[0], dtype=np.uint64) for layer in topology.layers)

    monkeypatch.setattr(canonical, "stable_colours", blind)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        density = rng.random()
        masks = [rng.random(shape) < density for shape in ((7, 5), (8, 14), (4, 8))]
        assert_same_form(masks, bool(seed % 2), [seed])


def test_a_search_that_is_too_long_says_so_and_still_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(labelling, "BUDGET", 100_000)
    masks = below_full(SYMMETRIC["torus"])
    form = canonical_form(prepare(masks), True)
    assert not form.exact
    for order in form.orders:
        assert np.all(np.sort(order) == np.arange(len(order)))
    easy = [np.random.default_rng(0).random((30, 30)) < 0.2 for _ in range(3)]
    assert canonical_form(prepare(easy), True).exact


def test_a_monster_ends_within_the_budget() -> None:
    """Moves of a rook on 24 x 24: more automorphisms than a small budget can follow."""
    mask = nx.to_numpy_array(nx.line_graph(nx.complete_bipartite_graph(24, 24)))
    form = canonical_form(prepare(below_full(mask)), True)
    assert np.all(np.sort(form.orders[1]) == np.arange(24 * 24))


@pytest.mark.parametrize("epoch", [0, 190])
def test_published_networks_have_as_many_colours_as_was_found(published: Path, epoch: int) -> None:
    for worker in range(3):
        folder = published / f"e5_s0_w{worker}" / f"epoch_{epoch:03d}"
        masks = [
            load_npz(folder / f"weight_l{index}.npz").toarray()[:-1].T != 0 for index in range(4)
        ]
        form = canonical_form(prepare(masks), True)
        assert form.exact
        colours = [len(np.unique(layer)) for layer in form.colours]
        if epoch == 0:
            assert colours[:2] == [784, 784]
        assert colours[3] == 10
        assert 724 <= colours[2] <= 770
        assert_same_form(masks, True, [worker])
        assert_same_form(masks[:3], False, [worker])
