from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from msiam import Model
from msiam.embed import embed_table
from msiam.errors import DataError, GalleryError, RecipeError

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
    assert (written.count, [row for row, _ in written.rejected]) == (2, [1])
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
