from __future__ import annotations

import datetime as dt
import math
import operator
import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.errors import GalleryError
from msiam.gallery.filters import Filter

TEXTS = st.text(st.sampled_from("ab%_\\ä'\n"), max_size=3)
LARGE = st.integers(-(2**63), 2**63 - 1)
DAYS = st.dates(dt.date(1969, 12, 30), dt.date(1970, 1, 3))
TIMES = st.datetimes(dt.datetime(1969, 12, 31), dt.datetime(1970, 1, 2))
CENTS = st.decimals(-10, 10, places=2)
NEAR = st.integers(-3, 3)
FINITE = st.floats(allow_nan=False, allow_infinity=False)  # a filter has no word for the others

#: Columns: their type, what may stand in them, and what they may be compared with.
COLUMNS = {
    "n": (pa.int64(), NEAR | LARGE, NEAR | LARGE | st.floats(-4, 4) | FINITE),
    "byte": (pa.int8(), st.integers(-128, 127), st.integers(-200, 200) | st.floats(-4, 4)),
    "u": (pa.uint64(), NEAR.map(abs) | st.integers(0, 2**64 - 1), NEAR | st.integers(-9, 2**65)),
    "x": (pa.float64(), NEAR.map(float) | st.floats(), NEAR | st.floats(-4, 4)),
    "single": (pa.float32(), st.floats(-4, 4, width=32), NEAR | st.floats(-4, 4, width=32)),
    "d": (pa.decimal128(9, 2), CENTS, CENTS | st.decimals(-10, 10, places=3) | st.integers()),
    "t": (pa.string(), TEXTS, TEXTS),
    "kind": (pa.dictionary(pa.int32(), pa.string()), TEXTS, TEXTS),
    "view": (pa.string_view(), TEXTS, TEXTS),
    "ok": (pa.bool_(), st.booleans(), st.booleans()),
    "day": (pa.date32(), DAYS, DAYS | TIMES),
    "time": (pa.timestamp("us"), TIMES, DAYS | TIMES),
    "none": (pa.null(), st.none(), NEAR | TEXTS),
}
LISTS = {"tags": (pa.list_(pa.string()), TEXTS), "sizes": (pa.large_list(pa.int16()), NEAR)}
ORDERS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def written(value):
    """A value in a filter."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, dt.date):
        return f"'{value.isoformat()}'"
    return repr(value) if isinstance(value, float) else str(value)


def plain(value):
    """A value as Python compares it with its like: dates are midnights, floats are exact."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return dt.datetime(value.year, value.month, value.day)
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(value)
    return value


def ordered(name, value, order, other):
    if value is None:
        return None
    if isinstance(other, float):  # of which the shortest digits are written
        other = Decimal(repr(other)) if name not in ("x", "single") else other
    return ORDERS[order](plain(value), plain(other))


def liked(value, pattern):
    """Whether SQL's like finds it: by a regular expression, made anew."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": "(?s:.*)", "_": "(?s:.)"}
    return re.fullmatch("".join(wild.get(p, re.escape(p[-1])) for p in parts), value) is not None


def some(known):
    return True if True in known else None if None in known else False


def every(known):
    return False if False in known else None if None in known else True


def inverse(known):
    return None if known is None else not known


@st.composite
def comparisons(draw):
    """A comparison as it is written, and as Python answers it for a row."""
    if draw(st.integers(0, 9)) == 0:
        name = draw(st.sampled_from([*COLUMNS, *LISTS]))
        known = draw(st.booleans())
        words = "is not null" if known else "is null"
        return f"{name} {words}", lambda row: (row[name] is not None) == known
    if draw(st.integers(0, 9)) == 0:
        name, (_, items) = draw(st.sampled_from(list(LISTS.items())))
        item = draw(items)
        return (
            f"{name} contains {written(item)}",
            lambda row: None if row[name] is None else item in row[name],
        )
    name, (_, _, others) = draw(st.sampled_from(list(COLUMNS.items())))
    negated = draw(st.booleans())
    turned = inverse if negated else lambda known: known
    word = "not " if negated else ""
    form = draw(st.sampled_from(["order", "in", "between", "like", "contains"]))
    if form == "in":
        values = draw(st.lists(others, min_size=1, max_size=4))
        return (
            f"{name} {word}in ({', '.join(map(written, values))})",
            lambda row: turned(some([ordered(name, row[name], "=", v) for v in values])),
        )
    if form == "between" and name != "ok":
        low, high = draw(others), draw(others)
        return (
            f"{name} {word}between {written(low)} and {written(high)}",
            lambda row: turned(
                every([ordered(name, row[name], ">=", low), ordered(name, row[name], "<=", high)])
            ),
        )
    if form in ("like", "contains") and others is TEXTS:
        pattern = draw(TEXTS)
        search = liked if form == "like" else operator.contains
        return (
            f"{name} {word}{form} {written(pattern)}",
            lambda row: None if row[name] is None else turned(search(row[name], pattern)),
        )
    order = draw(st.sampled_from(["=", "!="] if name == "ok" else list(ORDERS)))
    value = draw(others)
    return f"{name} {order} {written(value)}", lambda row: ordered(name, row[name], order, value)


def joined(parts):
    """What may be made of comparisons: their negation, and several with and, with or."""

    @st.composite
    def several(draw):
        word, join = draw(st.sampled_from([("and", every), ("or", some)]))
        texts, tests = zip(*draw(st.lists(parts, min_size=2, max_size=3)), strict=True)
        text = f" {word} ".join(f"({text})" for text in texts)
        return text, lambda row: join([test(row) for test in tests])

    negated = parts.map(lambda part: (f"not ({part[0]})", lambda row: inverse(part[1](row))))
    return negated | several()


FILTERS = st.recursive(comparisons(), joined, max_leaves=5)
ROWS = st.lists(
    st.fixed_dictionaries(
        {name: st.none() | values for name, (_, values, _) in COLUMNS.items()}
        | {name: st.none() | st.lists(st.none() | v, max_size=3) for name, (_, v) in LISTS.items()}
    ),
    max_size=8,
)
TYPES = {name: kind for name, (kind, *_) in (COLUMNS | LISTS).items()}


def arrays(rows):
    return {name: pa.array([r[name] for r in rows], kind) for name, kind in TYPES.items()}


@settings(max_examples=400, deadline=None)
@given(FILTERS, ROWS, st.integers(0, 8))
def test_a_filter_passes_the_rows_that_plain_python_passes(asked, rows, cut):
    """Row by row, with SQL's three values; whatever the chunks, and where Arrow slices them."""
    text, test = asked
    whole = arrays(rows)
    chunks = [{n: a[:cut] for n, a in whole.items()}, {n: a[cut:] for n, a in whole.items()}]
    found = Filter(text).mask(TYPES, chunks)
    assert found.dtype == np.bool_
    assert found.tolist() == [test(row) is True for row in rows], text


@pytest.mark.parametrize("asked", ["in (0)", "in (-0.0)", "= -0", "in (-0, 2)"])
def test_zero_is_one_number_whatever_its_sign(asked):
    zeros = {"x": pa.array([0.0, -0.0, 1.0, None])}
    found = Filter(f"x {asked}").mask({"x": pa.float64()}, [zeros])
    assert found.tolist() == [True, True, False, False]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_what_is_no_finite_number_is_refused_where_it_stands(value):
    with pytest.raises(GalleryError, match=f"where: n = ⟨here⟩{value} "):
        Filter(f"n = {value}")


TABLE = {
    "price": pa.array([10, 60, None]),
    "colour": pa.array(["Blue", "Red", None]),
    "stock": pa.array([True, False, None]),
    "sold": pa.array([dt.date(2024, 1, 31), None, dt.date(2025, 1, 1)]),
    "tags": pa.array([["new"], [], None]),
    "part": pa.array([{"a": 1}, None, {"a": 2}]),
    "base colour": pa.array(["x", "y", "z"]),
    "at": pa.array([dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)] * 3),
}


def passing(text):
    types = {name: array.type for name, array in TABLE.items()}
    return np.flatnonzero(Filter(text).mask(types, [TABLE])).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("price < 50 and colour = 'Blue'", [0]),
        ("price < 50 or colour is null", [0, 2]),
        ("not price < 50", [1]),  # what has no price is not known to cost more
        ("price is null or not price < 50", [1, 2]),
        ("sold >= '2024-01-31' and sold < '2024-02-01'", [0]),
        ("sold > '2024-01-31T12:00'", [2]),
        ("at = '2024-01-01T12:00'", [0, 1, 2]),
        ("at = '2024-01-01T13:00+01:00'", [0, 1, 2]),
        ("at < '2024-01-01T12:00+01:00'", []),
        ("tags contains 'new'", [0]),
        ("not tags contains 'new'", [1]),
        ("part is null", [1]),
        ("\"base colour\" in ('x', 'z')", [0, 2]),
        ("stock = false", [1]),
    ],
)
def test_examples(text, rows):
    assert passing(text) == rows


@pytest.mark.parametrize(
    ("text", "at", "reason"),
    [
        ("prize < 5", 1, "the records have no column 'prize'; did you mean 'price'"),
        ("price < 'five'", 9, r"column 'price' holds numbers \(int64\); .* with a number, as 50"),
        ("colour < 5", 10, r"column 'colour' holds texts \(string\); .* with a 'text' in quotes"),
        ("colour in ('a', 5)", 17, r"column 'colour' holds texts"),
        ("price = true", 9, "column 'price' holds numbers"),
        ("stock = 1", 9, r"column 'stock' holds true and false \(bool\); .* with true or false"),
        ("stock < true", 1, "of which neither is less"),
        ("sold = 2024", 8, r"column 'sold' holds times \(date32\[day\]\); .* as '2024-01-31'"),
        ("sold = '31.1.2024'", 8, "column 'sold' holds times"),
        ("sold = '2024-02-30'", 8, "column 'sold' holds times"),
        ("price contains '1'", 1, "contains searches texts"),
        ("price like '1%'", 1, "like searches texts"),
        ("colour contains 5", 17, "column 'colour' holds texts"),
        ("tags = 'new'", 1, r"holds lists \(list<item: string>\); ask what they contain"),
        ("tags contains 5", 15, "column 'tags' holds texts"),
        ("part = 1", 1, r"is of type struct<a: int64>; ask only is \[not\] null"),
        ("price < 5 and (colour = 'a' or prize = 1)", 32, "no column 'prize'"),
    ],
)
def test_what_does_not_compare_is_pointed_at(text, at, reason):
    with pytest.raises(
        GalleryError, match=rf"where: .*⟨here⟩.* \(character {at}\): .*{reason}"
    ) as caught:
        passing(text)
    assert "\n" not in str(caught.value)


def test_a_backslash_at_the_end_of_a_pattern_is_itself():
    records = {"path": pa.array(["C:\\", "C:", ""])}
    types = {"path": pa.string()}
    assert Filter("path like 'C:\\'").mask(types, [records]).tolist() == [True, False, False]
    assert Filter("path like '\\'").mask(types, [records]).tolist() == [False, False, False]


def test_columns_are_named_once_in_their_order():
    assert Filter('b = 1 and (a = 2 or not b in (3) or "c d" is null)').columns == ["b", "a", "c d"]


def test_no_records_at_all():
    assert Filter("price < 5").mask({"price": pa.int64()}, []).shape == (0,)
    with pytest.raises(GalleryError, match="no column"):
        Filter("prize < 5").mask({"price": pa.int64()}, [])


def test_a_pattern_that_is_too_large_is_refused():
    with pytest.raises(GalleryError, match="this pattern cannot be searched"):
        passing(f"colour like '{'_' * 99_000}'")
