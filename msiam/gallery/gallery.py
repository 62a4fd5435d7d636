"""A gallery: a catalogue of records with their vectors, searchable, in one folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.building import Embedder, Progress, build_gallery, check_fingerprint
from msiam.gallery.hits import Read
from msiam.gallery.manifest import MANIFEST, Manifest
from msiam.gallery.searching import Searching
from msiam.gallery.segments import Segments
from msiam.gallery.stored import REMEDY
from msiam.gallery.updatable import Updatable

if TYPE_CHECKING:
    import pyarrow as pa

    from msiam.data.sources import Source
    from msiam.data.streams import Stream
    from msiam.towers.inference import Precision


class Gallery(Searching, Updatable):
    """A searchable folder of records. ``Gallery.build`` makes one and ``Gallery.open`` opens it.

    Attributes:
        folder: where it is.
        manifest: what it is: count, dim, column, the model's fingerprint, and so on.
        model: what embeds queries; None: only vectors can be searched.
        rejected: row and reason of what ``build``, ``add`` or ``upsert`` last set aside.
    """

    def __init__(self, folder: Path, manifest: Manifest, segments: Segments) -> None:
        self.folder = folder
        self.manifest = manifest
        self.model = None
        self.rejected: list[tuple[int, str]] = []
        self._segments = segments

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
        gallery = cls(Path(folder), *_opened(Path(folder)))
        return gallery if model is None else gallery.attach(model)

    def attach(self, model: Embedder) -> Gallery:
        """Search with this model from now on.

        Raises:
            GalleryError: another model made the gallery.
        """
        check_fingerprint(model, self.manifest, self.folder)
        self.model = model
        return self

    def renew(self) -> None:
        """See what was written since it was opened. Until then it stays as it was.

        Raises:
            GalleryError: as ``open``; and where another model made it since.
        """
        manifest, segments = _opened(self.folder)
        if self.model is not None:
            check_fingerprint(self.model, manifest, self.folder)
        self.manifest, self._segments = manifest, segments

    def check(self) -> None:
        """Read all of its files. Opening reads those of up to 64 MiB, and a sample of longer ones.

        Raises:
            GalleryError: one has changed since it was written, or is gone.
        """
        for stored in self.manifest.files:
            try:
                stored.check(self.folder, whole=True)
            except FileNotFoundError as error:
                raise GalleryError(
                    f"{error.filename}: is gone; open the gallery anew if another process wrote it"
                ) from error

    def __len__(self) -> int:
        return self.manifest.count

    def __repr__(self) -> str:
        return f"Gallery({str(self.folder)!r}, {len(self):,} records of '{self.manifest.column}')"

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

    def nearest(
        self, vectors: Any, k: int = 10, among: np.ndarray | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions of the nearest records.

        Args:
            vectors: (q, dim).
            k: how many; all records where there are fewer.
            among: (len,) bool: only the records at these positions may be found, and the very
                nearest of them are, whatever the index.
            exact: find the very nearest of all, whatever the index, by going through all vectors.

        Returns:
            As ``Backend.search``: (q, k) float32 and (q, k) int64, the best first; where fewer
            than k are found, the rest is −inf and −1.

        Raises:
            GalleryError: vectors of another width, of zero, or with NaN in them; k less than 1;
                ``among`` of another length.
        """
        queries = self.checked(vectors, k)
        return self._segments.nearest(queries, min(int(k), len(self)), among, exact)

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """The vectors of the records at n positions, (n, dim) float32, as they were given."""
        return self._segments.vectors(np.asarray(positions))

    def all_vectors(self) -> Iterator[np.ndarray]:
        """All vectors, in chunks of (n, dim) float32, in the order of positions."""
        return self._segments.all_vectors()

    @property
    def _reader(self) -> Read:
        return self._segments.records

    @property
    def record_type(self) -> pa.StructType:
        """The columns of records, with types that hold those of all."""
        return self._segments.type

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All records, in batches of Arrow, in the order of positions.

        A batch has two columns: ``id``, and ``record``, a struct of the records' other columns.
        They are mapped: of a column that is not looked at, nothing is read.
        """
        return self._segments.batches()

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """The position of each id, (n,) int64; −1 where there is no such record."""
        return self._segments.find(ids)


def _opened(folder: Path) -> tuple[Manifest, Segments]:
    """The newest manifest, and what it names."""
    manifest = Manifest.read(folder)
    while True:
        try:
            return manifest, Segments.open(folder, manifest)
        except FileNotFoundError as error:
            # Either it was replaced after its manifest was read, or the file really is gone.
            before, manifest = manifest, Manifest.read(folder)
            if manifest == before:
                raise GalleryError(
                    f"{error.filename}: is missing, though {MANIFEST} lists it; {REMEDY}"
                ) from error


def _absolute(path: str | None, folder: Path) -> Path | None:
    return None if path is None else (folder / path).resolve()
