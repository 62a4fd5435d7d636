"""The map of a held-out part: what is drawn, what it is called, and where PCA puts it."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.evaluation import embedding_map as module
from msiam.evaluation.embedding_map import CLASSES, embedding_map


@pytest.fixture(autouse=True)
def without_umap(monkeypatch):
    """As where it is not installed, so that the places are PCA's."""
    monkeypatch.setitem(sys.modules, "umap", None)


def classed(make, classes: int, each: int):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(classes), each)
    vectors = rng.normal(size=(classes, 6))[groups] + 0.01 * rng.normal(size=(len(groups), 6))
    return make({"face": range(len(groups))}, {"face": groups}, {"face": vectors}, classed=True)


def test_a_few_classes_are_drawn_each_in_a_colour_of_its_own(make):
    embedded = classed(make, classes=20, each=30)
    items = [f"item {n}" for n in range(600)]
    names = [f"person {n}" for n in range(20)]
    drawn = embedding_map(embedded, {"face": items}, names, most=160)
    assert drawn is not None and len(drawn.kinds) == CLASSES and not drawn.lines
    counts = np.bincount([point.kind for point in drawn.points])
    assert counts.tolist() == [160 // CLASSES] * CLASSES
    for point in drawn.points:
        assert 0 <= point.x <= 1 and 0 <= point.y <= 1 and not point.false
        of = int(point.item.split()[1]) // 30
        assert drawn.kinds[point.kind] == names[of]
    assert drawn.caption.startswith("160 held-out items of 8 classes, drawn at random. The two dir")
    assert drawn.caption.endswith("what is near here need not be near in all 6 dimensions.")
    # Classes that lie apart in all directions lie apart on the map.
    at = np.array([(point.x, point.y) for point in drawn.points])
    kind = np.array([point.kind for point in drawn.points])
    centres = np.stack([at[kind == k].mean(axis=0) for k in range(CLASSES)])
    nearest = np.linalg.norm(at[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == kind).all()


def test_a_part_of_few_classes_is_drawn_whole(make):
    drawn = embedding_map(classed(make, classes=3, each=2), {"face": list("abcdef")}, "xyz")
    assert drawn is not None and drawn.kinds == ["x", "y", "z"]
    assert sorted(point.item for point in drawn.points) == list("abcdef")


def test_pairs_are_joined_and_those_of_two_towers_told_apart_by_column(make, aligned):
    embedded = aligned(100)
    values = {"a": [f"a{n}" for n in range(100)], "b": [f"b{n}" for n in range(100)]}
    drawn = embedding_map(embedded, values, most=60)
    assert drawn is not None and drawn.kinds == ["a", "b"] and not drawn.claims
    assert len(drawn.points) == 60 and len(drawn.lines) == 30
    for one, other, same in drawn.lines:
        left, right = drawn.points[one], drawn.points[other]
        assert same and left.item[1:] == right.item[1:]
        assert (left.kind, right.kind) == (0, 1)


def test_labelled_pairs_are_drawn_half_of_each_sort_and_an_item_once(make):
    same = [row % 10 == 0 for row in range(100)]
    rng = np.random.default_rng(1)
    embedded = make(
        {"a": [0] * 100, "b": range(1, 101)},
        {"a": range(100), "b": range(100, 200)},
        {"t": rng.normal(size=(101, 5))},
        towers={"a": "t", "b": "t"},
        same=same,
    )
    drawn = embedding_map(embedded, {"t": [str(n) for n in range(101)]}, most=20)
    assert drawn is not None and drawn.kinds == []
    assert sorted(together for *_, together in drawn.lines) == [False] * 5 + [True] * 5
    assert len(drawn.points) == 11
    assert len({point.item for point in drawn.points}) == 11


def test_what_only_claims_its_class_is_marked(make):
    embedded = make(
        {"s": range(6)},
        {"s": [0, 0, 2, 1, 1, 3]},
        {"s": np.random.default_rng(2).normal(size=(6, 4))},
        classed=True,
    )
    examples = replace(embedded.examples, claims=np.array([0, 0, 0, 1, 1, 1]))
    drawn = embedding_map(replace(embedded, examples=examples), {"s": list("abcdef")}, ["p", "q"])
    assert drawn is not None and drawn.claims and drawn.kinds == ["p", "q"]
    assert {point.item for point in drawn.points if point.false} == {"c", "f"}


def test_too_few_items_and_vectors_of_two_widths_make_no_map(make):
    few = make({"a": [0], "b": [0]}, {"a": [0], "b": [0]}, {"a": [[1.0]], "b": [[1.0]]})
    assert embedding_map(few, {"a": ["x"], "b": ["y"]}) is None
    two = make(
        {"a": range(9), "b": range(9)},
        {"a": range(9), "b": range(9)},
        {"a": np.ones((9, 3)), "b": np.ones((9, 4))},
    )
    assert embedding_map(two, {"a": list(range(9)), "b": list(range(9))}) is None


@given(
    rows=st.integers(4, 12),
    width=st.integers(1, 5),
    rank=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_pca_keeps_as_much_of_the_distances_as_two_directions_can(rows, width, rank, seed):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, width))).astype(np.float32)
    flat, share = module._pca(vectors)
    assert flat.shape == (rows, 2) and np.isfinite(flat).all()
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    values = np.sort(np.linalg.eigvalsh(centred.T @ centred))[::-1]
    if values.sum() > 1e-6:
        assert share == pytest.approx(values[:2].sum() / values.sum(), abs=1e-4)
    assert (flat**2).sum() == pytest.approx(values[:2].sum(), rel=1e-3, abs=1e-6)


def test_equal_vectors_lie_in_one_place(make):
    embedded = make({"a": range(5)}, {"a": [0, 0, 0, 1, 1]}, {"a": np.ones((5, 3))}, classed=True)
    drawn = embedding_map(embedded, {"a": list("abcde")}, ["x", "y"])
    assert drawn is not None and {(point.x, point.y) for point in drawn.points} == {(0, 0)}


def test_umap_draws_it_where_it_is_installed(make, monkeypatch):
    class UMAP:
        def __init__(self, **options):
            assert options["n_neighbors"] == 5 and options["random_state"] == 0

        def fit_transform(self, vectors):
            return np.stack([np.arange(len(vectors)), np.zeros(len(vectors))], axis=1)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    drawn = embedding_map(classed(make, classes=3, each=2), {"face": list("abcdef")}, "xyz")
    assert drawn is not None and ". By UMAP, which keeps neighbours; what is near" in drawn.caption
    assert [point.x for point in drawn.points] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
