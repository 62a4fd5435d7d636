from __future__ import annotations

import resource

import datasets
import numpy as np
import pyarrow as pa
import pytest

from msiam.errors import GalleryError, MsiamError, RecipeError, RunError
from msiam.gallery import building
from msiam.gallery.gallery import Gallery

ROWS = [{"sku": f"s{n}", "text": f"text {n}"} for n in range(5)]


def test_the_manifest_says_what_the_gallery_is(toy, tmp_path):
    (tmp_path / "run").mkdir()
    folder = tmp_path / "galleries" / "one"
    gallery = Gallery.build(
        toy.Toy(), ROWS, column="text", folder=folder, id="sku", run=tmp_path / "run"
    )
    found = gallery.manifest
    assert (found.count, found.dim, found.column, found.id) == (5, 16, "text", "sku")
    whole = {"factory": "Flat", "nprobe": None, "ef_search": None, "k_factor": None}
    assert (found.backend, found.options) == ("faiss", whole)
    assert found.fingerprint == "made by toy"
    assert found.run == "../../run" and gallery.run == tmp_path / "run"
    assert found.root is None and gallery.root is None
    for stored in found.files:
        assert (folder / stored.name).stat().st_size == stored.size
    assert toy.files(folder) == toy.WHOLE


def test_it_says_what_it_is(toy, tmp_path):
    gallery = Gallery.build(toy.Toy(), ROWS, column="text", folder=tmp_path / "one")
    assert repr(gallery) == f"Gallery('{tmp_path}/one', 5 records of 'text')"


def test_what_is_no_model_is_refused(tmp_path):
    class Run:
        pass

    with pytest.raises(GalleryError, match=r"found a Run; give a model, as run\.model is one"):
        Gallery.build(Run(), ROWS, column="text", folder=tmp_path / "one")
    with pytest.raises(GalleryError, match="found a Table; give a model"):  # which has columns
        Gallery.build(pa.table({"text": ["a"]}), ROWS, column="text", folder=tmp_path / "one")


def test_a_gallery_and_its_run_may_move_together(toy, tmp_path):
    for name in ("there", "there/run", "here"):
        (tmp_path / name).mkdir()
    Gallery.build(
        toy.Toy(), ROWS, "text", tmp_path / "there" / "gallery", run=tmp_path / "there" / "run"
    )
    (tmp_path / "there").rename(tmp_path / "here" / "moved")
    gallery = Gallery.open(tmp_path / "here" / "moved" / "gallery")
    assert gallery.run == tmp_path / "here" / "moved" / "run"


def test_a_file_with_pictures_beside_it(toy, tmp_path):
    for name in ("red", "blue"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "t.csv").write_text("text,image\nr,red.png\nb,blue.png\n")
    model = toy.Toy()
    gallery = Gallery.build(model, tmp_path / "t.csv", column="image", folder=tmp_path / "gallery")
    assert model.calls == [("image", ["red.png", "blue.png"], tmp_path)]
    assert gallery.root == tmp_path
    assert [hit.record for hit in gallery.search("red.png", k=1)] == [
        {"text": "r", "image": "red.png"}
    ]


def test_rows_that_cannot_be_read_are_set_aside_and_the_others_keep_their_ids(
    toy, tmp_path, monkeypatch
):
    monkeypatch.setattr(building, "ROWS", 3)
    bad = {0, 3, 4, 5, 10}  # the second chunk has no good row at all
    rows = [{"text": "" if n in bad else f"text {n}", "n": n} for n in range(11)]
    counted = []
    gallery = Gallery.build(
        toy.Toy(), rows, column="text", folder=tmp_path / "g", progress=counted.append
    )
    assert gallery.rejected == [(row, "is empty") for row in sorted(bad)]
    assert len(gallery) == 6 and counted == [3, 3, 3, 2]
    for n in sorted(set(range(11)) - bad):
        hit = gallery.search(f"text {n}", k=1)[0]
        assert (hit.id, hit.record["n"], round(hit.score, 5)) == (str(n), n, 1)


def test_pictures_come_in_chunks_and_are_not_kept(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "ROWS", 2)
    pictures = [{"bytes": b"pixels %d" % n, "path": f"{n}.png"} for n in range(5)]
    features = datasets.Features({"image": datasets.Image(decode=False)})
    table = datasets.Dataset.from_dict({"image": pictures}, features=features)
    model = toy.Toy()
    gallery = Gallery.build(model, table, column="image", folder=tmp_path / "g")
    assert [len(items) for _, items, _ in model.calls] == [2, 2, 1]
    assert gallery.search({"bytes": b"pixels 3", "path": None}, k=1)[0].record == {"image": "3.png"}
    assert b"pixels" not in next((tmp_path / "g").glob("catalogue*")).read_bytes()


def test_in_which_precision_it_is_embedded_and_what_is_kept(toy, tmp_path, monkeypatch):
    found = []
    for precision, most in (("fp32", len(ROWS)), ("bf16", len(ROWS) - 1)):
        monkeypatch.setattr(building, "MOST_KEPT", most)
        model = toy.Toy()
        embed = model.embed
        model.embed = lambda *rest, embed=embed: found.append(rest[-1]) or embed(*rest)
        Gallery.build(model, ROWS, "text", tmp_path / precision, precision=precision)
    assert [(how.precision, how.keep) for how in found] == [("fp32", True), ("bf16", False)]
    with pytest.raises(RecipeError, match="precision: found 'int8'"):
        Gallery.build(toy.Toy(), ROWS, "text", tmp_path / "no", precision="int8")


def test_building_again_replaces_the_gallery_and_leaves_nothing_of_the_old_one(toy, tmp_path):
    for count in (5, 2):
        gallery = Gallery.build(toy.Toy(), ROWS[:count], column="text", folder=tmp_path / "g")
        assert len(gallery) == count and toy.files(tmp_path / "g") == toy.WHOLE


def with_nan(vectors):
    vectors[3, 1] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": []}, "has no rows"),
        ({"column": "txt"}, "the model has no column 'txt'; did you mean 'text'"),
        ({"column": "image"}, "no column 'image'"),
        ({"id": "skuu"}, "no column 'skuu'; did you mean 'sku'"),
        ({"table": [*ROWS, ROWS[1]]}, "rows 1 and 5 have the same 'sku', 's1'"),
        (
            {"table": [{"sku": "a", "text": ""}]},
            "none of its 1 rows can be embedded; row 0: is empty",
        ),
        ({"backend": "fais"}, "no backend 'fais'; did you mean 'faiss'"),
        (
            {"options": {"factori": "Flat"}},
            "backend faiss.*factori: no such key; did you mean 'factory'",
        ),
        ({"options": {"factory": "Flt"}}, "FAISS index 'Flt': FAISS refuses it"),
        ({"table": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_old_gallery(toy, tmp_path, arguments, message):
    build = {"table": ROWS, "column": "text", "folder": tmp_path / "g", "id": "sku"}
    before = Gallery.build(toy.Toy(), **build).manifest
    with pytest.raises(MsiamError, match=message) as caught:
        Gallery.build(toy.Toy(), **{**build, **arguments})
    assert "\n" not in str(caught.value)
    assert Gallery.open(tmp_path / "g").manifest == before
    assert toy.files(tmp_path / "g") == toy.WHOLE


def test_bad_input_makes_no_folder(toy, tmp_path):
    with pytest.raises(GalleryError):
        Gallery.build(toy.Toy(), [*ROWS, ROWS[0]], "text", tmp_path / "g", id="sku")
    with pytest.raises(RecipeError):
        Gallery.build(toy.Toy(), ROWS, "text", tmp_path / "g", options={"x": 1})
    assert not (tmp_path / "g").exists()


def test_an_embedding_with_nan_names_its_row(toy, tmp_path):
    rows = [{"text": ""}, *ROWS]
    with pytest.raises(GalleryError, match="row 4: the model's embedding holds NaN"):
        Gallery.build(toy.changed(with_nan), rows, column="text", folder=tmp_path / "g")


def test_a_full_disk_leaves_the_old_gallery(toy, tmp_path):
    before = Gallery.build(toy.Toy(), ROWS, column="text", folder=tmp_path / "g").manifest
    many = [{"text": f"text {n}"} for n in range(3000)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (3_000, 60_000, 170_000):  # the catalogue's first rows, all its rows, the index
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(RunError, match="no room to write it"):
                Gallery.build(toy.Toy(), many, column="text", folder=tmp_path / "g")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert Gallery.open(tmp_path / "g").manifest == before
        assert toy.files(tmp_path / "g") == toy.WHOLE
