"""What may be changed in a gallery. Others read meanwhile, and see the old or the new, whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msiam.errors import GalleryError
from msiam.gallery.building import Embedder, Progress
from msiam.gallery.compacting import compact_gallery
from msiam.gallery.manifest import Manifest
from msiam.gallery.updating import add_records, remove_records

if TYPE_CHECKING:
    from msiam.data.sources import Source
    from msiam.data.streams import Stream
    from msiam.towers.inference import Precision


class Updatable(ABC):
    """Each change is made to the newest gallery in the folder, in one step, and seen here after it.

    All raise GalleryError where another process is writing the gallery, unless they are told to
    ``wait`` for it, and where the folder cannot be written; and RunError where the disk is full.
    The gallery is then as it was before.
    """

    folder: Path
    manifest: Manifest
    model: Embedder | None
    rejected: list[tuple[int, str]]

    @property
    @abstractmethod
    def root(self) -> Path | None:
        """The folder in which relative file names of its records are looked for."""

    @abstractmethod
    def renew(self) -> None:
        """See what was written since it was opened."""

    def add(
        self,
        table: Source | Stream,
        id: str | None = None,
        *,
        vectors: Any | None = None,
        wait: bool = False,
        progress: Progress | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Add the rows of a table. A row that cannot be embedded is set aside: see ``rejected``.

        Args:
            table: whatever ``msiam.open_table`` opens, with the gallery's column in it. Records
                have the columns of all tables; of one that a table lacks they have None.
            id: the column with each record's id; None: of the name that it had before.
            vectors: (rows, dim): those of the rows, instead of embedding them.
            wait: for another process that is writing the gallery.
            progress: called with the number of items each time that some are embedded.
            precision: as ``Gallery.build``.

        Raises:
            GalleryError: an id that is missing, there twice, or in the gallery already; a column
                with numbers where the gallery has texts; there is no model, or another; vectors
                of another number or width, of zero, or with NaN.
            DataError: the table cannot be read or has no such column.
        """
        self._add(table, id, False, vectors, wait, progress, precision)

    def upsert(
        self,
        table: Source | Stream,
        id: str | None = None,
        *,
        vectors: Any | None = None,
        wait: bool = False,
        progress: Progress | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """As ``add``, and a row takes the place of the record that has its id.

        The record of a row that is set aside stays as it was.
        """
        self._add(table, id, True, vectors, wait, progress, precision)

    def _add(
        self,
        table: Source | Stream,
        id: str | None,
        replace: bool,
        vectors: Any | None,
        wait: bool,
        progress: Progress | None,
        precision: Precision,
    ) -> None:
        rejected = add_records(
            self.folder, self.model, table, id,
            vectors=vectors, replace=replace, root=self.root, wait=wait, progress=progress,
            precision=precision,
        )  # fmt: skip
        self.renew()
        self.rejected = rejected

    def remove(
        self,
        ids: Sequence[str] | None = None,
        *,
        where: str | None = None,
        missing_ok: bool = False,
        wait: bool = False,
    ) -> int:
        """Remove the records with these ids, or all that pass a filter.

        Their room on disk is given back by ``compact``.

        Returns:
            How many were removed.

        Raises:
            GalleryError: there is no such record, and not ``missing_ok``: none is then removed; a
                filter that the gallery cannot have; ids and a filter, or neither.
        """
        if (ids is None) == (where is None):
            raise GalleryError("remove: give ids, or a filter")
        count = remove_records(self.folder, ids, where, missing_ok, wait)
        self.renew()
        return count

    def compact(self, *, wait: bool = False) -> None:
        """Write all records into one segment, with the index that the gallery was made with.

        After many changes it is smaller and searched faster; nothing is embedded again.
        """
        compact_gallery(self.folder, wait=wait)
        self.renew()

    def reindex(self, options: Any, *, wait: bool = False) -> None:
        """Write all records anew, with an index of other options. Nothing is embedded again.

        Raises:
            GalleryError: the backend refuses the options.
            RecipeError: the backend has no such option.
        """
        told = options if isinstance(options, Mapping) else options.model_dump(exclude_none=True)
        compact_gallery(self.folder, told, wait)
        self.renew()
