"""Pictures in archives: each archive is opened once, and read in the order in which they lie."""

import io
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from msiam.data import streams
from msiam.data.archives import read_members
from msiam.data.sources import open_table
from msiam.data.streams import open_stream
from msiam.errors import DataError

NAMES = [f"images/{n}.png" for n in range(7)]
ROWS = [3, 0, 6, 1, 5, 2, 4]  # the sheet names them in another order than they lie in


def picture(number):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 30 * number, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "pictures.zip"
    sheet = "file_name,title\n" + "".join(f"{NAMES[n]},title {n}\n" for n in ROWS)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(NAMES):
            archive.writestr(name, picture(number))
        archive.writestr("metadata.csv", sheet)
    return path


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Each opening of an archive of the test, and the members that were then read."""
    seen = []
    start, read = zipfile.ZipFile.__init__, zipfile.ZipFile.open

    def init(self, file, *args, **options):
        self.seen = []
        if tmp_path in Path(str(file)).parents:  # not those of the interpreter
            seen.append(self.seen)
        start(self, file, *args, **options)

    def open(self, name, *args, **options):
        self.seen.append(getattr(name, "filename", name))
        return read(self, name, *args, **options)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", init)
    monkeypatch.setattr(zipfile.ZipFile, "open", open)
    return seen


def of_datasets(path):
    found = datasets.load_dataset(
        "imagefolder", data_files=str(path), split="train", cache_dir=path.parent / "cache"
    )
    assert isinstance(found, datasets.Dataset)
    return found


def test_a_data_set_that_names_pictures_in_an_archive_has_them_read(path, opened):
    dataset = of_datasets(path)
    opened.clear()
    table = open_table(dataset)
    assert opened == [NAMES]
    assert table.dataset.column_names == dataset.column_names
    assert table.dataset.features["image"] == datasets.Image(decode=False)
    assert table.values("title") == dataset["title"][:]
    numbers = [int(title.split()[1]) for title in table.values("title")]
    assert sorted(numbers) == sorted(ROWS)
    assert [value["bytes"] for value in table.values("image")] == [picture(n) for n in numbers]
    assert open_table(table) is table
    opened.clear()
    table.values("image")
    assert opened == []


def test_only_the_rows_of_a_selection_are_read_and_an_archive_once_for_all_its_columns(
    path, opened
):
    dataset = of_datasets(path).sort("title").select([5, 1])
    opened.clear()
    table = open_table(dataset)
    assert opened == [[NAMES[1], NAMES[5]]]
    assert [value["bytes"] for value in table.values("image")] == [picture(5), picture(1)]


def test_pictures_of_several_archives_beside_others(path, tmp_path, opened):
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a b.png", b"B")
    values = [
        {"bytes": None, "path": f"zip://{NAMES[2]}::{path}"},
        None,
        {"bytes": None, "path": f"zip://a b.png::{other}"},
        {"bytes": b"C", "path": f"zip://{NAMES[1]}::{path}"},
        {"bytes": None, "path": f"zip://images/none.png::{path}"},
        {"bytes": None, "path": "zip://x.png::/nowhere/there.zip"},
        {"bytes": None, "path": "plain.png"},
        {"bytes": None, "path": f"zip://{NAMES[0]}::{path}"},
    ]
    opened.clear()
    dataset = datasets.Dataset.from_dict({"image": values, "n": range(8)}).cast_column(
        "image", datasets.Image()
    )
    found = open_table(dataset).values("image")
    contents = [value and value["bytes"] for value in found]
    assert contents == [picture(2), None, b"B", b"C", None, None, None, picture(0)]
    assert [v and v["path"] for v in found] == [v and v["path"] for v in values]
    assert sorted(opened) == [["a b.png"], [NAMES[0], NAMES[2]]]


def test_what_names_no_archive_is_left_as_it_is():
    dataset = datasets.Dataset.from_dict({"image": [{"bytes": b"A", "path": None}]}).cast_column(
        "image", datasets.Image(decode=False)
    )
    table = open_table(dataset).dataset.data.table
    assert table.column("image").chunk(0).equals(dataset.data.table.column("image").chunk(0))


def test_an_archive_streams_in_windows_with_one_opening_a_pass(path, opened, monkeypatch):
    monkeypatch.setattr(streams, "BATCH", 3)
    monkeypatch.setattr(streams, "open_table", lambda source: pytest.fail("it is held"))
    stream = open_stream(path)
    held = [row for _, window in stream.windows(stream.columns, 2) for row in window.to_pylist()]
    assert [row["title"] for row in held] == [f"title {n}" for n in ROWS]
    assert [row["image"]["bytes"] for row in held] == [picture(n) for n in ROWS]
    sheet, pictures = opened
    assert sheet == ["metadata.csv"]
    # Each run of three in the order in which they lie.
    assert pictures == [NAMES[n] for run in ([0, 3, 6], [1, 2, 5], [4]) for n in run]
    opened.clear()
    titles = [w.to_pylist() for _, w in stream.windows(["title"], 4, 5)]
    assert titles == [[{"title": "title 2"}, {"title": "title 4"}]] and opened == [[]]


def test_a_stream_has_the_rows_of_the_table(path):
    stream, table = open_stream(path), open_table(path)
    assert (len(stream), stream.columns) == (7, table.dataset.column_names)
    (_, window), *_ = stream.windows(stream.columns, 10)
    assert window.to_pylist() == table.dataset.to_list()
    assert window.schema.equals(stream.schema)


def test_a_damaged_member_is_named(path):
    content = path.read_bytes()
    at = content.index(b"images/4.png") + 40
    path.write_bytes(content[:at] + b"\0\0\0" + content[at + 3 :])
    with zipfile.ZipFile(path) as archive:
        assert set(read_members(archive, [NAMES[1], "none"], path)) == {NAMES[1]}
        with pytest.raises(DataError, match=r"pictures\.zip: images/4\.png cannot be unpacked"):
            read_members(archive, NAMES, path)
