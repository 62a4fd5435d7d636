"""open_stream: the rows of open_table, in windows, and held nowhere."""

from __future__ import annotations

import json

import datasets
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.data import json_lines, sheets, streams
from msiam.data.sources import open_table
from msiam.data.streams import open_stream, place_of
from msiam.errors import DataError

ROWS = [
    {"text": f'text, {n}\n "{n}"', "n": n, "share": n / 4, "code": f"00{n}", "none": None}
    for n in range(11)
]
FRAME = pandas.DataFrame(ROWS)
#: Written so that every reader meets more than one block, and a row group that ends in a window.
WRITERS = {
    "t.csv": lambda path: FRAME.to_csv(path, index=False),
    "t.TSV": lambda path: FRAME.to_csv(path, index=False, sep="\t", encoding="utf-8-sig"),
    "t.json": lambda path: FRAME.to_json(path, orient="records"),
    "t.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "t.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=4),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(sheets, "BLOCK", 128)
    monkeypatch.setattr(json_lines, "ROWS", 4)
    monkeypatch.setattr(streams, "BATCH", 3)


def rows(stream, columns=None, size=2, start=0):
    """What the windows hold, with a look at how they are cut."""
    columns = stream.columns if columns is None else columns
    found, expected = [], start
    for first, window in stream.windows(columns, size, start):
        assert first == expected and window.column_names == columns
        assert len(window) == min(size, len(stream) - first)
        found += window.to_pylist()
        expected += len(window)
    assert expected == max(start, len(stream))
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_files_have_the_rows_of_the_table(tmp_path, name):
    WRITERS[name](tmp_path / name)
    stream, table = open_stream(tmp_path / name), open_table(tmp_path / name)
    right = table.dataset.to_list()
    assert (len(stream), stream.columns) == (11, table.dataset.column_names)
    assert (stream.name, stream.root) == (table.name, table.root)
    assert rows(stream) == right
    assert stream.schema.equals(next(stream.windows(stream.columns, 20))[1].schema)
    for size, start in [(1, 0), (3, 5), (4, 4), (20, 10), (5, 11)]:
        assert rows(stream, ["n", "text"], size, start) == [
            {"n": row["n"], "text": row["text"]} for row in right[start:]
        ]


@pytest.mark.parametrize("name", WRITERS)
def test_the_file_that_a_table_is_read_from(tmp_path, name, monkeypatch):
    monkeypatch.setenv("TABLES", str(tmp_path))
    WRITERS[name](tmp_path / name)
    for table in (tmp_path / name, f"${{TABLES}}/{name}"):
        for source in (table, open_table(table), open_stream(table)):
            assert place_of(source) == tmp_path / name
    assert place_of(ROWS) is None and place_of(FRAME) is None


@pytest.mark.parametrize("name", ["t.csv", "t.TSV", "t.jsonl", "t.parquet"])
def test_these_are_never_held(tmp_path, name, monkeypatch):
    WRITERS[name](tmp_path / name)
    monkeypatch.setattr(streams, "open_table", lambda source: pytest.fail("it is held"))
    assert len(rows(open_stream(tmp_path / name))) == 11


@pytest.mark.parametrize("source", [ROWS, FRAME, datasets.Dataset.from_list(ROWS).select([3, 1])])
def test_rows_in_memory(source):
    stream, table = open_stream(source), open_table(source)
    assert rows(stream) == table.dataset.to_list()
    assert rows(stream, ["n"], 2, 1) == [{"n": row["n"]} for row in table.dataset.to_list()[1:]]
    assert open_stream(stream) is stream


def test_a_folder_of_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "metadata.csv").write_text("file_name,title\na.png,A\nb/c.png,C\n,D\n")
    stream, table = open_stream(tmp_path), open_table(tmp_path)
    assert rows(stream) == table.dataset.to_list()
    assert stream.root == table.root == tmp_path
    assert rows(stream, ["image"], 5, 1)[0]["image"]["path"] == str(tmp_path / "in/b/c.png")


CELLS = st.sampled_from(["", "7", "-0", "007", "1.5", "2e3", "9" * 25, "nan", "a", " 1", "1e999"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12))
def test_a_sheet_has_numbers_where_the_whole_table_has_them(tmp_path_factory, cells):
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    path.write_text("a,b\n" + "".join(f'"{a}","{b}"\n' for a, b in cells))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheets, "BLOCK", 64)
        stream, table = open_stream(path), open_table(path)
        assert stream.schema == table.dataset.features.arrow_schema.remove_metadata()
        assert repr(rows(stream, size=5)) == repr(table.dataset.to_list())


VALUES = st.one_of(
    st.none(), st.integers(-5, 5), st.just(0.5), st.lists(st.integers(0, 3), max_size=2)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), min_size=1))
def test_lines_have_the_types_of_the_whole_table(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "ROWS", 2)
        try:
            right = open_table(path).dataset.to_list()
        except DataError as error:
            with pytest.raises(DataError) as caught:
                open_stream(path)
            assert str(caught.value) == str(error)
        else:
            assert rows(open_stream(path)) == right


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "a,b\n1,2\n3\n"),
        ("t.csv", "a,a\n1,2\n"),
        ("t.csv", "a\n"),
        ("t.csv", ""),
        ("t.csv", b"a,b\n1,\xff\n"),
        ("t.jsonl", '{"a": 1}\n{"a": \n'),
        ("t.jsonl", '{"a": 1}\n[2]\n'),
        ("t.jsonl", '{"a": 1}\n{"a": "x"}\n'),
        ("t.jsonl", "\n"),
        ("t.txt", "what"),
    ],
)
def test_what_is_wrong_is_said_as_of_a_table(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as right:
        open_table(path)
    with pytest.raises(DataError) as found:
        open_stream(path)
    assert str(found.value) == str(right.value)


def test_what_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read: .*magic bytes"):
        open_stream(tmp_path / "t.parquet")


def test_a_row_longer_than_a_block_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1," + "x" * 1000 + "\n2,y\n")
    with pytest.raises(DataError, match=r"t\.csv: cannot be read: .*block"):
        open_stream(tmp_path / "t.csv")


def test_the_digest_changes_with_a_row(tmp_path):
    changed = [*ROWS[:-1], {**ROWS[-1], "n": 12}]
    assert open_stream(ROWS).digest() == open_stream(list(ROWS)).digest()
    assert open_stream(ROWS).digest() != open_stream(changed).digest()
    digests = set()
    for rows in (ROWS, ROWS, changed):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
        digests.add(open_stream(tmp_path / "t.parquet").digest())
    assert len(digests) == 2
