from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import GalleryError
from msiam.gallery import columns as module
from msiam.gallery.columns import Columns

KIND = pa.struct({"price": pa.int64(), "colour": pa.string(), "tags": pa.list_(pa.string())})
ROWS = [
    {"price": 3, "colour": "red", "tags": ["a"]},
    {"price": 8, "colour": None, "tags": None},
    {"price": None, "colour": "blue", "tags": []},
    {"price": 8, "colour": "red", "tags": ["a", "b"]},
    {"price": 5, "colour": None, "tags": None},
]


def columns(rows=ROWS, kind=KIND, size=2, id_column="sku", reads=None):
    """Columns over batches of so many rows, sliced from one array; each reading is counted."""
    ids = pa.array([f"s{n}" for n in range(len(rows))], pa.string())
    whole = pa.record_batch([ids, pa.array(rows, kind)], names=["id", "record"])

    def batches():
        if reads is not None:
            reads.append(1)
        return (whole.slice(start, size) for start in range(0, len(rows), size))

    return Columns(kind, id_column, batches)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_which_records_pass_a_filter(size):
    found = columns(size=size).passing("price > 4 and (colour = 'red' or colour is null)")
    assert found.dtype == np.bool_
    assert found.tolist() == [False, True, False, True, True]


@pytest.mark.parametrize(("size", "name"), [(1, "colour"), (2, "colour"), (9, "colour")])
def test_records_with_the_same_value_are_a_group_and_those_without_one_are_alone(size, name):
    found = columns(size=size).groups(name).tolist()
    assert found[0] == found[3]
    assert len(set(found)) == 4
    assert len(set(columns(size=size).groups("price").tolist())) == 4


@given(st.lists(st.none() | st.sampled_from("abc"), max_size=12), st.integers(1, 5))
def test_groups_of_any_values(values, size):
    kind = pa.struct({"v": pa.string()})
    found = columns([{"v": v} for v in values], kind, size).groups("v")
    assert found.dtype == np.int64 and len(found) == len(values)
    for one, of_one in zip(values, found, strict=True):
        for other, of_other in zip(values, found, strict=True):
            if one is not None and other is not None:
                assert (of_one == of_other) == (one == other)
    alone = [number for value, number in zip(values, found, strict=True) if value is None]
    assert len(set(alone)) == len(alone) and all(number < 0 for number in alone)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_where_a_column_holds_a_text(size):
    positions, numbers = columns(size=size).equal("colour", ["green", "red", "blue"])
    assert positions.tolist() == [0, 2, 3]
    assert numbers.tolist() == [1, 2, 1]
    assert [len(part) for part in columns(size=size).equal("colour", [])] == [0, 0]


@pytest.mark.parametrize("name", ["sku", "id"])
def test_ids_are_a_column_by_both_names(name):
    assert columns().passing(f"{name} in ('s1', 's4')").nonzero()[0].tolist() == [1, 4]


def test_a_column_that_is_called_id_is_itself():
    rows, kind = [{"id": 7}, {"id": 8}], pa.struct({"id": pa.int64()})
    assert columns(rows, kind).passing("id = 8 and sku = 's1'").tolist() == [False, True]
    assert columns(rows, kind, id_column=None).passing("id = 8").tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("coulour", "group: the records have no column 'coulour'; did you mean 'colour'"),
        ("tags", r"group: column 'tags' holds list<item: string>.*give a column of texts"),
    ],
)
def test_what_there_are_no_groups_of(name, message):
    with pytest.raises(GalleryError, match=message):
        columns().groups(name)


def test_an_unknown_column_of_a_filter_is_named_with_those_that_there_are():
    with pytest.raises(GalleryError, match=r"'coulour'; did you mean 'colour'.*price, sku, tags"):
        columns().passing("coulour = 'red'")


def test_no_records():
    none = columns([])
    assert none.passing("price < 5").shape == none.groups("price").shape == (0,)


def test_an_answer_is_kept_for_the_next_time_and_the_oldest_goes(monkeypatch):
    reads = []
    kept = columns(reads=reads)
    first = kept.passing("price < 5")
    assert kept.passing("price < 5") is first and len(reads) == 1
    monkeypatch.setattr(module, "MOST", 2)
    kept.groups("colour")
    assert kept.passing("price < 5") is first and len(reads) == 2
    kept.passing("price < 6")
    assert kept.passing("price < 5") is first and len(reads) == 3
    kept.groups("colour")
    assert len(reads) == 4
