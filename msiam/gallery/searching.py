"""The searches of a gallery: by items of its model, by vectors, and by its own records."""

from __future__ import annotations

import itertools
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
import pyarrow as pa

from msiam.errors import GalleryError
from msiam.gallery.building import Embedder, check_column
from msiam.gallery.hits import Hits
from msiam.gallery.searchable import Searchable, SearchOptions
from msiam.paths import is_file

if TYPE_CHECKING:
    from msiam.towers.inference import Precision


class Searching(Searchable):
    """What a gallery can be asked. All searches take ``SearchOptions`` by keyword.

    Attributes:
        model: what embeds queries; None: only vectors and records can be searched with.
    """

    model: Embedder | None

    @property
    @abstractmethod
    def root(self) -> Path | None:
        """The folder in which relative file names of its records are looked for."""

    @overload
    def search(
        self,
        query: list[Any],
        k: int = 10,
        *,
        column: str | None = None,
        precision: Precision = "fp32",
        exclude: bool = False,
        **options: Unpack[SearchOptions],
    ) -> list[Hits]: ...

    @overload
    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        column: str | None = None,
        precision: Precision = "fp32",
        exclude: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Hits: ...

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        column: str | None = None,
        precision: Precision = "fp32",
        exclude: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Hits | list[Hits]:
        """The records nearest to a query, the best first.

        A search goes across where it can: a query goes through a column that reads it other than
        the gallery's own, so that in titles one searches with bodies. Only a query that no other
        column reads, as a caption among captions beside a tower of pictures, goes through that.

        Args:
            query: one item of the model, or a list of items.
            k: how many hits; all records where there are fewer.
            column: the model's column that reads the query; None: as said above.
            precision: of embedding the queries; as ``Model.encode``.
            exclude: leave out records that are the query itself: the same text, or file.
            options: as ``SearchOptions``.

        Returns:
            For one query a list of ``Hit``; for a list of queries a list of such lists.

        Raises:
            GalleryError: a query cannot be read, k is less than 1, there is no model; a filter, a
                threshold or a group that the gallery cannot have.
            DataError: no column of the model reads a query.
        """
        if isinstance(query, np.ndarray):
            raise GalleryError("search: found an array; search_vectors takes embeddings")
        if self.model is None:
            raise GalleryError(
                f"{self.folder}: was opened without a model; open it with the one that made it, "
                "Gallery.open(folder, model), or use search_vectors"
            )
        queries = query if isinstance(query, list) else [query]
        excluded = self._equal(queries) if exclude and len(self) else None
        vectors = self._embed(self.model, queries, column, precision)
        found = self.hits(vectors, k, excluded, **options)
        return found if isinstance(query, list) else found[0]

    def search_vectors(
        self,
        vectors: Any,
        k: int = 10,
        *,
        exclude: Sequence[Sequence[str]] | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Hits]:
        """The records nearest to each of the vectors, (q, dim), the best first.

        Args:
            exclude: for each vector, the ids of records that are no hits of it.
            options: as ``SearchOptions``.

        Raises:
            GalleryError: vectors of another width, of zero, or with NaN in them; k less than 1; a
                filter, a threshold or a group that the gallery cannot have.
        """
        excluded = None
        if exclude is not None:
            if len(exclude) != len(vectors) or any(isinstance(ids, str) for ids in exclude):
                raise GalleryError("exclude: give a list of ids for each of the vectors")
            excluded = [self.find(list(ids)) for ids in exclude]
        return self.hits(vectors, k, excluded, **options)

    @overload
    def search_ids(
        self, ids: list[str], k: int = 10, *, exclude: bool = True, **options: Unpack[SearchOptions]
    ) -> list[Hits]: ...

    @overload
    def search_ids(
        self, ids: str, k: int = 10, *, exclude: bool = True, **options: Unpack[SearchOptions]
    ) -> Hits: ...

    def search_ids(
        self,
        ids: str | list[str],
        k: int = 10,
        *,
        exclude: bool = True,
        **options: Unpack[SearchOptions],
    ) -> Hits | list[Hits]:
        """The records nearest to a record, or to each of several: "more like this".

        Args:
            exclude: leave out the record itself.
            options: as ``SearchOptions``.

        Raises:
            GalleryError: there is no such record; also as ``search_vectors``.
        """
        wanted = ids if isinstance(ids, list) else [ids]
        for id in wanted:
            if not isinstance(id, str):
                raise GalleryError(f"id: found {id!r:.80}; the ids of records are texts")
        positions = self.find(wanted)
        missing = np.flatnonzero(positions < 0)
        if len(missing):
            raise GalleryError(f"{self.folder}: has no record '{wanted[missing[0]]:.80}'")
        own = list(positions[:, None]) if exclude else None
        found = self.hits(self.vectors(positions), k, own, **options)
        return found if isinstance(ids, list) else found[0]

    def _equal(self, queries: list[Any]) -> list[np.ndarray]:
        """For each query, the positions of records whose item is the same.

        Raises:
            GalleryError: a query is no text and no file's name, or records do not keep theirs.
        """
        column = self.manifest.column
        kind = self.columns.types.get(column)
        if kind is None or pa.types.is_nested(kind):
            raise GalleryError(f"exclude: the records do not keep their '{column}'")
        spelt = [self._spellings(query) for query in queries]
        names = list(dict.fromkeys(itertools.chain.from_iterable(spelt)))
        positions, numbers = self.columns.equal(column, names)
        places = {name: positions[numbers == number] for number, name in enumerate(names)}
        return [np.concatenate([places[name] for name in names]) for names in spelt]

    def _spellings(self, query: Any) -> list[str]:
        """How a record may name this item: a file from the table's folder on, or in full."""
        if not isinstance(query, str):
            raise GalleryError(
                f"exclude: query {query!r:.80} is neither a text nor a file's name, which could be "
                "told to be a record's own"
            )
        if not is_file(query):
            return [query]
        whole = os.path.realpath(query)
        return list({query, whole, *([os.path.relpath(whole, self.root)] if self.root else [])})

    def _embed(
        self, model: Embedder, queries: list[Any], column: str | None, precision: Precision
    ) -> np.ndarray:
        """Embed queries, each through its column, in their order: (q, dim)."""
        how: dict[str, Any] = {}
        if precision != "fp32":
            from msiam.towers.inference import How  # and torch, which not every model needs

            how["how"] = How(precision=precision)
        if column is not None:
            check_column(model, column)
        columns = [column or model.column_for(query, self.manifest.column) for query in queries]
        vectors = np.empty((len(queries), self.manifest.dim), dtype=np.float32)
        for name in dict.fromkeys(columns):
            rows = [row for row, other in enumerate(columns) if other == name]
            embedded, rejected = model.embed(name, [queries[row] for row in rows], **how)
            if rejected:
                number, reason = rejected[0]
                raise GalleryError(f"query {queries[rows[number]]!r:.80}: {reason}")
            vectors[rows] = embedded
        return vectors
