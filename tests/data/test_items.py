"""Items: each distinct one once, rows of unreadable ones set aside and listed."""

from __future__ import annotations

import csv
import tracemalloc

import numpy as np
import pytest

from msiam.data.items import Items, RejectedRow, write_rejected
from msiam.data.sources import open_table
from msiam.errors import DataError


def questions(*pairs):
    return open_table([{"left": left, "right": right} for left, right in pairs])


def pictures(*values):
    return open_table([{"image": value} for value in values])


def test_items_are_shared_by_columns_and_tables_and_prepared_once(words):
    tables = {"train": questions(("a", "b"), ("b", "c")), "test": questions(("c", "d d"))}
    items = Items.collect(tables, ["left", "right"], "text", words)
    assert items.values == ["a", "b", "c", "d d"]
    assert items.features == []
    assert items.numbers["train", "left"].tolist() == [0, 1]
    assert items.numbers["train", "right"].tolist() == [1, 2]
    assert items.numbers["test", "left"].tolist() == [2]
    told = []
    items.prepare(words, progress=told.append)
    assert words.prepared == items.values
    assert sum(told) == len(items) == 4
    assert [feature.tolist() for feature in items.features] == [[1], [1], [1], [1, 1]]
    assert not items.refused.any()
    assert items.rejected == []


def test_more_items_than_an_encoder_is_handed_at_once(words):
    table = questions(*((f"a {'b' * number}", "c") for number in range(2500)))
    items = Items.collect({"t": table}, ["left"], "text", words)
    items.prepare(words)
    assert [feature[1] if len(feature) > 1 else 0 for feature in items.features] == list(
        range(2500)
    )


def test_nulls_and_blanks_are_rejected_by_row(words):
    table = questions(("a", "b"), (None, "b"), ("c", " \n"))
    items = Items.collect({"t": table}, ["left", "right"], "text", words)
    assert items.numbers["t", "left"].tolist() == [0, -1, 1]
    assert items.rejected == [
        RejectedRow("the given list", 1, "left", "null"),
        RejectedRow("the given list", 2, "right", "empty"),
    ]


def test_every_row_of_an_item_that_the_encoder_refuses_is_rejected(words):
    table = questions(("broken", "b"), ("c", "broken"), ("broken", "d"))
    items = Items.collect({"t": table}, ["left", "right"], "text", words)
    items.prepare(words)
    assert items.numbers["t", "left"].tolist() == [-1, 1, -1]
    assert items.numbers["t", "right"].tolist() == [2, -1, 3]
    assert [(r.row, r.column, r.reason) for r in items.rejected] == [
        (0, "left", "it is broken"),
        (2, "left", "it is broken"),
        (1, "right", "it is broken"),
    ]
    assert items.refused.tolist() == [True, False, False, False]
    assert words.prepared.count("broken") == 1


def test_pictures_with_the_same_bytes_are_one_item(files):
    table = pictures(*({"bytes": b, "path": p} for b, p in [(b"x", "1"), (b"y", "2"), (b"x", "3")]))
    items = Items.collect({"t": table}, ["image"], "image", files)
    assert items.numbers["t", "image"].tolist() == [0, 1, 0]
    assert items.values[1] == {"bytes": b"y", "path": "2"}


def test_files_with_the_same_bytes_are_one_item_whatever_their_names(tmp_path, files):
    for name, content in [("a", b"x"), ("b", b"y"), ("copy", b"x")]:
        (tmp_path / f"{name}.png").write_bytes(content)
    table = pictures(*(str(tmp_path / f"{name}.png") for name in ("a", "b", "copy", "a")))
    items = Items.collect({"t": table}, ["image"], "image", files)
    assert items.numbers["t", "image"].tolist() == [0, 1, 0, 0]
    assert items.values == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


def test_a_file_is_looked_up_beside_its_table_and_is_one_however_it_is_named(tmp_path, files):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"\1\2")
    (tmp_path / "t.csv").write_text("image\nsub/a.png\n./sub/../sub/a.png\nb.png\n")
    items = Items.collect({"t": open_table(tmp_path / "t.csv")}, ["image"], "image", files)
    assert items.numbers["t", "image"].tolist() == [0, 0, 1]
    assert items.values == [str(tmp_path / "sub/a.png"), str(tmp_path / "b.png")]
    items.prepare(files)
    assert items.features[0].tolist() == [1, 2]
    assert [(r.row, r.reason) for r in items.rejected] == [(2, "no such file")]


def test_pictures_of_a_folder_are_read_by_name(tmp_path, files):
    (tmp_path / "metadata.csv").write_text("file_name\na.png\nb.png\n")
    (tmp_path / "a.png").write_bytes(b"\7")
    items = Items.collect({"t": open_table(tmp_path)}, ["image"], "image", files)
    items.prepare(files)
    assert items.features[0].tolist() == [7]
    assert items.refused.tolist() == [False, True]


def test_a_picture_that_is_nowhere_is_null(files):
    table = pictures({"bytes": b"x", "path": None}, {"bytes": None, "path": None})
    items = Items.collect({"t": table}, ["image"], "image", files)
    assert [(r.row, r.reason) for r in items.rejected] == [(1, "null")]


def test_a_column_that_the_tower_cannot_read(words, files):
    numbers = open_table([{"n": None}, {"n": 3}])
    says = (
        "column 'n' holds int 3, which tower 'question' cannot read: its encoder Words reads text"
    )
    with pytest.raises(DataError, match=f"^the given list: {says}"):
        Items.collect({"t": numbers}, ["n"], "question", words)
    with pytest.raises(DataError, match=r"holds a dict with 'bytes', 'path'.* Words reads text"):
        Items.collect({"t": pictures({"bytes": b"x", "path": "x"})}, ["image"], "q", words)
    with pytest.raises(DataError, match="tower 'photo' cannot read: its encoder Files reads image"):
        Items.collect({"t": questions(("What is it?", "b"))}, ["left"], "photo", files)


def test_one_value_of_a_wrong_type_is_a_row_that_is_rejected(files):
    items = Items.collect({"t": pictures("a.png", "a.txt")}, ["image"], "image", files)
    (row,) = items.rejected
    assert row.row == 1
    assert row.reason.endswith("a.txt', which is no image")


def test_a_missing_column_has_its_nearest_name(words):
    with pytest.raises(
        DataError, match=r"no column 'lefd'; did you mean 'left'\? Known: left, right"
    ):
        Items.collect({"t": questions(("a", "b"))}, ["lefd"], "text", words)


def test_large_features_are_held_once(words):
    """200 MB of features must not take 400."""

    class Large(type(words)):
        def _one(self, item):
            return np.ones(1_000_000, np.uint8)

    table = questions(*((f"item {number}", "b") for number in range(200)))
    items = Items.collect({"t": table}, ["left"], "text", words)
    tracemalloc.start()
    items.prepare(Large())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(feature.nbytes for feature in items.features) == 200_000_000
    assert peak < 300_000_000


def test_rejected_rows_are_listed(tmp_path):
    rejected = [
        RejectedRow("t.csv", 3, "left", 'empty, "really"'),
        RejectedRow("t.csv", 5, "right", "null"),
    ]
    write_rejected(tmp_path / "rejected.csv", rejected, totals={"t.csv": 100})
    with (tmp_path / "rejected.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["table", "row", "column", "reason"],
            ["t.csv", "3", "left", 'empty, "really"'],
            ["t.csv", "5", "right", "null"],
        ]
    assert [path.name for path in tmp_path.iterdir()] == ["rejected.csv"]


def test_too_many_rejected_rows_stop_the_run_and_are_listed_all_the_same(tmp_path):
    path = tmp_path / "rejected.csv"
    rejected = [RejectedRow("t", row, column, "null") for row in range(6) for column in ("a", "b")]
    with pytest.raises(DataError) as caught:
        write_rejected(path, [*rejected, RejectedRow("t", 0, "b", "null")], totals={"t": 100})
    message = str(caught.value)
    assert message.startswith("t: 6 of 100 rows cannot be read, more than 5%")
    assert "7 times: column 'b': null" in message
    assert str(path) in message
    assert "--allow-rejected" in message
    assert len(path.read_text().splitlines()) == 14
    write_rejected(path, rejected, totals={"t": 100}, allowed=None)
    write_rejected(path, rejected[:10], totals={"t": 100})


def test_a_small_table_whose_rows_are_all_rejected_is_not_hidden_by_a_large_one(tmp_path):
    rejected = [RejectedRow("test.csv", row, "a", "null") for row in range(3)]
    with pytest.raises(DataError, match=r"test\.csv: 3 of 3 rows"):
        write_rejected(tmp_path / "r.csv", rejected, totals={"train.csv": 10_000, "test.csv": 3})
