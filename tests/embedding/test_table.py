from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from msiam import Model
from msiam.embedding import table as table_module
from msiam.embedding.table import embed_table
from msiam.errors import DataError, GalleryError, MsiamError, RecipeError, RunError
from msiam.towers.inference import How

ROWS = [{"key": f"s{n}", "text": text} for n, text in enumerate(["a heart", "", "a moon"])]


@pytest.fixture(scope="module")
def model() -> Model:
    towers = {
        "text": {"encoder": "lstm", "dim": 8, "hidden": 8},
        "image": {"encoder": "small_cnn", "dim": 8, "size": 32},
    }
    made = Model(towers, {"text": "text", "image": "image"})
    made.tower("text").fit(["a heart", "a moon"])
    made.tower("image").fit([])
    return made.eval()


def test_ids_and_embeddings_of_what_can_be_read(model, tmp_path):
    out = tmp_path / "new" / "vectors.parquet"  # in a folder that is not there yet
    written = embed_table(model, ROWS, out, "text", "key")
    assert (written.count, written.left_out) == (2, 1)
    assert [row for row, _ in written.rejected] == [1]
    found = pq.read_table(out)
    assert found["id"].to_pylist() == ["s0", "s2"]
    right = model.encode({"text": ["a heart", "a moon"]})["text"]
    np.testing.assert_allclose(np.stack(found["embedding"].to_numpy()), right, atol=1e-6)


def test_without_ids_rows_have_their_numbers(model, tmp_path):
    embed_table(model, ROWS, tmp_path / "v.parquet", "text")
    assert pq.read_table(tmp_path / "v.parquet")["id"].to_pylist() == ["0", "2"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, {"key": None, "text": "x"}], "row 3 has no 'key'; each record needs an id"),
        ([*ROWS, ROWS[0]], "rows 0 and 3 have the same 'key', 's0'"),
    ],
)
def test_ids_are_those_that_a_gallery_takes(model, tmp_path, rows, message):
    with pytest.raises(GalleryError, match=message):
        embed_table(model, rows, tmp_path / "v.parquet", "text", "key")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_bytes_is_the_file_beside_its_table(model, tmp_path):
    """As ``datasets`` has a column of pictures that it left where they are."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pictures = pa.array([{"bytes": None, "path": "red.png"}], kind)
    pq.write_table(pa.table({"image": pictures}), tmp_path / "t.parquet")
    written = embed_table(model, tmp_path / "t.parquet", tmp_path / "v.parquet", "image")
    assert (written.count, written.rejected) == (1, [])


def test_what_is_asked_for_must_be_there(model, tmp_path):
    with pytest.raises(RecipeError, match=r"v\.csv: embeddings are written as \.parquet"):
        embed_table(model, ROWS, tmp_path / "v.csv", "text")
    with pytest.raises(DataError, match="no column 'txt'; did you mean 'text'"):
        embed_table(model, ROWS, tmp_path / "v.parquet", "txt")


def test_the_table_itself_is_not_replaced(model, tmp_path, monkeypatch):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "t.parquet")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "t.parquet")
    before = (tmp_path / "t.parquet").read_bytes()
    monkeypatch.chdir(tmp_path)
    for table, out in (("t.parquet", tmp_path / "t.parquet"), ("link.parquet", Path("t.parquet"))):
        with pytest.raises(RunError, match=r"t\.parquet: is the table that is read"):
            embed_table(model, table, out, "text")
    assert (tmp_path / "t.parquet").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


LONG = [{"key": f"s{n}", "text": "" if n % 5 == 2 else f"a heart {n}"} for n in range(20)]


@pytest.fixture
def stopped(model, tmp_path, monkeypatch):
    """A file of which the embedding was stopped after 8 of 20 rows."""
    monkeypatch.setattr(table_module, "ROWS", 4)
    out = tmp_path / "v.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(Model, "embed", after(2, Model.embed))
        with pytest.raises(KeyboardInterrupt):
            embed_table(model, LONG, out, "text", "key")
    assert not out.exists()
    return out


def after(calls, function):
    """The function, and Ctrl+C after so many calls of it."""
    left = iter(range(calls))

    def call(*arguments, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return call


def test_one_that_was_stopped_goes_on_to_the_same_file(model, stopped, tmp_path, monkeypatch):
    embed_table(model, LONG, tmp_path / "right.parquet", "text", "key")
    seen = []
    one = Model.embed

    def embedded(self, column, items, *rest):
        seen.extend(items)
        return one(self, column, items, *rest)

    monkeypatch.setattr(Model, "embed", embedded)
    written = embed_table(model, LONG, stopped, "text", "key", resume=True)
    assert seen == [row["text"] for row in LONG[8:]]
    assert stopped.read_bytes() == (tmp_path / "right.parquet").read_bytes()
    assert (written.count, [row for row, _ in written.rejected]) == (16, [2, 7, 12, 17])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["right.parquet", "v.parquet"]
    # And once more, there is nothing to do.
    again = embed_table(model, LONG, stopped, "text", "key", resume=True)
    assert (again.count, again.left_out) == (16, 4) and len(seen) == 12


def test_one_that_was_stopped_is_not_begun_again_unasked(model, stopped):
    with pytest.raises(RunError, match=r"unfinished .* go on with --resume, or begin again with"):
        embed_table(model, LONG, stopped, "text", "key")
    embed_table(model, ROWS, stopped, "text", "key", overwrite=True)
    assert pq.read_table(stopped)["id"].to_pylist() == ["s0", "s2"]


def test_what_was_not_begun_is_begun(model, tmp_path):
    embed_table(model, ROWS, tmp_path / "v.parquet", "text", "key", resume=True)
    assert pq.read_table(tmp_path / "v.parquet").num_rows == 2


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"table": [*LONG[:-1], {"key": "s19", "text": "changed"}]}, "table"),
        ({"table": [*LONG, {"key": "s20", "text": "more"}]}, "table"),
        ({"column": "other"}, "column"),
        ({"id": None}, "id column"),
        ({"how": How(precision="bf16")}, "precision"),
        ({"model": "another"}, "model"),
    ],
)
def test_it_goes_on_only_as_it_began(model, stopped, tmp_path, change, what, finished):
    table = [{**row, "other": row["text"]} for row in LONG]
    begun = {"model": model, "table": LONG, "column": "text", "id": "key"}
    if change.get("column"):
        begun["table"] = table
        model.columns["other"] = "text"
        embed_table(**begun, out=stopped, overwrite=True)
        finished = True
    elif finished:
        embed_table(**begun, out=stopped, resume=True)
    if change.get("model"):
        made = Model({"text": {"encoder": "lstm", "dim": 8, "hidden": 8}}, {"text": "text"})
        made.tower("text").fit(["a heart", "a moon"])
        change = {"model": made.eval()}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    remedy = "leave --resume out to replace it" if finished else "begin again with --overwrite"
    with pytest.raises(RunError, match=f"with another {what} .* as it began; {remedy}") as caught:
        embed_table(**{**begun, **change}, out=stopped, resume=True)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    model.columns.pop("other", None)


def test_a_file_of_somebody_else_is_not_taken_for_one_that_is_whole(model, tmp_path):
    pq.write_table(pa.table({"id": ["s0"]}), tmp_path / "v.parquet")
    for content in (None, b"no parquet"):
        if content is not None:
            (tmp_path / "v.parquet").write_bytes(content)
        with pytest.raises(MsiamError, match=r"v\.parquet: is no embedding of msiam; leave"):
            embed_table(model, ROWS, tmp_path / "v.parquet", "text", "key", resume=True)


def test_the_file_says_what_it_was_made_of(model, tmp_path):
    embed_table(model, ROWS, tmp_path / "v.parquet", "text", "key")
    made_of = json.loads(pq.read_metadata(tmp_path / "v.parquet").metadata[b"msiam"])
    assert made_of["model"] == model.fingerprint()
    assert (made_of["column"], made_of["id"], made_of["precision"]) == ("text", "key", "fp32")


def test_of_very_many_rows_that_are_left_out_some_are_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "REASONS", 3)
    monkeypatch.setattr(table_module, "ROWS", 4)
    written = embed_table(model, LONG, tmp_path / "v.parquet", "text")
    assert (written.count, written.left_out) == (16, 4)
    assert [row for row, _ in written.rejected] == [2, 7, 12]


def test_vectors_of_a_table_too_long_for_it_are_not_kept(model, tmp_path, monkeypatch):
    kept = []
    one = Model.embed

    def embedded(*arguments):
        kept.append(arguments[-1].keep)
        return one(*arguments)

    monkeypatch.setattr(Model, "embed", embedded)
    for most in (20, 19):
        monkeypatch.setattr(table_module, "MOST_KEPT", most)
        embed_table(model, LONG, tmp_path / "v.parquet", "text")
    assert kept == [True, False]
