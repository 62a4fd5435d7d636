"""The readers of files: what becomes a number, which line is wrong, pictures in zips."""

from __future__ import annotations

import zipfile
from pathlib import Path

import datasets
import pandas
import pytest

from msiam.data.files import read_csv, read_imagefolder, read_json, read_parquet
from msiam.data.sources import open_table
from msiam.data.streams import open_stream
from msiam.errors import DataError

SHEET = "file_name,title\nimages/b.png,bee\nimages/a.png,ay\n"
PICTURES = {"images/a.png": b"AAAA" * 100, "images/b.png": b"B"}


def csv_of(tmp_path, text: str) -> datasets.Dataset:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return read_csv(tmp_path / "t.csv")


def test_texts_that_look_like_nulls_stay_texts(tmp_path):
    rows = csv_of(tmp_path, "q,n\nNA,1\nnull,2\nNone,3\nnan,\n")
    assert rows["q"][:] == ["NA", "null", "None", "nan"]
    assert rows["n"][:] == [1, 2, 3, None]


def test_a_column_of_nan_is_a_text(tmp_path):
    assert csv_of(tmp_path, "q\nnan\nnan\n")["q"][:] == ["nan", "nan"]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-20"], [1, -20]),
        (["1", "2.5", "1e-3"], [1.0, 2.5, 0.001]),
        (["007", "1"], ["007", "1"]),
        (["1", "x"], ["1", "x"]),
        (["2020-01-01"], ["2020-01-01"]),
        (["true"], ["true"]),
        (["9" * 30], ["9" * 30]),
    ],
)
def test_only_columns_of_numbers_become_numbers(tmp_path, cells, values):
    assert csv_of(tmp_path, "\n".join(["x", *cells, ""]))["x"][:] == values


def test_a_column_of_empty_cells_is_text(tmp_path):
    assert csv_of(tmp_path, 'a,b\n"",x\n')["a"][:] == [""]


def test_quotes_line_breaks_and_a_byte_order_mark(tmp_path):
    rows = csv_of(tmp_path, '\ufeffa,b\n"x, ""y""\nz",é\n')
    assert rows.to_list() == [{"a": 'x, "y"\nz', "b": "é"}]


def test_a_row_with_too_many_cells_is_named_by_its_line(tmp_path):
    with pytest.raises(DataError, match=r"t\.csv: line 4 has 3 cells where the header has 2"):
        csv_of(tmp_path, 'a,b\n"one\ntwo",x\n1,2,3\n')


def test_cells_that_something_else_separates(tmp_path):
    with pytest.raises(DataError, match=r"t\.csv: its header and line 3 have ';' between cells"):
        csv_of(tmp_path, "a;b\none;two\none, two;three\n")


def test_a_sign_in_the_one_name_of_a_header_separates_nothing(tmp_path):
    with pytest.raises(DataError, match=r"line 3 has 2 cells where .* in double quotes"):
        csv_of(tmp_path, "text (a; b)\nfoo\nfoo, bar\n")


def test_commas_in_a_tsv(tmp_path):
    (tmp_path / "t.tsv").write_text("a,b\n1,2\n1\t2,3\n")
    with pytest.raises(DataError, match=r"header and line 3 have ',' between cells, .* not '\\t'"):
        read_csv(tmp_path / "t.tsv")


def test_a_row_with_too_few_cells_is_named_by_its_line(tmp_path):
    with pytest.raises(DataError, match="line 3 has 1 cells"):
        csv_of(tmp_path, "a,b\n1,2\n1\n")


def test_a_quote_that_is_never_closed_is_named_by_its_line(tmp_path):
    """What is behind it is longer than a cell may be, and its row ragged."""
    with pytest.raises(
        DataError, match=r"t\.csv: line 3 begins a text of more than 131,072 .* quote"
    ):
        csv_of(tmp_path, 'a,b\n1,2\n"' + "a line and\n" * 20_000)


def test_a_byte_that_is_no_utf8_is_counted_from_the_beginning_of_the_file(tmp_path):
    before = b"a,b\n" + b"x,y\n" * 5000
    (tmp_path / "t.csv").write_bytes(before + b"\xff,y\n")
    with pytest.raises(
        DataError, match=rf"t\.csv: is not UTF-8 \(byte {len(before)}: invalid start"
    ):
        open_table(tmp_path / "t.csv")


def test_a_header_must_name_each_column_once(tmp_path):
    with pytest.raises(DataError, match="must name each column once"):
        csv_of(tmp_path, "a,a\n1,2\n")


def test_json_is_a_list_or_lines(tmp_path):
    for name, text in {
        "l.json": '[{"a": 1}, {"a": 2}]',
        "l.jsonl": '{"a": 1}\n\n{"a": 2}\n',
    }.items():
        (tmp_path / name).write_text(text)
        assert read_json(tmp_path / name)["a"][:] == [1, 2]


def test_a_line_that_is_no_json_is_named(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match=r"t\.jsonl: line 2 is no JSON"):
        read_json(tmp_path / "t.jsonl")


def test_categories_of_a_parquet_become_their_values(tmp_path):
    frame = pandas.DataFrame({"kind": pandas.Categorical(["x", "y", "x"]), "n": [1, 2, 3]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet")["kind"][:] == ["x", "y", "x"]


@pytest.fixture(params=["", "inner/"])
def archive(tmp_path, request):
    """A zip whose sheet stands at its top or in a folder, and names pictures beside it."""
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {**PICTURES, "metadata.csv": SHEET.encode()}.items():
            file.writestr(request.param + name, content)
    return path


def test_an_archive_gives_its_sheets_rows_and_the_pictures(archive):
    rows = read_imagefolder(archive)
    assert rows["title"][:] == ["bee", "ay"]
    assert [image["bytes"] for image in rows["image"]] == [b"B", b"AAAA" * 100]
    assert rows.features["image"] == datasets.Image(decode=False)


def test_its_pictures_are_found_wherever_msiam_runs(archive, monkeypatch):
    monkeypatch.chdir(archive.parent)
    whole = [image["path"] for image in read_imagefolder(archive)["image"]]
    named = Path(archive.name)
    assert [image["path"] for image in read_imagefolder(named)["image"]] == whole
    (_, window), *_ = open_stream(named).windows(["image"], 9)
    assert [image["path"] for image in window["image"].to_pylist()] == whole


def test_an_archive_is_opened_once(archive, monkeypatch):
    opened = []
    original = zipfile.ZipFile.__init__

    def count(self, *args, **kwargs):
        opened.append(args)
        original(self, *args, **kwargs)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", count)
    read_imagefolder(archive)
    assert len(opened) == 1


def test_a_picture_that_is_not_in_the_archive_keeps_its_path(tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.csv", SHEET)
        file.writestr("images/a.png", b"A")
    images = read_imagefolder(path)["image"][:]
    assert images[0] == {"bytes": None, "path": f"{path}/images/b.png"}
    assert images[1]["bytes"] == b"A"


def test_a_damaged_picture_in_an_archive_is_named(tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {**PICTURES, "metadata.csv": SHEET}.items():
            file.writestr(name, content)
    path.write_bytes(path.read_bytes().replace(b"AAAA", b"AABA", 1))
    with pytest.raises(DataError, match=r"images/a\.png cannot be unpacked: Bad CRC-32"):
        read_imagefolder(path)


def test_pictures_in_a_folder_are_named_and_not_read(tmp_path, monkeypatch):
    (tmp_path / "metadata.csv").write_text(SHEET)
    monkeypatch.chdir(tmp_path.parent)
    rows = read_imagefolder(tmp_path.relative_to(tmp_path.parent))
    assert rows["image"][0] == {"bytes": None, "path": str(tmp_path / "images/b.png")}


@pytest.mark.parametrize("sheet", ["title\nx\n", "file_name,image\na,b\n"])
def test_a_sheet_needs_file_names_and_room_for_the_pictures(tmp_path, sheet):
    (tmp_path / "metadata.csv").write_text(sheet)
    with pytest.raises(DataError, match="needs the column file_name"):
        read_imagefolder(tmp_path)


def test_a_folder_needs_one_sheet(tmp_path):
    with pytest.raises(DataError, match=r"needs one metadata\.csv .* it has none"):
        read_imagefolder(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.csv").write_text(SHEET)
    with pytest.raises(DataError, match="it has 2 of them"):
        read_imagefolder(tmp_path)
