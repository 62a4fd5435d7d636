"""docs/search.md: its filters are filters, its messages are said, its names exist."""

import inspect
import re
from pathlib import Path

import pyarrow as pa
import pytest
import typer.main

from msiam.cli import application
from msiam.errors import GalleryError
from msiam.gallery.filter_grammar import DEEPEST, LONGEST, parse_filter
from msiam.gallery.filters import Filter
from msiam.gallery.gallery import Gallery
from msiam.gallery.searchable import SearchOptions
from msiam.gallery.tuning import QUERIES, SHARE
from msiam.gallery.tuning_candidates import candidates
from msiam.gallery.tuning_measure import SINGLES

PAGE = (Path(__file__).parent.parent / "docs" / "search.md").read_text(encoding="utf-8")
FILTERS = PAGE.split("### Filters")[1].split("## Choosing")[0]
CHOOSING = PAGE.split("## Choosing an index")[1]


@pytest.mark.parametrize(
    "text",
    [
        text
        for text in re.findall(r"`([^`\n]+)`", FILTERS) + re.findall(r'--where "([^"]+)"', PAGE)
        if re.match(r'(?!not |is |unknown )[a-z]\w* \S|"', text)
    ],
)
def test_each_filter_is_one(text: str) -> None:
    parse_filter(text)


def test_each_word_of_the_grammar_is_explained() -> None:
    source = inspect.getsource(inspect.getmodule(parse_filter))  # type: ignore[arg-type]
    grammar = source.split('"""')[1]
    words = set(re.findall(r"\b[A-Z]{2,}\b", grammar))
    assert len(words) == 11
    for word in words:
        assert re.search(rf"\b{word.lower()}\b", FILTERS), word


@pytest.mark.parametrize("message", re.findall(r"^msiam: (where: .*)$", PAGE, re.MULTILINE))
def test_each_message_is_what_is_said(message: str) -> None:
    text = message.split("(character")[0].removeprefix("where: ").replace("⟨here⟩", "").strip()
    with pytest.raises(GalleryError) as caught:
        Filter(text).mask({"price": pa.int64()}, [])
    assert str(caught.value).startswith(message.removesuffix(" …"))


def test_each_limit_is_what_it_is() -> None:
    assert f"{LONGEST:,} characters and fifty parentheses" in PAGE and DEEPEST == 50
    assert f"one in ten of the gallery's vectors, {QUERIES:,} at most" in CHOOSING and SHARE == 10
    assert f"the median of up to {SINGLES}" in CHOOSING


def test_each_option_of_both_commands_is_there() -> None:
    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    known = {option for name in ("search", "tune", "index") for p in commands[name].params
             for option in p.opts}  # fmt: skip
    told = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", PAGE))
    assert told <= known
    assert {"--where", "--threshold", "--group", "--exclude", "--exact", "--like"} <= told
    for name in SearchOptions.__annotations__:
        assert f"`{name}`" in PAGE
    for name in ("search", "search_ids", "search_vectors", "reindex"):
        assert f"{name}(" in PAGE and hasattr(Gallery, name)


def test_each_kind_of_index_is_explained() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ", CHOOSING, re.MULTILINE)
    for candidate in candidates(1_000_000, 128):
        name = re.sub(r"(?<=IVF)\d+|(?<=PQ)\d+(?=x4fs)", "…", candidate.factory)
        assert name in rows
