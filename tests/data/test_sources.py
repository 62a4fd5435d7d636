"""open_table: every kind of source, and a line for everything that is not one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import datasets
import huggingface_hub.constants
import numpy as np
import pandas
import pytest
from PIL import Image

from msiam.data.sources import open_table
from msiam.errors import DataError, RecipeError

PAIRS = [{"left": "a", "right": "b", "same": 1}, {"left": "c", "right": "d", "same": 0}]
FRAME = pandas.DataFrame(PAIRS)


def png(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (2, 2), shade).save(buffer, "PNG")
    return buffer.getvalue()


def error(source: object) -> str:
    with pytest.raises(DataError) as caught:
        open_table(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.csv", lambda path: FRAME.to_csv(path, index=False)),
        ("t.TSV", lambda path: FRAME.to_csv(path, index=False, sep="\t")),
        ("t.json", lambda path: FRAME.to_json(path, orient="records")),
        ("t.jsonl", lambda path: FRAME.to_json(path, orient="records", lines=True)),
        ("t.parquet", lambda path: FRAME.to_parquet(path)),
    ],
)
def test_files_of_each_suffix_give_the_same_rows(tmp_path, name, write):
    write(tmp_path / name)
    table = open_table(tmp_path / name)
    assert table.dataset.to_list() == PAIRS
    assert table.name == str(tmp_path / name)
    assert table.root == tmp_path
    assert len(table) == 2


@pytest.mark.parametrize("source", [PAIRS, FRAME, datasets.Dataset.from_list(PAIRS)])
def test_rows_in_memory(source):
    table = open_table(source)
    assert table.dataset.to_list() == PAIRS
    assert table.root is None
    assert table.values("left") == ["a", "c"]


def test_variables_in_a_path_are_filled_in_and_the_name_stays_as_written(tmp_path, monkeypatch):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setenv("PAIRS_FOLDER", str(tmp_path))
    assert open_table("${PAIRS_FOLDER}/t.csv").name == "${PAIRS_FOLDER}/t.csv"
    monkeypatch.delenv("PAIRS_FOLDER")
    with pytest.raises(RecipeError, match="PAIRS_FOLDER is not set"):
        open_table("${PAIRS_FOLDER}/t.csv")


def test_pictures_stay_undecoded(tmp_path):
    dataset = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(), "path": "a.png"}]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    dataset.to_parquet(tmp_path / "t.parquet")
    for source in (dataset, dataset.with_format("numpy"), tmp_path / "t.parquet"):
        assert open_table(source).values("image") == [{"bytes": png(), "path": "a.png"}]


def test_a_pictures_list_is_encoded():
    (value,) = open_table([{"image": Image.new("L", (2, 2), 7)}]).values("image")
    assert np.asarray(Image.open(io.BytesIO(value["bytes"]))).tolist() == [[7, 7], [7, 7]]


def test_rows_may_lack_a_key_and_name_files_by_path():
    table = open_table([{"a": "x"}, {"b": Path("p.png")}])
    assert table.dataset.to_list() == [{"a": "x", "b": None}, {"a": None, "b": "p.png"}]


def test_an_unknown_column_has_its_nearest_name():
    with pytest.raises(DataError, match=r"given list: no column 'lefd'; did you mean 'left'\?"):
        open_table(PAIRS).values("lefd")


def test_a_file_that_is_not_there_has_its_nearest_name(tmp_path):
    FRAME.to_csv(tmp_path / "pairs.csv", index=False)
    assert "did you mean 'pairs.csv'?" in error(tmp_path / "pair.csv")
    assert "nor is there a folder" in error(tmp_path / "nowhere" / "pairs.csv")


def test_an_unknown_suffix_has_the_known_ones(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    assert ".csv, .json, .jsonl, .parquet, .tsv, .ttf, .zip" in error(tmp_path / "t.xlsx")


@pytest.mark.parametrize("name", ["t.parquet", "t.zip", "t.json", "t.csv"])
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"[\xff\xfe\x00 no such format")
    assert str(tmp_path / name) in error(tmp_path / name)


@pytest.mark.parametrize("content", [b"a,b\n", b""])
def test_a_table_without_rows(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    assert error(tmp_path / "t.csv").startswith(f"{tmp_path / 't.csv'}: has no rows")
    assert "has no rows" in error([])


def test_what_is_no_table_at_all():
    assert "int is no table" in error(3)
    assert "row 1 is str" in error([{"a": 1}, "b"])
    assert "column 'a' is not of one type" in error([{"a": 1}, {"a": "x"}])
    assert "cannot be read" in error(pandas.DataFrame({"a": [1, "x"]}))


def test_a_hub_name_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert "org/pairs: no such file, and as a data set of the Hub" in error("org/pairs")


def test_nothing_is_written_to_the_cache(tmp_path, monkeypatch):
    FRAME.to_parquet(tmp_path / "t.parquet")
    assert open_table(tmp_path / "t.parquet").dataset.cache_files == []


def test_the_shared_archive_of_pictures(shared):
    table = open_table(shared / "text_image" / "fashion_imagefolder.zip")
    assert len(table) == 12_000
    row = table.dataset[11_999]
    with zipfile.ZipFile(shared / "text_image" / "fashion_imagefolder.zip") as archive:
        assert row["image"]["bytes"] == archive.read(row["file_name"])
