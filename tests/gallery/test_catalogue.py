from __future__ import annotations

import io

import datasets
import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from msiam.data.streams import open_stream
from msiam.gallery.catalogue import Catalogue, CatalogueWriter, record_batch, record_columns


def png():
    file = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(file, "PNG")
    return file.getvalue()


def kept(rows, id_column=None):
    """Each record as the catalogue of these rows would have it."""
    table = open_stream(rows)
    sink = io.BytesIO()
    columns = record_columns(table, id_column)
    with CatalogueWriter(sink) as writer:
        for _, window in table.windows(table.columns, 2):
            writer.write(record_batch(["x"] * len(window), window, columns))
    found = pa.ipc.open_file(sink.getvalue()).read_all()
    return found.column("record").to_pylist()


def test_records_keep_texts_numbers_lists_and_nulls_and_not_the_id():
    rows = [
        {"sku": "a", "id": 1, "title": "hat", "price": 1.5, "tags": ["x", "y"], "none": None},
        {"sku": "b", "id": 2, "title": None, "price": 2.0, "tags": [], "none": None},
    ]
    assert kept(rows, "sku") == [{k: v for k, v in row.items() if k != "sku"} for row in rows]


def test_a_picture_becomes_its_path_and_bytes_are_left_out():
    rows = [
        {"image": {"bytes": png(), "path": "red.png"}, "raw": b"\x00", "n": 1},
        {"image": {"bytes": png(), "path": None}, "raw": b"\x01", "n": 2},
    ]
    assert kept(rows) == [{"image": "red.png", "n": 1}, {"image": None, "n": 2}]
    assert kept([{"image": Image.new("RGB", (2, 2)), "n": 1}]) == [{"n": 1}]


def test_pictures_deep_in_a_row_are_left_out():
    several = {"views": [{"bytes": png(), "path": "a"}], "n": 1, "more": {"raw": b"x", "m": 2}}
    assert kept([several]) == [{"n": 1}]


def test_the_features_of_datasets():
    features = datasets.Features(
        {"kind": datasets.ClassLabel(names=["a", "b"]), "grid": datasets.Array2D((1, 2), "int32")}
    )
    rows = datasets.Dataset.from_dict({"kind": [1], "grid": [[[3, 4]]]}, features=features)
    assert kept(rows) == [{"kind": 1, "grid": [[3, 4]]}]


def test_rows_that_were_chosen_and_shuffled():
    rows = datasets.Dataset.from_dict({"n": list(range(10))}).select([7, 2, 5])
    assert kept(rows) == [{"n": 7}, {"n": 2}, {"n": 5}]


def test_a_table_with_nothing_but_ids_has_empty_records():
    assert kept([{"sku": "a"}, {"sku": "b"}], "sku") == [{}, {}]


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    data=st.data(),
)
def test_take_gives_the_records_at_any_positions_in_their_order(tmp_path_factory, sizes, data):
    path = tmp_path_factory.mktemp("catalogue") / "c.arrow"
    everything = [(f"id{n}", {"n": n}) for n in range(sum(sizes))]
    with path.open("wb") as file, CatalogueWriter(file) as writer:
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            numbers = list(range(end - size, end))
            ids = [f"id{n}" for n in numbers]
            writer.write(record_batch(ids, pa.table({"n": numbers}), ["n"]))
    positions = data.draw(st.lists(st.integers(0, len(everything) - 1), max_size=20))
    found = Catalogue(path).take(np.array(positions, dtype=np.int64))
    pairs = zip(*(column.to_pylist() for column in found.columns), strict=True)
    assert list(pairs) == [everything[position] for position in positions]
