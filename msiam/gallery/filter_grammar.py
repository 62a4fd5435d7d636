"""The grammar of filters: ``price < 50 and colour = 'Blue'`` as a tree. Nothing of it is code.

::

    filter     = and-terms { OR and-terms }
    and-terms  = term { AND term }
    term       = { NOT } ( "(" filter ")" | comparison )
    comparison = column ( "=" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
               | column [ NOT ] IN "(" value { "," value } ")"
               | column [ NOT ] BETWEEN value AND value
               | column [ NOT ] LIKE text
               | column [ NOT ] CONTAINS value
               | column IS [ NOT ] NULL
    column     = a word | '"' any characters, of which '"' is doubled '"'
    value      = a number | text | TRUE | FALSE
    text       = "'" any characters, of which "'" is doubled "'"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from msiam.errors import GalleryError

#: Characters of a filter. One that is made by a program may list many ids.
LONGEST = 100_000
#: Parentheses within one another.
DEEPEST = 50
_TOKEN = re.compile(
    r"""\s+
    | (?P<number> [+-]? (?:\d++(?:\.\d*+)?|\.\d++) (?:[eE][+-]?\d++)? (?![\w.]) )
    | (?P<text> '(?:[^']|'')*+' )
    | (?P<column> "(?:[^"]|"")++" )
    | (?P<word> [^\W\d]\w*+ )
    | (?P<sign> <= | >= | != | <> | [=<>(),] )
    """,
    re.VERBOSE,
)
_KEYWORDS = {
    "and", "or", "not", "in", "like", "contains", "between", "is", "null", "true", "false",
}  # fmt: skip
_ORDERS = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True)
class Value:
    """A number, a text, or true or false, and where it stands."""

    value: Decimal | str | bool
    at: int


@dataclass(frozen=True)
class Comparison:
    """What is asked of a column.

    Attributes:
        column, at: its name, and where that stands.
        test: = != < <= > >=, or in, between, like, contains, null.
        values: what it is compared with.
    """

    column: str
    at: int
    test: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Not:
    of: Tree


@dataclass(frozen=True)
class All:
    of: tuple[Tree, ...]


@dataclass(frozen=True)
class Some:
    of: tuple[Tree, ...]


Tree = Comparison | Not | All | Some


@dataclass(frozen=True)
class _Token:
    kind: str  # number, text, column, word, sign, end; or the keyword or the sign itself
    text: str
    at: int


def parse_filter(text: str) -> Tree:
    """The tree of a filter.

    Raises:
        GalleryError: it is too long, too deep, or no filter; the message points at the spot.
    """
    if not isinstance(text, str):
        raise GalleryError(f"where: found {text!r:.80}; a filter is a text, as price < 50")
    if len(text) > LONGEST:
        raise GalleryError(
            f"where: has {len(text):,} characters, and a filter may have {LONGEST:,}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise refusal(text, error.start, "is no Unicode") from error
    return _Parser(text).parse()


def refusal(text: str, at: int, reason: str) -> GalleryError:
    """The error at a spot of a filter: its character, counted from 1, and what stands there."""
    text = "".join(c if c.isprintable() else " " for c in text[: at + 21])
    rest = text[at : at + 20] + ("…" if len(text) > at + 20 else "")
    before = ("…" if at > 20 else "") + text[max(0, at - 20) : at]
    return GalleryError(f"where: {before}⟨here⟩{rest} (character {at + 1}): {reason}")


class _Parser:
    """By recursive descent, a method for each rule."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._read())
        self._next = 0
        self._depth = 0

    def parse(self) -> Tree:
        if self._kind == "end":
            raise self._wrong("is empty; write for example price < 50 and colour = 'Blue'")
        tree = self._some()
        if self._kind == ")":
            raise self._wrong("a parenthesis is closed that was not opened")
        if self._kind != "end":
            raise self._wrong("expected 'and' or 'or'")
        return tree

    def _read(self) -> list[_Token]:
        tokens, at = [], 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise refusal(self._text, at, self._unread(self._text[at]))
            kind, found = match.lastgroup, match[0]
            if kind == "word" and found.lower() in _KEYWORDS:
                kind = found.lower()
            elif kind == "sign":
                kind = _ORDERS.get(found, found)
            if kind is not None:  # not a blank
                tokens.append(_Token(kind, found, at))
            at = match.end()
        return [*tokens, _Token("end", "", at)]

    @staticmethod
    def _unread(found: str) -> str:
        if found in "'\"":
            return f"a {found} that is not closed by another"
        if found.isdigit() or found in "+-.":
            return "is no number; and a column whose name is no mere word stands in double quotes"
        return f"{found!r} has no meaning here; texts stand in 'single quotes'"

    @property
    def _kind(self) -> str:
        return self._tokens[self._next].kind

    def _wrong(self, reason: str) -> GalleryError:
        return refusal(self._text, self._tokens[self._next].at, reason)

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _took(self, *kinds: str) -> bool:
        """Go on if these come next."""
        following = [token.kind for token in self._tokens[self._next : self._next + len(kinds)]]
        if following != list(kinds):
            return False
        self._next += len(kinds)
        return True

    def _expect(self, kind: str) -> None:
        if not self._took(kind):
            raise self._wrong(f"expected {kind!r}")

    def _some(self) -> Tree:
        terms = [self._all()]
        while self._took("or"):
            terms.append(self._all())
        return terms[0] if len(terms) == 1 else Some(tuple(terms))

    def _all(self) -> Tree:
        terms = [self._term()]
        while self._took("and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _term(self) -> Tree:
        negated = False
        while self._took("not"):
            negated = not negated
        if self._kind == "(":
            if self._depth == DEEPEST:
                raise self._wrong(f"more than {DEEPEST} parentheses within one another")
            self._next += 1
            self._depth += 1
            tree = self._some()
            self._expect(")")
            self._depth -= 1
        else:
            tree = self._comparison()
        return Not(tree) if negated else tree

    def _comparison(self) -> Tree:
        token = self._take()
        if token.kind == "word":
            name = token.text
        elif token.kind == "column":
            name = token.text[1:-1].replace('""', '"')
        else:
            self._next -= 1
            raise self._wrong("expected a column's name, as in price < 50")
        if self._took("is", "not", "null"):
            return Not(Comparison(name, token.at, "null"))
        if self._took("is", "null"):
            return Comparison(name, token.at, "null")
        negated = self._took("not")
        test = self._kind
        if test not in ("in", "between", "like", "contains"):
            if negated:
                raise self._wrong("expected in, between, like or contains after not")
            if test not in _ORDERS:
                raise self._wrong(
                    f"expected a comparison of '{name}': = != < <= > >=, [not] in, between, like, "
                    "contains, is [not] null"
                )
        self._next += 1
        found = Comparison(name, token.at, test, self._values(test))
        return Not(found) if negated else found

    def _values(self, test: str) -> tuple[Value, ...]:
        if test == "between":
            low = self._value()
            self._expect("and")
            return low, self._value()
        if test != "in":
            return (self._value(),)
        self._expect("(")
        values = [self._value()]
        while self._took(","):
            values.append(self._value())
        if not self._took(")"):
            raise self._wrong("expected ',' or ')'")
        return tuple(values)

    def _value(self) -> Value:
        token = self._take()
        if token.kind in ("true", "false"):
            return Value(token.kind == "true", token.at)
        if token.kind == "text":
            return Value(token.text[1:-1].replace("''", "'"), token.at)
        if token.kind == "number":
            try:
                return Value(Decimal(token.text), token.at)
            except InvalidOperation:  # an exponent of twenty digits
                self._next -= 1
                raise self._wrong("is too large a number") from None
        self._next -= 1
        if token.kind == "null":
            raise self._wrong("nothing equals null; write is null, or is not null")
        if token.kind in ("column", "word"):
            raise self._wrong("expected a value; a text stands in 'single quotes'")
        raise self._wrong("expected a value: a number, a 'text', true or false")
