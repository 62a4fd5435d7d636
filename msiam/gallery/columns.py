"""The columns of a gallery's records, all of them: which pass a filter, which belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msiam.errors import GalleryError, one_of
from msiam.gallery.arrays import filled, texts
from msiam.gallery.filters import Filter

#: Filters and groups of which the answers are kept: a byte and eight bytes a record.
MOST = 8


class Columns:
    """What stands in the columns of records that do not change.

    The records' ids are a column too, by the name that it had in the table, and as ``id`` where no
    other column is called that.
    """

    def __init__(
        self,
        records: pa.StructType,
        id_column: str | None,
        batches: Callable[[], Iterable[pa.RecordBatch]],
    ) -> None:
        """
        Args:
            records: the columns beside the ids.
            id_column: what the ids were called.
            batches: gives all records, in order, as ``Gallery.batches``.
        """
        self.types: dict[str, pa.DataType] = {field.name: field.type for field in records}
        self._of_ids = {"id", id_column or "id"} - set(self.types)
        self.types |= dict.fromkeys(self._of_ids, pa.string())
        self._batches = batches
        self._kept: dict[tuple[str, str], np.ndarray] = {}

    def passing(self, where: str) -> np.ndarray:
        """Which records pass a filter: (n,) bool.

        Raises:
            GalleryError: it is no filter of these columns.
        """
        asked = Filter(where)
        return self._once("where", where, lambda: asked.mask(self.types, self._read(asked.columns)))

    def groups(self, name: str) -> np.ndarray:
        """A number for each value of a column, by record: (n,) int64.

        A record without a value has a number of its own.

        Raises:
            GalleryError: there is no such column, or it holds lists or other parts.
        """
        if name not in self.types:
            known = one_of(name, self.types)
            raise GalleryError(f"group: the records have no column '{name}'; {known}")
        if pa.types.is_nested(self.types[name]):
            raise GalleryError(
                f"group: column '{name}' holds {self.types[name]}, of which two are never told to "
                "be equal; give a column of texts, numbers or dates"
            )
        return self._once("group", name, partial(self._numbered, name))

    def equal(self, name: str, values: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Where a column holds one of some texts, each there once.

        Returns:
            Positions, and the number of the text at each of them.
        """
        wanted = texts(values)
        places, numbers, start = [], [], 0
        for chunk in self._read([name]):
            found = filled(pc.index_in(chunk[name].cast(pa.large_string()), value_set=wanted))
            rows = np.flatnonzero(found >= 0)
            places.append(rows + start)
            numbers.append(found[rows])
            start += len(found)
        none = np.empty(0, np.int64)
        return np.concatenate([none, *places]), np.concatenate([none, *numbers])

    def _read(self, names: list[str]) -> Iterator[dict[str, pa.Array]]:
        """Some columns, so many records at a time; those that there are not are left out."""
        there = [name for name in names if name in self.types]
        for batch in self._batches():
            ids, records = batch.columns
            yield {n: ids if n in self._of_ids else records.field(n) for n in there}

    def _once(self, kind: str, text: str, answer: Callable[[], np.ndarray]) -> np.ndarray:
        """The answer, kept for the next time; the oldest one goes."""
        found = self._kept.pop((kind, text), None)
        self._kept[kind, text] = found = answer() if found is None else found
        while len(self._kept) > MOST:
            del self._kept[next(iter(self._kept))]
        return found

    def _numbered(self, name: str) -> np.ndarray:
        values = pa.chunked_array([c[name] for c in self._read([name])], self.types[name])
        chunks = values.dictionary_encode().chunks  # which share one dictionary
        numbers = np.concatenate([np.empty(0, np.int64), *(filled(c.indices) for c in chunks)])
        alone = numbers < 0
        numbers[alone] = -1 - np.flatnonzero(alone)
        return numbers
