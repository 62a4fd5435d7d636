from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import GalleryError
from msiam.gallery.filter_grammar import (
    DEEPEST,
    LONGEST,
    All,
    Comparison,
    Not,
    Some,
    Value,
    parse_filter,
)


def compared(text):
    """The column, the test and the values of a filter that is one comparison."""
    tree = parse_filter(text)
    return tree.column, tree.test, [value.value for value in tree.values]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("price < 50", ("price", "<", [50])),
        ("price<=-5.5e1", ("price", "<=", [Decimal("-55")])),
        ("price <> .5", ("price", "!=", [Decimal("0.5")])),
        ("colour = 'Blue'", ("colour", "=", ["Blue"])),
        ("colour != 'it''s < 5 and so'", ("colour", "!=", ["it's < 5 and so"])),
        ("colour = ''", ("colour", "=", [""])),
        ("\"base colour\" = 'Blue'", ("base colour", "=", ["Blue"])),
        ('"a ""b""" > 1', ('a "b"', ">", [1])),
        ('"not" >= 1', ("not", ">=", [1])),
        ("größe_2 > 1", ("größe_2", ">", [1])),
        ("stock = TRUE", ("stock", "=", [True])),
        ("stock IN (false, true)", ("stock", "in", [False, True])),
        ("sku in ('a')", ("sku", "in", ["a"])),
        ("price between 1 and 2", ("price", "between", [1, 2])),
        ("name like 'a%'", ("name", "like", ["a%"])),
        ("name Contains 'a'", ("name", "contains", ["a"])),
        ("name is null", ("name", "null", [])),
        ("\tname\n=\r\n'a' ", ("name", "=", ["a"])),
    ],
)
def test_each_comparison(text, found):
    assert compared(text) == found


def named(tree):
    """A tree as text, fully parenthesised."""
    if isinstance(tree, Comparison):
        return tree.column
    if isinstance(tree, Not):
        return f"-{named(tree.of)}"
    return "(" + {All: "&", Some: "|"}[type(tree)].join(map(named, tree.of)) + ")"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a=1 or b=1 and c=1", "(a|(b&c))"),
        ("(a=1 or b=1) and c=1", "((a|b)&c)"),
        ("not a=1 and b=1", "(-a&b)"),
        ("not (a=1 and b=1)", "-(a&b)"),
        ("not not a=1", "a"),
        ("NOT NOT NOT a=1", "-a"),
        ("a not in (1) Or b not between 1 and 2 oR c is not null", "(-a|-b|-c)"),
        ("a between 1 and 2 and b=1", "(a&b)"),
        ("((((a=1))))", "a"),
    ],
)
def test_what_binds_more_closely(text, tree):
    assert named(parse_filter(text)) == tree


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ("", 1, "is empty; write for example price < 50"),
        ("  ", 3, "is empty"),
        ("price", 6, "expected a comparison of 'price': = != < <= > >="),
        ("price <", 8, "expected a value: a number, a 'text', true or false"),
        ("price << 5", 8, "expected a value"),
        ("50 > price", 1, "expected a column's name, as in price < 50"),
        ("price = 5 colour = 3", 11, "expected 'and' or 'or'"),
        ("price = 5 and", 14, "expected a column's name"),
        ("(price = 5", 11, r"expected '\)'"),
        ("price = 5)", 10, "a parenthesis is closed that was not opened"),
        ("colour = Blue", 10, "a text stands in 'single quotes'"),
        ('colour = "Blue"', 10, "a text stands in 'single quotes'"),
        ("colour = 'Blue", 10, "a ' that is not closed"),
        ('"colour = 3', 1, 'a " that is not closed'),
        ("colour = ‘Blue’", 10, "'‘' has no meaning here; texts stand in 'single quotes'"),
        ("price = null", 9, "nothing equals null; write is null, or is not null"),
        ("price is 5", 7, "expected a comparison"),
        ("price not 5", 11, "expected in, between, like or contains after not"),
        ("price in 5", 10, r"expected '\('"),
        ("price in ()", 11, "expected a value"),
        ("price in (1 2)", 13, r"expected ',' or '\)'"),
        ("price between 1 or 2", 17, "expected 'and'"),
        ("price = 5x", 9, "is no number"),
        ("price = 5.5.5", 9, "is no number"),
        ("price = -", 9, "is no number"),
        ("base-colour = 3", 5, "a column whose name is no mere word stands in double quotes"),
        ("price = 1e99999999999999999999", 9, "is too large a number"),
        ("price; drop table records", 6, "';' has no meaning here"),
        ("__import__('os') = 1", 11, "expected a comparison"),
        ("colour = '\udc80'", 11, "is no Unicode"),
    ],
)
def test_a_mistake_is_pointed_at(text, at, reason):
    with pytest.raises(
        GalleryError, match=rf"where: .*⟨here⟩.* \(character {at}\): .*{reason}"
    ) as caught:
        parse_filter(text)
    assert "\n" not in str(caught.value)


def test_the_spot_is_shown_with_what_is_about_it():
    with pytest.raises(GalleryError) as caught:
        parse_filter("price < 50 and colour = 'Blue'\nand kind ~ 'shirt' and season = 'Summer'")
    assert "where: …r = 'Blue' and kind ⟨here⟩~ 'shirt' and season… (character" in str(caught.value)


@pytest.mark.parametrize("text", [None, 5, b"price < 5"])
def test_a_filter_is_a_text(text):
    with pytest.raises(GalleryError, match=r"where: found .*; a filter is a text"):
        parse_filter(text)


def test_a_filter_of_10_mb_is_refused_by_its_length():
    with pytest.raises(GalleryError, match=r"where: has 10,000,000 characters, and .* 100,000"):
        parse_filter("x" * 10**7)


@pytest.mark.parametrize("opening", ["(", "not (", "a=1 and (", "a=1 or (", "a=1 and not ("])
def test_many_parentheses_are_refused_by_their_depth(opening):
    with pytest.raises(GalleryError, match=f"more than {DEEPEST} parentheses"):
        parse_filter(opening * (LONGEST // len(opening)))
    deep = opening * (DEEPEST // opening.count("(")) + "a=1" + ")" * DEEPEST
    assert isinstance(parse_filter(deep), All | Some | Not | Comparison)


@pytest.mark.parametrize(
    "text",
    [
        "not " * (LONGEST // 4 - 1) + "a=1",
        "a=1" + " or a=1" * (LONGEST // 7 - 1),
        "a in (1" + ",1" * (LONGEST // 2 - 10) + ")",
        "a = '" + "''" * (LONGEST // 2 - 10) + "'",
        "a = " + "9" * (LONGEST - 10),
        "a = '" + "x" * (LONGEST - 10),  # and is not closed
        '"' * (LONGEST - 1),
    ],
    ids=lambda text: text[:9],
)
def test_the_longest_that_may_be_are_read_or_refused_at_once(text):
    try:
        parse_filter(text)
    except GalleryError as error:
        assert "not closed" in str(error)


@given(st.text(max_size=30))
def test_any_text_and_any_name_can_be_written(text):
    quoted = "'" + text.replace("'", "''") + "'"
    assert parse_filter(f"a = {quoted}") == Comparison("a", 0, "=", (Value(text, 4),))
    if text:
        name = '"' + text.replace('"', '""') + '"'
        assert parse_filter(f"{name} is null").column == text


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_number_is_read_as_it_is_written(number):
    assert compared(f"a = {number}") == ("a", "=", [number])


SCRAPS = ["a", '"a b"', "'x'", "5", "-", "and", "or", "not", "(", ")", "in", ",", "<", "is", "null"]


@given(st.lists(st.sampled_from(SCRAPS) | st.text(max_size=3), max_size=12).map(" ".join))
def test_whatever_is_written_is_a_filter_or_a_mistake(text):
    try:
        parse_filter(text)
    except GalleryError as error:
        assert str(error).startswith("where: ") and "\n" not in str(error)
