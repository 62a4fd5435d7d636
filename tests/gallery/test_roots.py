from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from msiam.data.streams import open_stream
from msiam.gallery.catalogue import record_batch
from msiam.gallery.gallery import Gallery
from msiam.gallery.roots import file_columns, rebased


@pytest.fixture
def folder(tmp_path):
    for place in ("spring", "autumn"):
        (tmp_path / place).mkdir()
        for name in ("red", "blue"):
            (tmp_path / place / f"{name}.png").write_bytes(f"{place} {name}".encode())
        (tmp_path / place / "t.csv").write_text(
            f"sku,text,image,note\n{place},r,red.png,red\n{place}2,b,blue.png,\n"
        )
    return tmp_path


def names(gallery):
    records = [record for _, record in gallery.records(gallery.find(["spring", "autumn2"]))]
    assert [record["note"] for record in records] == ["red", ""]
    return [gallery.root / record["image"] for record in records]


@pytest.mark.parametrize("column", ["image", "text"])
def test_files_of_another_folder_are_named_as_the_first_ones_are(toy, folder, column):
    gallery = Gallery.build(toy.Toy(), folder / "spring/t.csv", column, folder / "g", id="sku")
    gallery.add(folder / "autumn/t.csv")
    found = [path.read_bytes() for path in names(gallery)]
    assert found == [b"spring red", b"autumn blue"]
    moved = folder.rename(folder.with_name(f"{folder.name}-moved"))
    assert all(path.is_file() for path in names(Gallery.open(moved / "g")))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_most_of_the_first_values_tell_what_names_files(folder, kind):
    rows = {
        "some": ["", "red.png", "blue.png", None],
        "gone": ["", "red.png", "blue.png", "gone.png"],
        "titles": ["t.csv", "a", "b", "c"],
        "empty": ["", None, "", ""],
    }
    place = folder / "spring/rows.parquet"
    pq.write_table(pa.table({name: pa.array(cells, kind) for name, cells in rows.items()}), place)
    table = open_stream(place)
    assert file_columns(table) == ["some", "gone"]
    batch = record_batch(["0", "1", "2", "3"], next(table.windows(["gone"], 4))[1], ["gone"])
    (_, records) = rebased(batch, ["gone"], table.root, folder).columns
    assert records.field("gone").to_pylist()[1:3] == ["spring/red.png", "spring/blue.png"]


def test_of_the_same_folder_names_stay(toy, folder):
    gallery = Gallery.build(toy.Toy(), folder / "spring/t.csv", "image", folder / "g", id="sku")
    gallery.upsert(folder / "spring/t.csv")
    assert gallery.records(gallery.find(["spring"]))[0][1]["image"] == "red.png"


def test_rows_in_memory_name_files_from_where_msiam_runs(toy, folder, monkeypatch):
    gallery = Gallery.build(toy.Toy(), folder / "spring/t.csv", "text", folder / "g", id="sku")
    gallery.add([{"sku": "n", "text": "red.png"}])
    assert gallery.records(gallery.find(["n"]))[0][1]["text"] == "red.png"
