"""Examples: items, pairs or tuples by number, the groups they form, and what is said of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from msiam.errors import DataError

if TYPE_CHECKING:
    from msiam.data.sources import Table

Columns = Mapping[str, np.ndarray]
Towers = Mapping[str, str]


@dataclass(frozen=True)
class Examples:
    """n rows of a table, as item numbers.

    Attributes:
        columns: column -> item number of each row, int64 (n,), in the numbering of its tower. A
            held-out part may lack those of negatives, see ``msiam.data.splits.split``.
        groups: column -> group of each row's item, int64 (n,): its class where the data has
            classes, else see :func:`positive_groups`.
        same: bool (n,) for labelled pairs; None where every row is a positive.
        rows: int64 (n,), the row's number in its table, from 0, for messages and reports.
        scores: float32 (n,) where rows are scored; see ``msiam.losses.base.Targets``.
        classed: whether the groups are classes of the data.
        claims: the class that each row names, int64 (n,), where a label says whether its item is a
            member of it, as a forged signature is not: that item is a group of its own.
        attributes: a further column of the table -> number of each row's value, int64 (n,).
    """

    columns: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    same: np.ndarray | None
    rows: np.ndarray
    scores: np.ndarray | None = None
    classed: bool = False
    claims: np.ndarray | None = None
    attributes: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        columns: Columns,
        towers: Towers,
        same: np.ndarray | None = None,
        scores: np.ndarray | None = None,
        classes: Columns | None = None,
        claims: np.ndarray | None = None,
    ) -> Examples:
        """All rows whose every item could be read.

        Args:
            columns: column -> item number of each row of the table, (n,); −1 where rejected.
            towers: column -> its tower, by which two columns share one numbering.
            same: bool (n,), whether each row is a positive; None: all are. With two columns of
                classes, a row is one if its two classes are equal.
            scores: float32 (n,), how alike the items of each row are.
            classes: column -> class number of each row's item, (n,), over all columns.
            claims: class number that each row names, (n,); see the attribute.
        """
        rows = np.flatnonzero(np.all([numbers >= 0 for numbers in columns.values()], axis=0))
        if classes is not None and len(columns) == 2:
            one, other = classes.values()
            same = one == other
        kept = {column: numbers[rows] for column, numbers in columns.items()}
        same = None if same is None else same[rows]
        scores = None if scores is None else scores[rows]
        if classes is None:
            return cls(kept, positive_groups(kept, towers, same), same, rows, scores)
        groups = {column: classes[column][rows] for column in kept}
        claims = None if claims is None else claims[rows]
        return cls(kept, groups, same, rows, scores, classed=True, claims=claims)

    @classmethod
    def join(cls, parts: Sequence[Examples], towers: Towers) -> Examples:
        """Several tables of one task as one; a row of an unlabelled one is a positive.

        Unless they are classes, groups are found anew, since a pair of one table may tie items of
        another together.
        """
        columns = {c: np.concatenate([p.columns[c] for p in parts]) for c in parts[0].columns}
        same, scores = None, None
        if any(part.same is not None for part in parts):
            same = np.concatenate(
                [np.ones(len(p), bool) if p.same is None else p.same for p in parts]
            )
        if given := [part.scores for part in parts if part.scores is not None]:
            scores = np.concatenate(given)
        rows = np.concatenate([part.rows for part in parts])
        shared = [c for c in parts[0].attributes if all(c in part.attributes for part in parts)]
        attributes = {c: np.concatenate([part.attributes[c] for part in parts]) for c in shared}
        if not parts[0].classed:
            groups = positive_groups(columns, towers, same)
            return cls(columns, groups, same, rows, scores, attributes=attributes)
        groups = {c: np.concatenate([p.groups[c] for p in parts]) for c in columns}
        claims = None
        if given := [part.claims for part in parts if part.claims is not None]:
            claims = np.concatenate(given)
        return cls(
            columns,
            groups,
            same,
            rows,
            scores,
            classed=True,
            claims=claims,
            attributes=attributes,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def distinct_groups(self) -> np.ndarray:
        """The groups of these rows' items over all columns, each once, ascending."""
        return np.unique(np.concatenate(list(self.groups.values())))

    @property
    def named(self) -> dict[str, np.ndarray]:
        """column -> int64 (n,): the class that a row names, or else its item's group."""
        if self.claims is None:
            return self.groups
        return dict.fromkeys(self.groups, self.claims)

    def distinct_classes(self) -> np.ndarray:
        """The classes that these rows name over all columns, each once, ascending."""
        return np.unique(np.concatenate(list(self.named.values())))

    def distinct_items(self, columns: Iterable[str]) -> np.ndarray:
        """The item numbers in those of ``columns`` that there are, each once, ascending."""
        none = np.empty(0, np.int64)
        return np.unique(np.concatenate([none, *(self.columns.get(c, none) for c in columns)]))

    def pairs(self) -> Examples:
        """The rows without their negatives: their first two columns alone."""
        two = list(self.columns)[:2]
        columns = {column: self.columns[column] for column in two}
        return replace(self, columns=columns, groups={c: self.groups[c] for c in two})

    def without_repeats(self) -> Examples:
        """The first of the rows that have the same items, and are labelled alike."""
        said = [] if self.same is None else [self.same]
        _, first = np.unique(np.stack([*self.columns.values(), *said]), axis=1, return_index=True)
        return self.select(np.sort(first))

    def select(self, index: np.ndarray) -> Examples:
        """The rows at ``index``: positions (m,) or a mask (n,). Groups stay as they are."""
        return Examples(
            {column: numbers[index] for column, numbers in self.columns.items()},
            {column: groups[index] for column, groups in self.groups.items()},
            None if self.same is None else self.same[index],
            self.rows[index],
            None if self.scores is None else self.scores[index],
            self.classed,
            None if self.claims is None else self.claims[index],
            {column: values[index] for column, values in self.attributes.items()},
        )


def positive_groups(
    columns: Columns, towers: Towers, same: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Column -> the group of each row's item, int64 (n,).

    Two items are of one group if positive pairs lead from one to the other. Items of one group
    are never each other's negatives. The first two columns are the pair; a third one holds
    negatives, which tie nothing together. Group numbers run over all towers.
    """
    nodes = _nodes(columns, towers)
    anchor, positive, *_ = nodes.values()
    kept = slice(None) if same is None else same
    label = components([(anchor[kept], positive[kept])], _count(nodes))
    return {column: label[numbers] for column, numbers in nodes.items()}


def row_components(columns: Columns, towers: Towers) -> np.ndarray:
    """The connected component of each row in the graph of *all* pairs, int64 (n,)."""
    nodes = _nodes(columns, towers)
    first, *others = nodes.values()
    return components([(first, other) for other in others], _count(nodes))[first]


def _count(nodes: Columns) -> int:
    return 1 + max((int(n.max()) for n in nodes.values() if len(n)), default=-1)


def components(edges: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """The smallest node that each node 0 … count − 1 is connected with, int64 (count,).

    Hooking and pointer jumping (Shiloach and Vishkin, 1982), a numpy pass a round: each root
    hangs itself under its smallest neighbour, trees are flattened, and edges are drawn anew
    between the roots. O(log count) rounds.
    """
    label = np.arange(count)
    left = np.concatenate([a for a, _ in edges]) if edges else label[:0]
    right = np.concatenate([b for _, b in edges]) if edges else label[:0]
    while True:
        left, right = label[left], label[right]
        apart = left != right
        if not apart.any():
            return label
        left, right = left[apart], right[apart]
        np.minimum.at(label, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(above := label[label], label):
            label = above


def _nodes(columns: Columns, towers: Towers) -> dict[str, np.ndarray]:
    """Item numbers of all towers in one range: each tower's begin where another's end."""
    sizes: dict[str, int] = {}
    for column, numbers in columns.items():
        tower = towers[column]
        sizes[tower] = max(sizes.get(tower, 0), 1 + int(numbers.max(initial=-1)))
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    return {column: numbers + starts[towers[column]] for column, numbers in columns.items()}


def labels(table: Table, column: str, same: object) -> np.ndarray:
    """Whether each row is a positive: its label is ``same``. bool (n,).

    A label may be a text, a number or a boolean: '1', 1, 1.0 and true are one value. The only
    other value of the column means "not the same".

    Raises:
        DataError: a null, a third value (the message has the row), or one value that is not
            ``same``.
    """
    where = f"{table.name}: column '{column}'"
    wanted = _plain(same)
    values = table.values(column)
    plain = [_plain(value) for value in values]
    if missing := [row for row, value in enumerate(plain) if value is None]:
        raise DataError(
            f"{where}: row {missing[0]} (from 0) has no label{_and_more(missing)}; give it one or "
            "drop the row"
        )
    counts = Counter(plain)
    others = [value for value, _ in counts.most_common() if value != wanted]
    if wanted not in counts:
        found = ", ".join(repr(values[plain.index(value)]) for value in others[:5])
        raise DataError(f"{where}: no row has the label that means same, {same!r}; found: {found}")
    if len(others) > 1:
        odd = [row for row, value in enumerate(plain) if value not in (wanted, others[0])]
        raise DataError(
            f"{where}: row {odd[0]} (from 0) has the label {values[odd[0]]!r}, which is neither "
            f"{same!r} (same) nor {values[plain.index(others[0])]!r} (not the same){_and_more(odd)}"
        )
    return np.array([value == wanted for value in plain])


def _and_more(rows: list[int]) -> str:
    """How many rows are like the first one, as a clause."""
    return f" (so {len(rows) - 1:,} more)" if len(rows) > 1 else ""


def scores(table: Table, column: str) -> np.ndarray:
    """How alike the items of each row are, float32 (n,).

    Raises:
        DataError: a null, or a value that is no number; the message has the row.
    """
    found = np.empty(len(table), np.float32)
    for row, value in enumerate(table.values(column)):
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            found[row] = np.nan
        if not np.isfinite(found[row]):
            raise DataError(
                f"{table.name}: column '{column}': row {row} (from 0) has the score {value!r}; "
                "a score is a number: mend or drop the row"
            )
    return found


def _plain(value: object) -> str | None:
    """A label in one spelling, by which labels of different types are compared; None: null."""
    text = "" if value is None else str(value).strip()
    if text.lower() in ("true", "yes"):  # YAML reads an unquoted yes as true
        return "1"
    if text.lower() in ("false", "no"):
        return "0"
    try:
        number = float(text)
    except ValueError:
        return text or None
    if math.isnan(number):
        return None
    return str(int(number)) if number.is_integer() else str(number)
