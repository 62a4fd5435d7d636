from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from msiam.data.streams import open_stream
from msiam.errors import GalleryError
from msiam.gallery.gallery import Gallery
from msiam.gallery.hits import Hit

COUNT, DIM = 2000, 16
#: One of each kind: exact, graphs, inverted lists, codes, and codes that are scored again.
FACTORIES = [
    "Flat", "HNSW16", "NSG16", "IVF32,Flat", "IVF32,SQ8", "IVF32,PQ8x4fs,RFlat",
    "IVF32,RaBitQ,RFlat", "IVF32,RaBitQfs,RFlat", "RaBitQfs", "RaBitQ,RFlat", "HNSW16,RFlat",
]  # fmt: skip


def drawn(count, seed):
    """Unit vectors about forty centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, DIM))
    found = centres[rng.integers(0, 40, count)] + 0.6 * rng.normal(size=(count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


VECTORS, QUERIES = drawn(COUNT, 0), drawn(12, 1)


class Numbers:
    """A model whose texts are numbers of vectors: of the gallery's, or with a q of the queries."""

    def __init__(self):
        self.columns = {"text": "text"}

    def fingerprint(self):
        return "numbers"

    def column_for(self, query, but=None):
        return "text"

    def embed(self, column, items, root=None, progress=None, how=None):
        of = [QUERIES[int(i[1:])] if i.startswith("q") else VECTORS[int(i)] for i in items]
        return np.array(of, np.float32).reshape(-1, DIM), []


ROWS = [
    {
        "sku": f"s{n}",
        "text": str(n),
        "shelf": n % 100,
        "article": None if n % 97 == 0 else f"a{n % 250}",
        "price": n / 10,
    }
    for n in range(COUNT)
]


@pytest.fixture(scope="module", params=FACTORIES)
def gallery(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("galleries") / "g"
    options = {"factory": request.param}
    return Gallery.build(Numbers(), ROWS, "text", folder, "sku", options=options)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return Gallery.build(Numbers(), ROWS, "text", tmp_path_factory.mktemp("flat") / "g", "sku")


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Inverted lists of which a search looks into one."""
    folder = tmp_path_factory.mktemp("lists") / "g"
    options = {"factory": "IVF64,Flat", "nprobe": 1}
    return Gallery.build(Numbers(), ROWS, "text", folder, "sku", options=options)


def plainly(query, k, passes=lambda row: True, threshold=-2, group=None, exclude=()):
    """The hits of one query, as going through all rows finds them."""
    hits, seen = [], set()
    scores = VECTORS @ query
    for n in np.argsort(-scores, kind="stable").tolist():
        row = ROWS[n]
        if not passes(row) or scores[n] < threshold or row["sku"] in exclude:
            continue
        value = n if group is None or row[group] is None else ("of", row[group])
        if value not in seen and len(hits) < k:
            seen.add(value)
            hits.append((row["sku"], pytest.approx(scores[n], abs=1e-5)))
    return hits


def found(hits):
    return [(hit.id, hit.score) for hit in hits]


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ("shelf = 7", lambda row: row["shelf"] == 7),  # one in a hundred
        ("price < 0.5", lambda row: row["price"] < 0.5),  # fewer than k
        ("shelf != 7", lambda row: row["shelf"] != 7),  # nearly all
        ("sku in ('s5', 's6')", lambda row: row["sku"] in ("s5", "s6")),
    ],
)
def test_a_filter_finds_the_very_nearest_whatever_the_index(gallery, where, passes):
    for query, hits in zip(QUERIES, gallery.search_vectors(QUERIES, 10, where=where), strict=True):
        assert found(hits) == plainly(query, 10, passes)
    (alone,) = gallery.search_vectors(QUERIES[:1], 10, where=where)
    assert found(alone) == plainly(QUERIES[0], 10, passes)


def test_exact_finds_the_very_nearest_whatever_the_index(gallery):
    for query, hits in zip(QUERIES, gallery.search_vectors(QUERIES, 10, exact=True), strict=True):
        assert found(hits) == plainly(query, 10)


def test_a_record_finds_its_like_whatever_the_index(gallery):
    ids = ["s3", "s1999", "s3"]
    for id, hits in zip(ids, gallery.search_ids(ids, 5, exact=True), strict=True):
        assert found(hits) == plainly(VECTORS[int(id[1:])], 5, exclude=[id])
    alone = gallery.search_ids("s3", 5, exact=True, exclude=False)
    assert found(alone) == plainly(VECTORS[3], 5)


@pytest.mark.parametrize("options", list(itertools.product([0, 1], repeat=4)))
def test_all_options_go_together(flat, options):
    where, threshold, group, exclude = options
    asked, plain = {}, {}
    if where:
        asked["where"], plain["passes"] = "shelf < 50", lambda row: row["shelf"] < 50
    if threshold:
        asked["threshold"] = plain["threshold"] = 0.55
    if group:
        asked["group"] = plain["group"] = "article"
    near = [[id for id, _ in plainly(query, 4)] for query in QUERIES]
    if exclude:
        asked["exclude"] = near
    hits = flat.search_vectors(QUERIES, 15, **asked)
    for n, query in enumerate(QUERIES):
        expected = plainly(query, 15, **plain, exclude=near[n] if exclude else ())
        assert found(hits[n]) == expected
    assert any(hits)


def test_the_best_of_each_group_until_there_are_k(lists):
    """The list that a search looks into has fewer groups than are asked for."""
    fewer = lists.search_vectors(QUERIES, 200)
    assert all(0 < len(hits) < 200 for hits in fewer)
    for query, hits in zip(
        QUERIES, lists.search_vectors(QUERIES, 200, group="article"), strict=True
    ):
        assert found(hits) == plainly(query, 200, group="article")


def test_more_groups_than_there_are(flat):
    (hits,) = flat.search_vectors(QUERIES[:1], COUNT, group="shelf")
    assert sorted(hit.record["shelf"] for hit in hits) == list(range(100))


def test_records_without_a_value_are_groups_of_their_own(flat):
    (hits,) = flat.search_vectors(QUERIES[:1], COUNT, group="article")
    alone = [hit.id for hit in hits if hit.record["article"] is None]
    assert len(alone) == len([row for row in ROWS if row["article"] is None])
    assert len(hits) - len(alone) == 250


def test_a_search_leaves_out_the_records_that_are_the_query(flat):
    assert flat.search("7", 1)[0].id == "s7"
    assert found(flat.search("7", 5, exclude=True)) == plainly(VECTORS[7], 5, exclude=["s7"])
    both = flat.search(["7", "q0"], 3, exclude=True)
    assert [hit.id for hit in both[1]] == [id for id, _ in plainly(QUERIES[0], 3)]


def test_all_records_of_the_same_text_are_left_out(tmp_path):
    rows = [{"text": text} for text in ("1", "2", "1", "3", "1")]
    gallery = Gallery.build(Numbers(), rows, "text", tmp_path / "g")
    assert sorted(hit.id for hit in gallery.search("1", 5, exclude=True)) == ["1", "3"]
    assert len(gallery.search("1", 5)) == 5


def test_a_picture_is_left_out_however_its_file_is_named(toy, tmp_path, monkeypatch):
    pictures = tmp_path / "table" / "pictures"
    pictures.mkdir(parents=True)
    for name in "abc":
        (pictures / f"{name}.png").write_bytes(name.encode())
    table = tmp_path / "table" / "t.csv"
    table.write_text("image\n" + "".join(f"pictures/{name}.png\n" for name in "abc"))
    model = toy.Toy()
    embed = model.embed
    monkeypatch.setattr(
        model,
        "embed",
        lambda column, items, root=None, *more, **how: embed(
            column, [(root / i if root else i).read_bytes() for i in map(Path, items)]
        ),
    )
    gallery = Gallery.build(model, open_stream(str(table)), "image", tmp_path / "g")
    monkeypatch.chdir(tmp_path / "table")
    (tmp_path / "link.png").symlink_to(pictures / "b.png")
    for name in ("pictures/b.png", str(pictures / "b.png"), "./pictures/../pictures/b.png"):
        assert sorted(h.id for h in gallery.search(name, column="image", exclude=True)) == [
            "0",
            "2",
        ]
    hits = gallery.search("../link.png", column="image", exclude=True)
    assert sorted(hit.id for hit in hits) == ["0", "2"]


def test_what_cannot_be_told_to_be_a_record(flat, toy, tmp_path):
    with pytest.raises(
        GalleryError, match=r"exclude: query .* is neither a text nor a file's name"
    ):
        flat.search({"bytes": b"x", "path": None}, 3, exclude=True)
    rows = [{"image": {"bytes": b"a", "path": None}}]
    gallery = Gallery.build(toy.Toy(), rows, "image", tmp_path / "g")
    with pytest.raises(GalleryError, match="exclude: the records do not keep their 'image'"):
        gallery.search("a", 3, exclude=True)


@pytest.mark.parametrize("threshold", [0.5, 2, -1.0, -np.inf, np.float32(0.5), 1])
def test_a_threshold_is_the_lowest_score(flat, threshold):
    for query, hits in zip(
        QUERIES, flat.search_vectors(QUERIES, 30, threshold=threshold), strict=True
    ):
        assert found(hits) == plainly(query, 30, threshold=threshold)


def test_the_threshold_of_the_run(flat):
    with pytest.raises(GalleryError, match=r"has no threshold of a run.*; give a number"):
        flat.search_vectors(QUERIES, threshold="run")
    flat.threshold = 0.6
    try:
        assert flat.search_vectors(QUERIES, threshold="run") == flat.search_vectors(
            QUERIES, threshold=0.6
        )
    finally:
        flat.threshold = None


@pytest.mark.parametrize("threshold", ["0.5", "ran", float("nan"), True, [0.5], None.__class__])
def test_what_is_no_threshold(flat, threshold):
    with pytest.raises(GalleryError, match=r"threshold: found .*; give a number, or 'run'"):
        flat.search_vectors(QUERIES, threshold=threshold)


def test_a_filter_that_nothing_passes_finds_nothing(gallery):
    assert gallery.search_vectors(QUERIES[:2], where="price < 0") == [[], []]
    assert gallery.search("q0", where="price < 0", group="article", threshold=0.1) == []


def test_no_queries_find_nothing(flat):
    none = np.empty((0, DIM), np.float32)
    assert flat.search_vectors(none, where="shelf = 1", group="article") == []
    assert flat.search_ids([]) == flat.search([], exclude=True) == []


@pytest.mark.parametrize("k", [COUNT, COUNT + 1, 10**9])
def test_k_beyond_the_gallery(flat, k):
    assert len(flat.search_ids("s0", k)) == COUNT - 1
    assert len(flat.search("q0", k, where="shelf = 1")) == COUNT / 100
    assert len(flat.search("q0", k, group="shelf")) == 100


@pytest.mark.parametrize(
    "options", [{}, {"where": "shelf = 1"}, {"group": "shelf"}, {"threshold": 0.1}, {"exact": True}]
)
@pytest.mark.parametrize(
    ("vectors", "k", "message"),
    [
        (np.ones((1, 3)), 1, r"vectors to search: found shape \(1, 3\), and \(n, 16\) is right"),
        (np.ones(16), 1, r"found shape \(16,\)"),
        (np.full((2, 16), np.nan), 1, "row 0 holds NaN or infinity"),
        (np.zeros((1, 16)), 1, "row 0 is zero"),
        ([["a"] * 16], 1, "are no array of numbers"),
        (QUERIES, 0, "k: found 0; the number of hits must be 1 or more"),
        (QUERIES, -3, "k: found -3"),
        (QUERIES, 1.5, "k: found 1.5"),
    ],
)
def test_vectors_and_numbers_that_are_wrong(flat, options, vectors, k, message):
    with pytest.raises(GalleryError, match=message):
        flat.search_vectors(vectors, k, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "prize < 5"}, "where: ⟨here⟩prize < 5 .*did you mean 'price'"),
        ({"where": "price < 'x'"}, r"where: price < ⟨here⟩'x'.*column 'price' holds numbers"),
        ({"where": ""}, "where: .*is empty"),
        ({"where": 5}, "where: found 5; a filter is a text"),
        ({"where": "x" * 10**7}, "where: has 10,000,000 characters"),
        (
            {"group": "artikel"},
            "group: the records have no column 'artikel'; did you mean 'article'",
        ),
        ({"exclude": ["s1"]}, "exclude: give a list of ids for each of the vectors"),
        ({"exclude": "s" * len(QUERIES)}, "exclude: give a list of ids for each"),
    ],
)
def test_options_that_are_wrong(flat, options, message):
    with pytest.raises(GalleryError, match=message):
        flat.search_vectors(QUERIES, **options)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("s2000", "has no record 's2000'"),
        (["s1", "s99999"], "has no record 's99999'"),
        ("x" * 10**7, "has no record 'x{80}'"),
        (5, "id: found 5; the ids of records are texts"),
        (["s1", None], "id: found None"),
    ],
)
def test_records_that_are_not_there(flat, ids, message):
    with pytest.raises(GalleryError, match=message) as caught:
        flat.search_ids(ids)
    assert len(str(caught.value)) < 300


def test_without_a_model_there_are_vectors_and_records_to_search_with(flat):
    opened = Gallery.open(flat.folder)
    assert opened.search_ids("s1", 2, where="shelf < 3") == flat.search_ids(
        "s1", 2, where="shelf < 3"
    )
    assert isinstance(opened.search_vectors(QUERIES[:1], 1, group="shelf")[0][0], Hit)
    with pytest.raises(GalleryError, match="was opened without a model"):
        opened.search("q0")


def test_filters_and_groups_follow_the_changes_of_a_gallery(tmp_path):
    rows = [row for row in ROWS[:300] if row["shelf"] < 50]
    gallery = Gallery.build(Numbers(), rows, "text", tmp_path / "g", "sku")
    options = {"where": "shelf in (7, 70)", "group": "article"}
    assert {hit.record["shelf"] for hit in gallery.search("q0", 99, **options)} == {7}
    gallery.add([row for row in ROWS[:300] if row["shelf"] >= 50])
    gallery.remove(["s7", "s170"])

    def passes(row):
        return (
            row["shelf"] in (7, 70) and row["sku"] not in ("s7", "s170") and int(row["text"]) < 300
        )

    for opened in (gallery, Gallery.open(gallery.folder)):
        (hits,) = opened.search_vectors(QUERIES[:1], 99, **options)
        assert found(hits) == plainly(QUERIES[0], 99, passes, group="article")
    with pytest.raises(GalleryError, match="has no record 's7'"):
        gallery.search_ids("s7")
    gallery.add([{"sku": "new", "text": "7", "colour": "red"}])
    assert [hit.id for hit in gallery.search("7", where="colour = 'red'")] == ["new"]
    assert len(gallery.search("7", 999, where="colour is null")) == 298


def test_an_empty_gallery_finds_nothing(gallery_without_records):
    empty = gallery_without_records
    assert len(empty) == 0
    for options in (
        {},
        {"where": "shelf = 1"},
        {"group": "shelf"},
        {"threshold": 0.1},
        {"exact": 1},
    ):
        assert empty.search_vectors(QUERIES[:2], 5, **options) == [[], []]
        assert empty.search("q1", **options) == []
    assert empty.search("q1", exclude=True) == []
    with pytest.raises(GalleryError, match="has no record 's1'"):
        empty.search_ids("s1")
    with pytest.raises(GalleryError, match="where: shelf =⟨here⟩"):
        empty.search("q1", where="shelf =")
    with pytest.raises(GalleryError, match="k: found 0"):
        empty.search("q1", 0)


@pytest.fixture
def gallery_without_records(tmp_path):
    gallery = Gallery.build(Numbers(), ROWS[:3], "text", tmp_path / "g", "sku")
    gallery.remove(["s0", "s1", "s2"])
    return gallery
