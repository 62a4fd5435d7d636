from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msiam.errors import GalleryError, PluginError, RecipeError
from msiam.gallery.building import Embedder
from msiam.gallery.gallery import Gallery
from msiam.gallery.hits import Hit
from msiam.gallery.manifest import Manifest
from msiam.gallery.writing import commit
from msiam.towers.model import Model

ROWS = [
    {"sku": "h", "text": "a red heart", "price": 3},
    {"sku": "s", "text": "a blue star", "price": 5},
    {"sku": "m", "text": "a moon", "price": 8},
]


@pytest.fixture
def gallery(toy, tmp_path):
    return Gallery.build(toy.Toy(), ROWS, column="text", folder=tmp_path / "gallery", id="sku")


def file_of(gallery, part):
    return next(gallery.folder.glob(f"{part}*"))


def test_one_query_gives_hits_with_ids_scores_and_records(gallery):
    hits = gallery.search("a red heart", k=2)
    assert hits[0] == Hit("h", pytest.approx(1, abs=1e-6), {"text": "a red heart", "price": 3})
    assert len(hits) == 2 and hits[0].score > hits[1].score
    assert isinstance(hits[0].score, float)


def test_a_list_of_queries_gives_a_list_each_in_order(gallery):
    found = gallery.search(["a moon", "a red heart", "a moon"], k=1)
    assert [[hit.id for hit in hits] for hits in found] == [["m"], ["h"], ["m"]]
    assert gallery.search([], k=1) == []


def test_each_query_goes_through_the_column_that_reads_it(gallery, tmp_path):
    picture = tmp_path / "p.png"
    picture.write_bytes(b"pixels")
    gallery.model.calls.clear()
    found = gallery.search(["a moon", {"bytes": b"a blue star"}, "a red heart"], k=1)
    assert [hits[0].id for hits in found] == ["m", "s", "h"]
    assert [(column, len(items)) for column, items, _ in gallery.model.calls] == [
        ("text", 2),
        ("image", 1),
    ]
    gallery.search(str(picture), k=1)
    assert gallery.model.calls[-1][0] == "image"
    gallery.search(str(picture), k=1, column="text")
    assert gallery.model.calls[-1][0] == "text"


@pytest.mark.parametrize(("column", "other"), [("title", "body"), ("body", "title")])
def test_a_text_goes_through_the_other_column_of_texts(toy, tmp_path, column, other):
    """A body is embedded by the tower of bodies to be found among titles, and not by theirs."""
    towers = {name: {"encoder": "lstm", "dim": 16, "hidden": 8} for name in ("title", "body")}
    model = Model(towers, {"title": "title", "body": "body"})
    texts = [f"{word} {word} and more" for word in ("heart", "star", "moon")]
    for name in towers:
        model.tower(name).fit(texts)
    rows = [{"title": text, "body": text} for text in texts]
    gallery = Gallery.build(model.eval(), rows, column, tmp_path / "g")
    (hits,) = gallery.search_vectors(model.encode({other: texts[:1]})[other])
    assert gallery.search(texts[0]) == hits
    assert gallery.search(texts[0], column=column) != hits
    assert gallery.search(texts[0], column=column)[0].score == pytest.approx(1)


def test_in_which_precision_queries_are_embedded(gallery, monkeypatch):
    found = []
    embed = gallery.model.embed
    monkeypatch.setattr(
        gallery.model, "embed", lambda *a, **k: found.append(k.get("how")) or embed(*a, **k)
    )
    gallery.search("a moon", precision="bf16")
    gallery.search(["a moon"], precision="auto")
    gallery.search("a moon")
    assert [how and how.precision for how in found] == ["bf16", "auto", None]
    with pytest.raises(RecipeError, match="precision: found 'half'; give auto, fp32 or bf16"):
        gallery.search("a moon", precision="half")


def test_more_hits_than_records_gives_all_of_them(gallery):
    assert {hit.id for hit in gallery.search("a moon", k=10**9)} == {"h", "s", "m"}


def test_an_index_that_finds_fewer_gives_fewer(toy, tmp_path):
    rows = [{"text": f"text {n}"} for n in range(80)]
    options = {"factory": "IVF8,Flat"}  # which looks into one cell of eight
    gallery = Gallery.build(toy.Toy(), rows, "text", tmp_path / "g", options=options)
    found = gallery.search([row["text"] for row in rows], k=80)
    assert all(0 < len(hits) < 80 for hits in found)
    assert [hits[0].id for hits in found] == [str(n) for n in range(80)]


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None, "3"])
def test_k_must_be_a_whole_number_from_1(gallery, k):
    with pytest.raises(GalleryError, match=r"k: found .*; the number of hits must be 1 or more"):
        gallery.search("a moon", k=k)


def test_a_query_that_cannot_be_read_is_named(gallery):
    with pytest.raises(GalleryError, match="query '': is empty"):
        gallery.search(["a moon", ""], k=1)


def test_a_column_that_the_model_has_not(gallery):
    with pytest.raises(GalleryError, match="no column 'txt'; did you mean 'text'"):
        gallery.search("a moon", k=1, column="txt")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((2, 3)), r"gallery: vectors to search: found shape \(2, 3\), and \(n, 16\)"),
        (np.zeros(16), r"found shape \(16,\)"),
        (np.full((1, 16), np.nan), "row 0 holds NaN"),
        (np.eye(3, 16) * [[1], [0], [1]], "row 1 is zero, which is near nothing"),
    ],
)
def test_wrong_vectors(gallery, vectors, message):
    with pytest.raises(GalleryError, match=message):
        gallery.search_vectors(vectors, 1)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(count=st.integers(1, 40), queries=st.integers(0, 5), k=st.integers(1, 50))
def test_vectors_find_what_brute_force_finds(toy, tmp_path_factory, count, queries, k):
    rows = [{"text": f"text {n}", "n": n} for n in range(count)]
    folder = tmp_path_factory.mktemp("many") / "g"
    gallery = Gallery.build(toy.Toy(), rows, column="text", folder=folder)
    vectors = np.stack([toy.unit(row["text"]) for row in rows])
    asked = np.random.default_rng(k).normal(size=(queries, 16)).astype(np.float32)
    found = gallery.search_vectors(asked, k)
    best = np.argsort(-(asked @ vectors.T), axis=1)[:, :k]
    assert [[hit.id for hit in hits] for hits in found] == best.astype(str).tolist()
    assert [[hit.record["n"] for hit in hits] for hits in found] == best.tolist()


#: Exact with and without a filter of its own; one that loses much, with whole vectors and without.
FACTORIES = ["Flat", "IVF8,Flat", "HNSW4", "IVF8,PQ4x4fs", "IVF8,PQ4x4fs,RFlat"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_among_some_records_and_when_asked_for_it_is_exact_whatever_the_index(
    toy, tmp_path, factory
):
    rows = [{"text": f"text {n}"} for n in range(300)]
    Gallery.build(toy.Toy(), rows, "text", tmp_path / "g", options={"factory": factory})
    gallery = Gallery.open(tmp_path / "g")
    vectors = np.stack([toy.unit(row["text"]) for row in rows])
    queries = np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32)
    products = queries @ vectors.T
    for share in (1, 0.5, 0.02, 0):
        among = np.random.default_rng(2).random(300) < share
        kept = np.where(among, products, -np.inf)
        best = np.argsort(-kept, axis=1)[:, :5]
        true = np.take_along_axis(kept, best, 1)
        for some in (slice(None), slice(1)):  # few and many queries go different ways
            scores, positions = gallery.nearest(queries[some], 5, among=among)
            np.testing.assert_allclose(scores, true[some], atol=1e-5)
            np.testing.assert_array_equal(positions, np.where(np.isinf(true), -1, best)[some])
    best = np.argsort(-products, axis=1)[:, :5]
    assert (gallery.nearest(queries, 5, exact=True)[1] == best).all()
    np.testing.assert_array_equal(gallery.vectors(np.array([7, 3, 3])), vectors[[7, 3, 3]])
    np.testing.assert_array_equal(np.concatenate(list(gallery.all_vectors())), vectors)
    kept_raw = len(list((tmp_path / "g").glob("vectors-*")))
    assert kept_raw == (factory == "IVF8,PQ4x4fs")


@pytest.mark.parametrize("among", [np.ones(2, bool), np.ones(3, int), [True] * 4])
def test_a_wrong_mask(gallery, toy, among):
    with pytest.raises(GalleryError, match=r"among: found .*, and bool \(3,\) is right"):
        gallery.nearest(toy.unit("a moon")[None], 1, among=among)


def test_records_are_found_by_their_ids_and_read_in_batches(gallery):
    assert gallery.find(["m", "x", "h", "m"]).tolist() == [2, -1, 0, 2]
    assert gallery.find([]).tolist() == []
    (batch,) = gallery.batches()
    assert batch.column("id").to_pylist() == ["h", "s", "m"]
    assert batch.column("record").field("price").to_pylist() == [3, 5, 8]


def test_opened_again_it_finds_the_same(gallery, toy):
    again = Gallery.open(gallery.folder, toy.Toy())
    assert again.search("a moon", k=3) == gallery.search("a moon", k=3)
    assert (len(again), again.dim, again.manifest.column) == (3, 16, "text")
    assert again.rejected == []


def test_without_a_model_only_vectors_are_searched(gallery, toy):
    again = Gallery.open(str(gallery.folder))
    assert again.search_vectors(toy.unit("a moon")[None], 1)[0][0].id == "m"
    with pytest.raises(GalleryError, match="was opened without a model"):
        again.search("a moon")
    assert again.attach(toy.Toy()).search("a moon", k=1)[0].id == "m"


def test_another_model_is_refused_with_both_fingerprints_and_a_remedy(gallery, toy):
    message = r"another model made it \(made by toy, and this one is made by other\).*msiam index"
    with pytest.raises(GalleryError, match=message):
        Gallery.open(gallery.folder, toy.Toy("other"))


@pytest.mark.parametrize("part", ["manifest", "catalogue", "index"])
@pytest.mark.parametrize("place", [0, 0.1, 0.5, 0.9, 1])
def test_a_changed_byte_in_any_file_names_the_file(gallery, part, place):
    path = file_of(gallery, part)
    raw = bytearray(path.read_bytes())
    raw[int(place * (len(raw) - 1))] ^= 1
    path.write_bytes(raw)
    with pytest.raises(GalleryError, match=f"{path.name}: (has changed|is damaged)") as caught:
        Gallery.open(gallery.folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["manifest", "catalogue", "index"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_named(gallery, part, keep):
    path = file_of(gallery, part)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(GalleryError, match=rf"{path.name}: (has \d+ bytes and had|is damaged)"):
        Gallery.open(gallery.folder)


@pytest.mark.parametrize("part", ["manifest", "catalogue", "index"])
def test_a_file_that_is_missing_is_named(gallery, part):
    path = file_of(gallery, part)
    path.unlink()
    with pytest.raises(GalleryError, match=path.name):
        Gallery.open(gallery.folder)


def test_replaced_between_reading_its_manifest_and_its_files(gallery, toy, monkeypatch):
    """What a slow reader sees: it read the old manifest, and the old files are gone."""
    old = Manifest.read(gallery.folder)
    Gallery.build(toy.Toy(), ROWS[:2], column="text", folder=gallery.folder)
    answers = iter([old])
    read = Manifest.read
    monkeypatch.setattr(Manifest, "read", lambda folder: next(answers, None) or read(folder))
    assert len(Gallery.open(gallery.folder)) == 2


def test_a_gallery_that_is_open_outlives_its_replacement(gallery, toy):
    Gallery.build(toy.Toy(), [{"text": "other"}], column="text", folder=gallery.folder)
    assert gallery.search("a moon", k=1)[0].record["price"] == 8


def test_a_backend_that_is_not_installed(gallery):
    manifest = gallery.manifest.model_copy(update={"backend": "qdrant"})
    commit(gallery.folder, manifest)
    with pytest.raises(PluginError, match=r"gallery: no backend 'qdrant'; .*faiss"):
        Gallery.open(gallery.folder)


def test_a_model_is_what_a_gallery_asks_for():
    for name in ("embed", "column_for", "fingerprint"):
        wanted = inspect.signature(getattr(Embedder, name)).parameters
        given = inspect.signature(getattr(Model, name)).parameters
        assert list(given)[: len(wanted)] == list(wanted)


def test_searching_imports_neither_torch_nor_datasets(gallery):
    code = (
        "import sys\n"
        "from msiam import Gallery\n"
        f"gallery = Gallery.open({str(gallery.folder)!r})\n"
        "assert gallery.search_vectors([[1.0] * 16], 1)\n"
        "print(sorted({'torch', 'datasets', 'transformers', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
