"""The backend ``lancedb``: tables in a folder, searched in this process from the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pydantic

os.environ.setdefault("LANCE_LOG", "error")  # else it warns that a new table is not there yet

import lancedb

from msiam import TableBackend, TableOptions, VectorTable


class LanceOptions(TableOptions):
    url: str = pydantic.Field(min_length=1, description="the folder of the tables")
    index: Literal["none", "IVF_FLAT", "IVF_PQ", "IVF_HNSW_SQ"] = pydantic.Field(
        "none", description="none: exact, by going through the table"
    )
    lists: int | None = pydantic.Field(None, ge=1, description="lists [LanceDB's choice]")
    probes: int = pydantic.Field(20, ge=1, description="lists searched")
    ef_search: int | None = pydantic.Field(
        None, ge=1, description="IVF_HNSW_SQ: candidates while searching [LanceDB's choice]"
    )
    refine: int | None = pydantic.Field(
        None, ge=1, description="how many times k candidates are scored by their raw vectors"
    )

    @pydantic.field_validator("url")
    @classmethod
    def _whole(cls, url: str) -> str:
        """The whole path, since a gallery may be opened from another folder."""
        return url if "://" in url else str(Path(url).expanduser().resolve())


class LanceTable(VectorTable[LanceOptions]):
    """A table of LanceDB, which commits each block; a builder's note finds what one left."""

    failures = (RuntimeError, ValueError, OSError)

    _open: Any = None

    def _table(self) -> Any:
        if self._open is None:
            self._open = lancedb.connect(self.options.url).open_table(self.name)
        return self._open

    @property
    def _schema(self) -> pa.Schema:
        vector = pa.list_(pa.float32(), self.dim)
        return pa.schema([pa.field("position", pa.int64()), pa.field("vector", vector)])

    def create(self) -> None:
        self._open = lancedb.connect(self.options.url).create_table(self.name, schema=self._schema)

    def insert(self, start: int, vectors: np.ndarray) -> None:
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        columns = [
            pa.array(np.arange(start, start + len(vectors))),
            pa.FixedSizeListArray.from_arrays(flat, self.dim),
        ]
        self._table().add(pa.table(columns, schema=self._schema))

    def finish(self, count: int) -> None:
        if self.options.index != "none":
            self._table().create_index(
                "dot",
                vector_column_name="vector",
                index_type=self.options.index,
                num_partitions=self.options.lists,
            )

    def count(self) -> int | None:
        try:
            table = self._table()
        except (ValueError, FileNotFoundError):  # LanceDB's words for a table that is not there
            return None
        return table.count_rows()

    def nearest(
        self, queries: np.ndarray, k: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        asked = self._table().search(queries, vector_column_name="vector").distance_type("dot")
        asked = asked.limit(k).select(["position", "_distance"])
        if self.options.index == "none":
            asked = asked.bypass_vector_index()
        else:
            asked = asked.nprobes(self.options.probes)
            if self.options.ef_search is not None:
                asked = asked.ef(max(k, self.options.ef_search))
            if self.options.refine is not None:
                asked = asked.refine_factor(self.options.refine)
        found = asked.to_arrow()
        number = np.zeros(len(found), np.int64)
        if "query_index" in found.column_names:  # one query has none
            number = found["query_index"].to_numpy().astype(np.int64)
        order = np.argsort(number, kind="stable")
        number = number[order]
        place = np.arange(len(found)) - np.searchsorted(number, number)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        positions = np.full((len(queries), k), -1, np.int64)
        positions[number, place] = found["position"].to_numpy()[order]
        scores[number, place] = 1 - found["_distance"].to_numpy()[order]  # as Lance defines it
        return scores, positions

    def drop(self) -> None:
        self.close()
        lancedb.connect(self.options.url).drop_table(self.name, ignore_missing=True)

    def close(self) -> None:
        self._open = None


class LanceBackend(TableBackend):
    """LanceDB. Filters by a list of positions are slow in it: among some positions the gallery
    itself goes through the raw vectors."""

    Options = LanceOptions
    name = "lancedb"
    table = LanceTable

    @property
    def exact(self) -> bool:
        return self._table.options.index == "none"
