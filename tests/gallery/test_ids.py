from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.data.streams import open_stream
from msiam.errors import GalleryError, MsiamError
from msiam.gallery import ids
from msiam.gallery.ids import Repetition, check_ids, record_ids


def checked(values, near):
    check_ids(open_stream([{"sku": value} for value in values]), "sku", near)


def test_ids_are_texts_or_whole_numbers_or_row_numbers(tmp_path):
    table = open_stream([{"sku": "b", "n": 7}, {"sku": "a", "n": -1}])
    for column in ("sku", "n", None):
        check_ids(table, column, tmp_path)
    assert record_ids(table, "sku", ["b", "a"], 0) == ["b", "a"]
    assert record_ids(table, "n", [7, -1], 0) == ["7", "-1"]
    assert record_ids(table, None, ["x", "y"], 40) == ["40", "41"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b", "c", "b"], "rows 1 and 3 have the same 'sku', 'b'; an id must be unique"),
        (["a", None], "row 1 has no 'sku'"),
        (["", "b"], "row 0 has no 'sku'"),
        ([1.5, 2.0], "row 0: 'sku' is 1.5; an id must be a text or a whole number"),
        ([True, False], "row 0: 'sku' is True"),
    ],
)
def test_wrong_ids(values, message, tmp_path, monkeypatch):
    for window in (1, 2, 100):
        monkeypatch.setattr(ids, "ROWS", window)
        with pytest.raises(GalleryError, match=message):
            checked(values, tmp_path)


def test_an_id_column_that_is_not_there(tmp_path):
    with pytest.raises(MsiamError, match="no column 'skuu'; did you mean 'sku'"):
        check_ids(open_stream([{"sku": "a"}]), "skuu", tmp_path)


@pytest.mark.parametrize("few", [0, 1 << 18])
@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.text(max_size=2), max_size=9), max_size=9))
def test_the_first_text_that_comes_again_is_found_and_nothing_else(tmp_path_factory, few, batches):
    first: dict[str, int] = {}
    right = None
    for row, text in enumerate(text for batch in batches for text in batch):
        if first.setdefault(text, row) != row and right is None:
            right = (first[text], row)
    near = tmp_path_factory.getbasetemp() / "not" / "there"
    with pytest.MonkeyPatch.context() as patch, Repetition(near) as repetition:
        patch.setattr(ids, "FEW", few)
        for batch in batches:
            repetition.add(batch)
        assert repetition.find() == right
    assert not near.parent.exists()


def test_ids_of_many_rows_are_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(ids, "FEW", 1000)
    monkeypatch.setattr(ids, "ROWS", 500)
    numbers = [*range(5000), 17]
    pq.write_table(pa.table({"n": numbers}), tmp_path / "t.parquet")
    with pytest.raises(GalleryError, match="rows 17 and 5000 have the same 'n', '17'"):
        check_ids(open_stream(tmp_path / "t.parquet"), "n", tmp_path)
    with Repetition(tmp_path) as repetition:
        for start in range(0, 5000, 100):
            repetition.add([str(number) for number in range(start, start + 100)])
            assert sum(map(len, repetition._seen)) <= 1000
        assert repetition.find() is None
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
