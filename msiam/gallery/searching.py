"""The searches of a gallery: by items of its model, and by vectors."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.building import Embedder, check_column
from msiam.gallery.manifest import Manifest

if TYPE_CHECKING:
    from msiam.towers.inference import Precision


@dataclass(frozen=True)
class Hit:
    """A record that a search found.

    Attributes:
        id: the record's id.
        score: the inner product with the query: for normalised embeddings the cosine.
        record: the record's other columns.
    """

    id: str
    score: float
    record: dict[str, Any]


class Searching(ABC):
    """What searches over ``nearest`` and ``records``, which a gallery brings."""

    folder: Path
    manifest: Manifest
    model: Embedder | None

    @property
    @abstractmethod
    def dim(self) -> int:
        """The width of its vectors."""

    @abstractmethod
    def nearest(self, vectors: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions, (q, k), of the nearest records."""

    @abstractmethod
    def records(self, positions: np.ndarray) -> list[tuple[str, dict[str, Any]]]:
        """The ids and records at n positions."""

    @overload
    def search(
        self,
        query: list[Any],
        k: int = 10,
        *,
        column: str | None = None,
        precision: Precision = "fp32",
    ) -> list[list[Hit]]: ...

    @overload
    def search(
        self, query: Any, k: int = 10, *, column: str | None = None, precision: Precision = "fp32"
    ) -> list[Hit]: ...

    def search(
        self, query: Any, k: int = 10, *, column: str | None = None, precision: Precision = "fp32"
    ) -> list[Hit] | list[list[Hit]]:
        """The records nearest to a query, the best first.

        A search goes across where it can: a query goes through a column that reads it other than
        the gallery's own, so that in titles one searches with bodies. Only a query that no other
        column reads, as a caption among captions beside a tower of pictures, goes through that.

        Args:
            query: one item of the model, or a list of items.
            k: how many hits; all records where there are fewer.
            column: the model's column that reads the query; None: as said above.
            precision: of embedding the queries; as ``Model.encode``.

        Returns:
            For one query a list of ``Hit``; for a list of queries a list of such lists.

        Raises:
            GalleryError: a query cannot be read, k is less than 1, there is no model.
            DataError: no column of the model reads a query.
        """
        if isinstance(query, np.ndarray):
            raise GalleryError("search: found an array; search_vectors takes embeddings")
        if not isinstance(query, list):
            return self.search([query], k, column=column, precision=precision)[0]
        if self.model is None:
            raise GalleryError(
                f"{self.folder}: was opened without a model; open it with the one that made it, "
                "Gallery.open(folder, model), or use search_vectors"
            )
        return self.search_vectors(self._embed(self.model, query, column, precision), k)

    def search_vectors(self, vectors: Any, k: int = 10) -> list[list[Hit]]:
        """The records nearest to each of the vectors, (q, dim), the best first.

        Raises:
            GalleryError: vectors of another width, or with NaN in them; k less than 1.
        """
        scores, positions = self.nearest(vectors, k)
        found = positions >= 0
        records = self.records(positions[found])
        hits = (
            Hit(id, score, record)
            for (id, record), score in zip(records, scores[found].tolist(), strict=True)
        )
        return [list(itertools.islice(hits, count)) for count in found.sum(axis=1).tolist()]

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
        vectors = np.empty((len(queries), self.dim), dtype=np.float32)
        for name in dict.fromkeys(columns):
            rows = [row for row, other in enumerate(columns) if other == name]
            embedded, rejected = model.embed(name, [queries[row] for row in rows], **how)
            if rejected:
                number, reason = rejected[0]
                raise GalleryError(f"query {queries[rows[number]]!r:.80}: {reason}")
            vectors[rows] = embedded
        return vectors
