"""Filters on a gallery's records, as ``--where "price < 50 and colour = 'Blue'"``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msiam.errors import one_of
from msiam.gallery.arrays import bits
from msiam.gallery.filter_columns import NEVER, column_test
from msiam.gallery.filter_grammar import All, Comparison, Not, Some, Tree, parse_filter, refusal

_Test = Callable[[Mapping[str, pa.Array]], pa.Array]


class Filter:
    """A filter, read by the grammar of ``filter_grammar`` and never run as code.

    Its logic is that of SQL, with three values: what is compared with a missing value is unknown,
    and so is its negation, so that ``not price < 50`` leaves out records without a price. Only
    what is true passes.

    Attributes:
        text: as it was written.
        columns: the names that stand in it, each once.

    Raises:
        GalleryError: it is no filter; the message points at the spot.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = parse_filter(text)
        self.columns = list(dict.fromkeys(c.column for c in _comparisons(self._tree)))

    def mask(
        self, types: Mapping[str, pa.DataType], chunks: Iterable[Mapping[str, pa.Array]]
    ) -> np.ndarray:
        """Which records pass: (n,) bool.

        Args:
            types: of all columns that there are.
            chunks: the columns that stand in the filter, so many records at a time.

        Raises:
            GalleryError: a column that is not there, or is compared with what it cannot hold.
        """
        test = self._bound(self._tree, types)
        passing = [bits(pc.fill_null(test(chunk), NEVER)) for chunk in chunks]
        return np.concatenate([np.empty(0, bool), *passing])

    def _bound(self, tree: Tree, types: Mapping[str, pa.DataType]) -> _Test:
        """The test that a part of the filter is, of columns of these types."""
        if isinstance(tree, Not):
            inner = self._bound(tree.of, types)
            return lambda chunk: pc.invert(inner(chunk))
        if isinstance(tree, All | Some):
            join = pc.and_kleene if isinstance(tree, All) else pc.or_kleene
            tests = [self._bound(part, types) for part in tree.of]
            return lambda chunk: reduce(join, (test(chunk) for test in tests))
        name = tree.column
        if name not in types:
            known = one_of(name, types)
            raise refusal(self.text, tree.at, f"the records have no column '{name}'; {known}")
        compare = column_test(tree, types[name], partial(refusal, self.text))
        return lambda chunk: compare(chunk[name])


def _comparisons(tree: Tree) -> Iterator[Comparison]:
    if isinstance(tree, Comparison):
        yield tree
    else:
        for part in (tree.of,) if isinstance(tree, Not) else tree.of:
            yield from _comparisons(part)
