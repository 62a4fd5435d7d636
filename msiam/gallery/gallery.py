"""A gallery: a catalogue of records with their vectors, searchable, in one folder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.backend import Backend, as_vectors
from msiam.gallery.building import Embedder, Progress, build_gallery, check_column
from msiam.gallery.catalogue import Catalogue
from msiam.gallery.manifest import MANIFEST, REMEDY, Manifest
from msiam.registry.options import parse_options
from msiam.registry.registry import registry

if TYPE_CHECKING:
    from msiam.data.sources import Source
    from msiam.data.streams import Stream
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


class Gallery:
    """A searchable folder of records. ``Gallery.build`` makes one and ``Gallery.open`` opens it.

    Attributes:
        folder: where it is.
        manifest: what it is: count, dim, column, the model's fingerprint, and so on.
        model: what embeds queries; None: only vectors can be searched.
        rejected: row and reason of what ``build`` set aside; empty for a gallery that was opened.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, catalogue: Catalogue, index: Backend
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.model: Embedder | None = None
        self.rejected: list[tuple[int, str]] = []
        self._catalogue = catalogue
        self._index = index

    @classmethod
    def build(
        cls,
        model: Embedder,
        table: Source | Stream,
        column: str,
        folder: str | Path,
        id: str | None = None,
        *,
        backend: str = "faiss",
        options: Mapping[str, Any] | None = None,
        run: str | Path | None = None,
        progress: Progress | None = None,
        precision: Precision = "fp32",
    ) -> Gallery:
        """Embed a table and write its gallery. One that is there already is replaced in one step.

        The table's rows go through memory a window at a time; what the backend keeps is its own.

        Args:
            model: embeds the table's items.
            table: whatever ``msiam.open_table`` opens.
            column: the table's and the model's column with the items.
            folder: where the gallery goes.
            id: the column with each record's id; None: the row's number.
            backend: the name of what searches, with its ``options``; or a URL that holds both, as
                ``pgvector://host/database``.
            run: the run or model folder, noted so that the gallery's model is found again.
            progress: called with the number of items each time that some are embedded.
            precision: fp32, bf16 (faster where the machine has it), or auto; as ``Model.encode``.

        Raises:
            GalleryError: ids that are missing or not unique, no row that can be embedded, a folder
                that holds something else or that another process is writing.
            DataError: the table cannot be read or has no such column.
            RecipeError: the backend has no such option; another precision.
            RunError: the disk is full. The gallery is then as it was before.
        """
        folder = Path(folder)
        rejected = build_gallery(
            model, table, column, folder, id, backend, options or {}, run, progress, precision
        )
        gallery = cls.open(folder, model)
        gallery.rejected = rejected
        return gallery

    @classmethod
    def open(cls, folder: str | Path, model: Embedder | None = None) -> Gallery:
        """Open a gallery, whole, while another process may be replacing it.

        Raises:
            GalleryError: no gallery there, a file missing or changed, another model.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        while True:
            try:
                gallery = cls._open(folder, manifest)
                break
            except FileNotFoundError as error:
                # Either it was replaced after its manifest was read, or the file really is gone.
                before, manifest = manifest, Manifest.read(folder)
                if manifest == before:
                    raise GalleryError(
                        f"{error.filename}: is missing, though {MANIFEST} lists it; {REMEDY}"
                    ) from error
        return gallery if model is None else gallery.attach(model)

    @classmethod
    def _open(cls, folder: Path, manifest: Manifest) -> Gallery:
        catalogue = Catalogue(manifest.catalogue.check(folder))
        kind: type[Backend] = registry().find("backend", manifest.backend, str(folder)).load()
        options = parse_options(kind, manifest.options, f"{folder}: backend {manifest.backend}")
        index = kind.open(manifest.index.check(folder), options)
        return cls(folder, manifest, catalogue, index)

    def attach(self, model: Embedder) -> Gallery:
        """Search with this model from now on.

        Raises:
            GalleryError: another model made the gallery.
        """
        found = model.fingerprint()
        if found != self.manifest.fingerprint:
            raise GalleryError(
                f"{self.folder}: another model made it ({self.manifest.fingerprint}, and this one "
                f"is {found}), so its scores would mean nothing; make it again with msiam index"
            )
        self.model = model
        return self

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def dim(self) -> int:
        return self.manifest.dim

    @property
    def run(self) -> Path | None:
        """The run or model folder that it was built from, if that was noted."""
        return _absolute(self.manifest.run, self.folder)

    @property
    def root(self) -> Path | None:
        """The folder in which relative file names of its records are looked for."""
        return _absolute(self.manifest.root, self.folder)

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

    def nearest(self, vectors: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions, (q, k), of the nearest records: as ``Backend.search``.

        Raises:
            GalleryError: vectors of another width, or with NaN in them; k less than 1.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise GalleryError(f"k: found {k!r}; the number of hits must be 1 or more")
        queries = as_vectors(vectors, self.dim, f"{self.folder}: vectors to search")
        return self._index.search(queries, min(int(k), len(self)))

    def records(self, positions: np.ndarray) -> list[tuple[str, dict[str, Any]]]:
        """The ids and records at n positions."""
        return self._catalogue.take(positions)

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


def _absolute(path: str | None, folder: Path) -> Path | None:
    return None if path is None else (folder / path).resolve()
