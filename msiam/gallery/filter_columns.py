"""What a filter may ask of a column, by its type. Each test is one of pyarrow.compute's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msiam.errors import GalleryError
from msiam.gallery.arrays import bits, booleans, floats, integers, texts
from msiam.gallery.filter_grammar import Comparison, Value

#: Booleans of an array of the column's type; null where the column is.
Test = Callable[[pa.Array], pa.Array]
#: The error of a spot, given where it is and the reason.
Wrong = Callable[[int, str], GalleryError]

_ORDER = {
    "=": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater,
    ">=": pc.greater_equal,
}  # fmt: skip
_NOT = {"!=": "=", ">": "<=", ">=": "<"}
NEVER, ALWAYS = booleans(np.array([False, True]))
_UNKNOWN = booleans(np.zeros(1, bool), known=np.zeros(1, bool))[0]
_DIGITS = Context(prec=400)  # a decimal256 with as many digits after the point as before it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: In a unit.
_MICROSECONDS = {
    u: Decimal(n) for u, n in (("s", "1e6"), ("ms", "1e3"), ("us", "1"), ("ns", "1e-3"))
}
_DAY = 24 * 3600 * 10**6


def column_test(asked: Comparison, kind: pa.DataType, wrong: Wrong) -> Test:
    """The test of a column of this type.

    Raises:
        GalleryError: what ``wrong`` makes of a value that the column cannot be compared with.
    """
    if asked.test == "null":
        return pc.is_null
    if pa.types.is_dictionary(kind):
        inner = column_test(asked, kind.value_type, wrong)
        return lambda array: inner(array.dictionary_decode())
    if pa.types.is_null(kind):
        return lambda array: _known(array, _UNKNOWN)
    if _is_list(kind):
        return _list_test(asked, kind, wrong)
    column = _column(asked, kind, wrong)
    if asked.test in ("like", "contains"):
        return _text_test(asked, column, wrong)
    values = [column.read(value) for value in asked.values]
    if asked.test == "in":
        compare = column.among(values)
    elif asked.test == "between":
        low, high = values
        compare = _both(column.compare(">=", low), column.compare("<=", high))
    else:
        compare = column.compare(asked.test, values[0])
    return lambda array: compare(column.plain(array))


def _both(one: Test, other: Test) -> Test:
    return lambda array: pc.and_kleene(one(array), other(array))


def _known(array: pa.Array, answer: pa.Scalar | pa.Array) -> pa.Array:
    """The answer where the array is not null."""
    return pc.if_else(pc.is_valid(array), answer, _UNKNOWN)


class _Column:
    """Columns that are compared as Arrow compares them: numbers with a point, texts, truths.

    Attributes:
        holds, takes: what a message calls its values, and what it asks for.
        value: the class of a value that fits.
        as_type: what its arrays are compared as.
        arrays: an array of values.
    """

    holds: str
    takes: str
    value: type
    as_type: pa.DataType

    def __init__(self, asked: Comparison, kind: pa.DataType, wrong: Wrong) -> None:
        self.asked, self.kind, self.wrong = asked, kind, wrong

    @property
    def described(self) -> str:
        return f"column '{self.asked.column}' holds {self.holds} ({self.kind})"

    def plain(self, array: pa.Array) -> pa.Array:
        return array if array.type == self.as_type else array.cast(self.as_type)

    def arrays(self, values: list) -> pa.Array:
        raise NotImplementedError

    def read(self, value: Value) -> object:
        """The value as the column holds it."""
        if not isinstance(value.value, self.value):
            raise self.wrong(value.at, f"{self.described}; compare it with {self.takes}")
        return value.value

    def compare(self, order: str, value: object) -> Test:
        scalar = self.arrays([value])[0]
        return lambda array: _ORDER[order](array, scalar)

    def among(self, values: list) -> Test:
        chosen = self.arrays(values)
        return lambda array: _known(array, pc.is_in(array, value_set=chosen))


class _Texts(_Column):
    holds, takes, value, as_type = "texts", "a 'text' in quotes", str, pa.large_string()
    arrays = staticmethod(texts)


class _Floats(_Column):
    holds, takes, value, as_type = "numbers", "a number, as 50", Decimal, pa.float64()

    def arrays(self, values: list) -> pa.Array:
        return floats([float(value) for value in values])

    def among(self, values: list) -> Test:
        """One of the values. Arrow's is_in takes 0 and -0, which are equal, for two."""
        other_zeros = [value.copy_negate() for value in values if value == 0]
        return super().among([*values, *other_zeros])

    def plain(self, array: pa.Array) -> pa.Array:
        if pa.types.is_float16(array.type):  # which Arrow casts to its neighbour alone
            array = array.cast(pa.float32())
        return super().plain(array)


class _Truths(_Column):
    holds, takes, value, as_type = "true and false", "true or false", bool, pa.bool_()

    def arrays(self, values: list) -> pa.Array:
        return booleans(np.array(values, bool))

    def compare(self, order: str, value: object) -> Test:
        if order not in ("=", "!="):
            raise self.wrong(self.asked.at, f"{self.described}, of which neither is less")
        return super().compare(order, value)


class _Exact(_Column):
    """Columns of whole numbers, or of multiples of a step, compared with any number exactly.

    Arrow would turn both sides into float64, in which large numbers run together.
    """

    holds, takes = "numbers", "a number, as 50"
    value: type = Decimal
    step: Decimal = Decimal(1)
    low: Decimal
    high: Decimal

    def compare(self, order: str, value: object) -> Test:
        assert isinstance(value, Decimal)
        if order in _NOT:
            inverse = self.compare(_NOT[order], value)
            return lambda array: pc.invert(inverse(array))
        if order == "=":
            return self.among([value])
        if value > self.high or (order == "<=" and value == self.high):
            return lambda array: _known(array, ALWAYS)
        if value < self.low or (order == "<" and value == self.low):
            return lambda array: _known(array, NEVER)
        return super().compare(order, self._multiple(value, order == "<"))

    def among(self, values: list) -> Test:
        inside = [value for value in values if self.low <= value <= self.high]
        there = [value for value in inside if self._multiple(value, False) == value]
        return super().among(there)

    def _multiple(self, value: Decimal, above: bool) -> Decimal:
        """The nearest that the column may hold, above or below."""
        rounding = ROUND_CEILING if above else ROUND_FLOOR
        return value.quantize(self.step, rounding, _DIGITS)


class _Integers(_Exact):
    def __init__(self, asked: Comparison, kind: pa.DataType, wrong: Wrong) -> None:
        super().__init__(asked, kind, wrong)
        unsigned = pa.types.is_uint64(kind)
        self.as_type = pa.uint64() if unsigned else pa.int64()
        range = np.iinfo(np.uint64 if unsigned else np.int64)
        self.low, self.high = Decimal(int(range.min)), Decimal(int(range.max))

    def arrays(self, values: list) -> pa.Array:
        whole = [int(value) for value in values]
        if pa.types.is_uint64(self.as_type):
            return integers(np.array(whole, np.uint64).view(np.int64)).view(pa.uint64())
        return integers(np.array(whole, np.int64))


class _Decimals(_Exact):
    def __init__(self, asked: Comparison, kind: pa.DataType, wrong: Wrong) -> None:
        super().__init__(asked, kind, wrong)
        self.as_type = kind
        self.step = Decimal(1).scaleb(-kind.scale)
        self.high = _DIGITS.multiply(Decimal(10**kind.precision - 1), self.step)
        self.low = -self.high

    def arrays(self, values: list) -> pa.Array:
        return pa.array(values, self.as_type)


class _Times(_Integers):
    """Dates and times, as whole numbers of their unit since 1970. Without a zone they are UTC."""

    holds, takes, value = "times", "a time, as '2024-01-31' or '2024-01-31T12:30'", str

    def __init__(self, asked: Comparison, kind: pa.DataType, wrong: Wrong) -> None:
        super().__init__(asked, pa.int64(), wrong)
        self.kind = kind

    def plain(self, array: pa.Array) -> pa.Array:
        narrow = pa.types.is_date32(array.type)
        return super().plain(array.view(pa.int32() if narrow else pa.int64()))

    def read(self, value: Value) -> object:
        text = super().read(value)
        assert isinstance(text, str)
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise self.wrong(value.at, f"{self.described}; compare it with {self.takes}") from None
        passed = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
        whole = (passed.days * 86400 + passed.seconds) * 10**6 + passed.microseconds
        if pa.types.is_date32(self.kind):
            return Decimal(whole) / _DAY
        unit = "ms" if pa.types.is_date64(self.kind) else self.kind.unit
        return Decimal(whole) / _MICROSECONDS[unit]


def _column(asked: Comparison, kind: pa.DataType, wrong: Wrong) -> _Column:
    is_of = pa.types
    for found, column in (
        (is_of.is_string(kind) or is_of.is_large_string(kind), _Texts),
        (kind == pa.string_view(), _Texts),
        (is_of.is_boolean(kind), _Truths),
        (is_of.is_integer(kind), _Integers),
        (is_of.is_floating(kind), _Floats),
        (is_of.is_decimal(kind), _Decimals),
        (is_of.is_date(kind) or is_of.is_timestamp(kind), _Times),
    ):
        if found:
            return column(asked, kind, wrong)
    raise wrong(asked.at, f"column '{asked.column}' is of type {kind}; ask only is [not] null")


def _text_test(asked: Comparison, column: _Column, wrong: Wrong) -> Test:
    if not isinstance(column, _Texts):
        raise wrong(asked.at, f"{column.described}; {asked.test} searches texts")
    pattern = str(column.read(asked.values[0]))
    search = pc.match_like if asked.test == "like" else pc.match_substring
    if asked.test == "like" and (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        pattern += "\\"  # one at the end escapes nothing: Arrow would leave it out
    try:
        search(texts([""]), pattern)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise wrong(asked.values[0].at, f"this pattern cannot be searched ({reason})") from error
    return lambda array: search(column.plain(array), pattern)


def _is_list(kind: pa.DataType) -> bool:
    is_of = pa.types
    return is_of.is_list(kind) or is_of.is_large_list(kind) or is_of.is_fixed_size_list(kind)


def _list_test(asked: Comparison, kind: pa.DataType, wrong: Wrong) -> Test:
    """Whether a list contains a value; what is null in it is no value."""
    if asked.test != "contains":
        raise wrong(
            asked.at, f"column '{asked.column}' holds lists ({kind}); ask what they contain"
        )
    equal = Comparison(asked.column, asked.at, "in", asked.values)
    inner = column_test(equal, kind.value_type, wrong)

    def contains(array: pa.Array) -> pa.Array:
        equals = bits(pc.fill_null(inner(array.flatten()), NEVER))
        found = np.zeros(len(array), bool)
        found[np.asarray(pc.list_parent_indices(array))[equals]] = True
        return _known(array, booleans(found))

    return contains
