from __future__ import annotations

import csv
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.errors import GalleryError
from msiam.gallery import duplicates
from msiam.gallery.duplicates import Groups, Pairs, find_duplicates, near_pairs
from msiam.gallery.duplicates_file import groups_file, write_duplicates
from msiam.gallery.gallery import Gallery

DIM = 24


class Given:
    """A model that embeds an item, a row's number, as the vector that it was given for it."""

    def __init__(self, vectors):
        self.columns = {"row": "row"}
        self.vectors = vectors

    def fingerprint(self):
        return "given"

    def column_for(self, query, but=None):
        return "row"

    def embed(self, column, items, root=None, progress=None, how=None):
        return self.vectors[np.array(items, np.int64)], []


def gallery_of(vectors, folder, **options):
    rows = [{"row": n, "sku": f"s{n}"} for n in range(len(vectors))]
    return Gallery.build(Given(vectors), rows, "row", folder, "sku", **options)


def units(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def moved(vectors, cosine, seed=1):
    """Others that have this cosine with them."""
    noise = units(len(vectors), seed)
    noise -= (noise * vectors).sum(1, keepdims=True) * vectors
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return cosine * vectors + np.sqrt(1 - cosine**2) * noise


def brute_force(vectors, threshold):
    """All pairs, and by record the first of its component, found by following pairs."""
    near = np.triu(vectors @ vectors.T >= threshold, 1)
    both = near | near.T
    kept = np.arange(len(vectors))
    for first in range(len(vectors)):
        reached, waiting = {first}, [first]
        while waiting:
            new = set(np.flatnonzero(both[waiting.pop()]).tolist()) - reached
            reached |= new
            waiting += new
        kept[first] = min(reached)
    return list(zip(*np.nonzero(near), strict=True)), kept


def as_list(pairs):
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


@pytest.fixture
def planted():
    """500 records, of which 40 are each a near-duplicate of another one, at 0.95, in any order."""
    vectors = units(460)
    vectors = np.concatenate([vectors, moved(vectors[:40], 0.95)])
    order = np.random.default_rng(2).permutation(500)
    place = np.argsort(order)
    pairs = sorted(tuple(sorted((int(place[n]), int(place[460 + n])))) for n in range(40))
    return vectors[order], pairs


@pytest.mark.parametrize("rows", [1024, 64, 7])
def test_planted_duplicates_are_found_all_and_nothing_else(planted, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(duplicates, "ROWS", rows)
    vectors, right = planted
    told = []
    found = find_duplicates(gallery_of(vectors, tmp_path / "g"), 0.94, told.append)
    assert as_list(found.pairs) == right
    np.testing.assert_allclose(found.pairs.scores, 0.95, atol=1e-5)
    assert found.removable.tolist() == sorted(later for _, later in right)
    assert {tuple(group) for group in found.groups()} == set(right)
    assert sum(told) == 500


@settings(max_examples=10)
@given(
    st.integers(1, 60), st.integers(1, 6), st.floats(0.5, 0.99), st.integers(0, 2**31),
    st.sampled_from([3, 16, 1024]),
)  # fmt: skip
def test_pairs_and_groups_are_those_of_brute_force(
    tmp_path_factory, count, centres, threshold, seed, rows
):
    chance = np.random.default_rng(seed)
    centre = units(centres, seed)[chance.integers(centres, size=count)]
    vectors = moved(centre, float(chance.uniform(0.8, 0.99)), seed + 1)
    cosines = (vectors @ vectors.T)[np.triu_indices(count, 1)]
    if (np.abs(cosines - threshold) < 1e-5).any():
        return  # which side it is on, rounding decides
    right, kept = brute_force(vectors, threshold)
    gallery = gallery_of(vectors, tmp_path_factory.mktemp("gallery"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS", rows)
        patch.setattr(duplicates, "FEW", 2)
        patch.setattr(duplicates, "CELLS", 64)
        found = find_duplicates(gallery, threshold)
    assert as_list(found.pairs) == right
    assert found.kept.tolist() == kept.tolist()


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39))))
def test_groups_are_connected_components(count, drawn):
    pairs = [(a, b) for a, b in drawn if a < count and b < count]
    near = np.zeros((count, count), bool)
    for a, b in pairs:
        near[a, b] = near[b, a] = True
    right = np.arange(count)
    for _ in range(count):  # each takes the least number beside it, until all have
        right = np.where(near | np.eye(count, dtype=bool), right, count).min(axis=1)
    groups = Groups(count)
    one, other = (
        np.array(side, np.int64) for side in (zip(*pairs, strict=True) if pairs else ([], []))
    )
    groups.join(Pairs(one, other, np.zeros(len(one), np.float32)))
    assert groups.roots().tolist() == right.tolist()


@pytest.mark.parametrize("rows", [1024, 64])
def test_equal_records_are_each_in_one_pair_with_the_first(tmp_path, monkeypatch, rows):
    """900 of 1,000 are the same but for rounding, and would make 400,000 pairs."""
    monkeypatch.setattr(duplicates, "ROWS", rows)
    vectors = units(1000)
    same = np.setdiff1d(np.arange(1000), np.arange(0, 1000, 10))
    vectors[same] = vectors[same[0]] * (1 + 1e-7 * np.arange(len(same))[:, None] % 3)
    asked = []
    one = Gallery.nearest

    def counted(self, vectors, *rest, **options):
        asked.append(len(vectors))
        return one(self, vectors, *rest, **options)

    monkeypatch.setattr(Gallery, "nearest", counted)
    found = find_duplicates(gallery_of(vectors, tmp_path / "g"), 0.99)
    assert as_list(found.pairs) == [(1, later) for later in same[1:].tolist()]
    assert found.removable.tolist() == same[1:].tolist()
    assert sum(asked) < 150  # 101 records, of which one is asked for more and more


def test_the_pairs_of_an_index_in_lists_have_the_cosines_of_the_vectors(tmp_path):
    vectors = units(2000)
    vectors[1000:] = moved(vectors[:1000], 0.97)
    gallery = gallery_of(vectors, tmp_path / "g", options={"factory": "IVF8,PQ8x4fs", "nprobe": 8})
    found = find_duplicates(gallery, 0.9)
    right = {(n, n + 1000) for n in range(1000)}
    assert set(as_list(found.pairs)) <= right
    np.testing.assert_allclose(found.pairs.scores, 0.97, atol=1e-5)


def test_what_may_not_be(tmp_path, monkeypatch):
    gallery = gallery_of(units(50), tmp_path / "g")
    for threshold in (-1, 1.1, float("nan")):
        with pytest.raises(GalleryError, match=r"threshold: found .*; a cosine above -1, and 1 at"):
            find_duplicates(gallery, threshold)
    monkeypatch.setattr(duplicates, "MOST", 20)
    with pytest.raises(GalleryError, match=r"record 's\d+' has more than 20 near-dup.*; raise it"):
        find_duplicates(gallery, -0.99)
    long = units(9) * np.repeat([1, 2], [3, 6]).astype(np.float32)[:, None]
    with pytest.raises(GalleryError, match=r"record 's3' has length 2\.000; .* normalize: true"):
        find_duplicates(gallery_of(long, tmp_path / "h"), 0.9)


def test_two_files_say_what_is_a_duplicate_and_what_may_go(planted, tmp_path):
    vectors, right = planted
    out = tmp_path / "duplicates.csv"
    written = write_duplicates(gallery_of(vectors, tmp_path / "g"), 0.94, out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["duplicate"]) for row in rows] == [(f"s{a}", f"s{b}") for a, b in right]
    assert {row["score"] for row in rows} <= {"0.950000", "0.949999", "0.950001"}
    with groups_file(out).open(newline="") as file:
        gone = list(csv.DictReader(file))
    assert [(row["id"], row["kept"]) for row in gone] == [
        (f"s{b}", f"s{a}") for a, b in sorted(right, key=lambda pair: pair[1])
    ]
    assert (written.records, written.pairs, written.groups, written.removable) == (500, 40, 40, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "duplicates.csv", "duplicates.groups.csv", "g",
    ]  # fmt: skip


def test_one_that_fails_leaves_both_files_as_they_were(planted, tmp_path, monkeypatch):
    gallery, out = gallery_of(planted[0], tmp_path / "g"), tmp_path / "d.csv"
    write_duplicates(gallery, 0.94, out)
    before = out.read_bytes(), groups_file(out).read_bytes()
    monkeypatch.setattr(Groups, "roots", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_duplicates(gallery, 0.9, out)
    assert (out.read_bytes(), groups_file(out).read_bytes()) == before
    with pytest.raises(
        GalleryError, match=r"d\.txt: duplicates are written as \.csv; found '\.txt'"
    ):
        write_duplicates(gallery, 0.9, tmp_path / "d.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "d.groups.csv", "g"]


def test_pairs_come_in_blocks_and_are_never_all_in_memory(tmp_path, monkeypatch):
    """4,000 records of 20 centres make over 400,000 pairs, of 8 MB in all."""
    monkeypatch.setattr(duplicates, "ROWS", 64)
    monkeypatch.setattr(duplicates, "CELLS", 1 << 14)
    vectors = moved(np.tile(units(20), (200, 1)), 0.95)
    gallery = gallery_of(vectors, tmp_path / "g")
    tracemalloc.start()
    count = sum(len(pairs) for pairs in near_pairs(gallery, 0.6))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    right = np.triu(vectors @ vectors.T >= 0.6, 1).sum()
    assert abs(count - right) < 10 and count > 400_000
    assert peak < 5 << 20
