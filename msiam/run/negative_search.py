"""From positive pairs to triplets: embeds, searches, and puts together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from msiam.data.contents import Contents
from msiam.data.items import ALLOWED_SHARE, write_rejected
from msiam.errors import DataError, GalleryError
from msiam.gallery.gallery import Gallery
from msiam.mining.negatives import Candidates, Found, Queries, Rules, Search, find_negatives
from msiam.mining.pairs import Pairs
from msiam.progress import items_bar
from msiam.registry.registry import registry
from msiam.run.mineable import Mineable
from msiam.run.mined import Cells, Mined, Take
from msiam.towers.embedding import located
from msiam.towers.inference import KEPT
from msiam.towers.model import Model

RECORDS = 4096  # of a gallery read at a time


class NegativeSearch:
    """Searches a gallery for the hard negatives of some rows' pairs.

    Args:
        columns: the anchor's and the positive's.
        gallery: whose records are the candidates; None: the positive column's distinct items.
    """

    def __init__(
        self,
        model: Model,
        data: Mineable,
        columns: tuple[str, str],
        gallery: Gallery | None,
        rules: Rules,
    ) -> None:
        self.model, self.data, self.columns = model, data, columns
        self.gallery, self.rules = gallery, rules
        self.towers = tuple(model.columns[column] for column in columns)
        self.encoders = tuple(model.tower(tower).encoder for tower in self.towers)
        self.items = tuple(data.items[tower] for tower in self.towers)
        self.numbered = Contents()
        self.contents: dict[str, np.ndarray] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self.pairs = Pairs.find(data.examples, *columns, rules.seed)
        self.distinct = np.unique(data.examples.columns[columns[1]])

    def mine(
        self, names: Sequence[str], wide: bool, rejected: Path, allow: bool, console: Console
    ) -> Mined:
        """Triplets in columns of these names.

        Raises:
            DataError: more than 5 % of the rows cannot be read, and that is not allowed; none of
                the pairs can, or none gets a negative.
        """
        self._embed(console)
        refused = self._set_aside(rejected, allow, console)
        for tower, items, encoder in zip(self.towers, self.items, self.encoders, strict=True):
            if tower not in self.contents:
                self.contents[tower] = self.numbered.of(items.values, encoder)
        queries, candidates = self._queries(), self._candidates()
        with items_bar(console, "mining", len(self.pairs)) as progress:
            found = find_negatives(queries, candidates, self.rules, progress)
        columns = self._columns(names, found, wide)
        counts = found.there.sum(axis=1)
        negatives = found.scores[found.there]
        summary = {
            "pairs": len(self.pairs),
            "candidates": len(candidates),
            "negatives": len(negatives),
            "rows": len(columns[names[0]].numbers),
            "pairs_with_fewer": int((counts < self.rules.negatives).sum()),
            "pairs_with_none": int((counts == 0).sum()),
            "dropped": found.dropped,
            "positive_score": float(queries.scores.mean()),
            "negative_score": float(negatives.mean()) if len(negatives) else None,
            "rejected": refused,
        }
        if summary["rows"] == 0:
            dropped = ", ".join(f"{reason} {n:,}" for reason, n in found.dropped.items() if n)
            raise DataError(
                f"{self.data.table.name}: no pair of {len(self.pairs):,} gets its negatives from "
                f"{len(candidates):,} candidates (left out: {dropped}); loosen the bounds, or look "
                "further with a larger range"
            )
        return Mined(columns, summary)

    def check(self, out: Path) -> None:
        """Raise, before long work begins, unless the columns can be written to such a file.

        Raises:
            RecipeError: they cannot.
        """
        for side, numbers in enumerate((self.pairs.anchors, self.pairs.positives)):
            cells = self._cells(side, numbers, self._take(self.items[side].values))
            cells.check(self.columns[side], out)

    def _cells(self, side: int, numbers: np.ndarray, take: Take) -> Cells:
        return Cells.build(numbers, take, self.encoders[side], self.data.table, self.columns[side])

    def _used(self, tower: str) -> np.ndarray:
        """The numbers of a tower's items that are embedded."""
        both = zip(self.towers, (self.pairs.anchors, self.pairs.positives), strict=True)
        used = [numbers for name, numbers in both if name == tower]
        if self.gallery is None and tower == self.towers[1]:
            used.append(self.distinct)
        return np.unique(np.concatenate(used))

    def _embed(self, console: Console) -> None:
        """Embed each item that is used once; those that cannot be read are refused."""
        used = {tower: self._used(tower) for tower in dict.fromkeys(self.towers)}
        with items_bar(console, "embedding", sum(map(len, used.values()))) as progress:
            for (tower, numbers), column in zip(used.items(), self.columns, strict=False):
                items = self.data.items[tower]
                values = [items.values[number] for number in numbers.tolist()]
                found, unread = self.model.embed(column, values, progress=progress, how=KEPT)
                items.reject({int(numbers[place]): reason for place, reason in unread})
                vectors = np.zeros((len(items), found.shape[1]), np.float32)
                vectors[np.delete(numbers, [place for place, _ in unread])] = found
                self.vectors[tower] = vectors

    def _set_aside(self, rejected: Path, allow: bool, console: Console) -> int:
        """List what cannot be read, and leave it out; how many rows that are."""
        lists = (i.rejected for t, i in self.data.items.items() if self.model.leader(t) == t)
        listed = [row for rejected_rows in lists for row in rejected_rows]
        rows = len({(entry.table, entry.row) for entry in listed})
        if listed:
            write_rejected(rejected, listed, self.data.rows, None if allow else ALLOWED_SHARE)
            console.print(f"{rows:,} rows are set aside: {rejected}", soft_wrap=True)
        else:
            rejected.unlink(missing_ok=True)  # an earlier one's
        one, other = (items.refused for items in self.items)
        kept = ~(one[self.pairs.anchors] | other[self.pairs.positives])
        self.pairs = self.pairs.select(kept)
        self.distinct = self.distinct[~other[self.distinct]]
        if len(self.pairs) == 0:
            raise DataError(f"{self.data.table.name}: no pair can be read; {rejected} says why")
        return rows

    def _queries(self) -> Queries:
        anchors, which = np.unique(self.pairs.anchors, return_inverse=True)
        vectors, others = (self.vectors[tower] for tower in self.towers)
        scores = np.empty(len(self.pairs), np.float32)
        for start in range(0, len(scores), RECORDS):
            part = slice(start, start + RECORDS)
            left, right = vectors[self.pairs.anchors[part]], others[self.pairs.positives[part]]
            scores[part] = np.einsum("nd,nd->n", left, right)
        left, right = (self.contents[tower] for tower in self.towers)
        contents = np.stack([left[self.pairs.anchors], right[self.pairs.positives]], axis=1)
        return Queries(vectors[anchors], which, scores, self.pairs.groups, contents)

    def _candidates(self) -> Candidates:
        """A gallery's records, or the distinct items of the positive's column."""
        own = self.contents[self.towers[1]]
        if self.gallery is None:
            search, contents = self._exact_search(), own[self.distinct]
        else:
            search, contents = self.gallery.nearest, self._contents_of_records(self.gallery)
        groups = np.full(len(self.numbered), -1)
        for column, numbers in self.data.examples.columns.items():
            if self.model.numbering[column] == self.model.numbering[self.columns[1]]:
                groups[own[numbers]] = self.data.examples.groups[column]
        held_out = np.zeros(len(self.numbered), bool)
        if self.towers[1] in self.data.held_out:
            held_out[own[self.data.held_out[self.towers[1]]]] = True
        return Candidates(search, contents, groups, held_out)

    def _exact_search(self) -> Search:
        vectors = self.vectors[self.towers[1]][self.distinct]
        kind = registry().find("backend", "faiss").load()
        return kind.build([vectors], vectors.shape[1], kind.Options()).search

    def _contents_of_records(self, gallery: Gallery) -> np.ndarray:
        parts = np.array_split(np.arange(len(gallery)), 1 + len(gallery) // RECORDS)
        numbered = [self.numbered.of(self._read(part), self.encoders[1]) for part in parts]
        return np.concatenate(numbered)

    def _read(self, places: np.ndarray) -> list[Any]:
        """The items of a gallery's records."""
        assert self.gallery is not None
        column = self.gallery.manifest.column
        items = []
        for _, record in self.gallery.records(places):
            if column not in record:
                raise GalleryError(
                    f"{self.gallery.folder}: its records have no '{column}', since a gallery keeps "
                    "no picture that has no file; leave the gallery out"
                )
            items.append(located(record[column], self.gallery.root, self.encoders[1]))
        return items

    def _columns(self, names: Sequence[str], found: Found, wide: bool) -> dict[str, Cells]:
        """What is written: a row a triplet, or a row a pair that has all of its negatives."""
        if wide:
            rows = np.flatnonzero(found.there.all(axis=1))
            negatives = list(found.positions[rows].T)
        else:
            rows, place = np.nonzero(found.there)
            negatives = [found.positions[rows, place]]
        anchors, positives = (self._take(items.values) for items in self.items)
        numbers = [self.pairs.anchors[rows], self.pairs.positives[rows]]
        takes = [anchors, positives]
        for positions in negatives:
            own = self.gallery is None
            numbers.append(self.distinct[positions] if own else positions)
            takes.append(positives if own else self._read)
        sides = [0, *[1] * (len(names) - 1)]
        return {
            name: self._cells(side, taken, take)
            for name, taken, take, side in zip(names, numbers, takes, sides, strict=True)
        }

    @staticmethod
    def _take(values: list[Any]) -> Take:
        return lambda numbers: [values[number] for number in numbers.tolist()]
