"""The backend ``milvus``: a cluster, or the milvus-lite of a local file, by one client."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal

import grpc
import numpy as np
import pydantic
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from msiam import TableBackend, TableOptions, VectorTable, errors

TOKEN = "MSIAM_MILVUS_TOKEN"
MOST_DIM = 32_768

# What fails is raised; the client would print its traceback as well.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


class MilvusOptions(TableOptions):
    url: str = pydantic.Field(
        min_length=1,
        description=f"host[:port], https://host[:port], or /path/of/a/local.db; token: {TOKEN}",
    )
    database: str = pydantic.Field("default", min_length=1, description="Milvus's database")
    index: Literal["FLAT", "HNSW", "IVF_FLAT"] = pydantic.Field(
        "FLAT", description="FLAT: exact, by going through all vectors"
    )
    m: int = pydantic.Field(16, ge=2, le=2048, description="HNSW: links of a vector")
    ef_construction: int = pydantic.Field(200, ge=1, description="HNSW: candidates in building")
    ef_search: int = pydantic.Field(
        100, ge=1, description="HNSW: candidates while searching; k where that is more"
    )
    lists: int = pydantic.Field(128, ge=1, le=65_536, description="IVF_FLAT: lists")
    probes: int = pydantic.Field(16, ge=1, le=65_536, description="IVF_FLAT: lists searched")
    timeout: float = pydantic.Field(60, gt=0, description="seconds that one call may take")

    @pydantic.field_validator("url")
    @classmethod
    def _whole(cls, url: str) -> str:
        """A file by its whole path, since a gallery may be opened from another folder."""
        if "@" in url:
            raise errors.RecipeError(
                f"backend milvus: url: holds an '@'; user and password, or a token, go into {TOKEN}"
            )
        if "://" not in url and url.endswith(".db"):
            return str(Path(url).expanduser().resolve())
        return url

    @property
    def uri(self) -> str:
        return self.url if "://" in self.url or self.url.startswith("/") else f"http://{self.url}"


class MilvusTable(VectorTable[MilvusOptions]):
    """A collection. Milvus has no transactions; a builder's note finds what one left behind."""

    failures = (MilvusException, grpc.RpcError)
    secrets = (TOKEN,)
    most = 16_384
    rows = 4096  # of 2,000 dimensions, half of what one message may hold

    _client: MilvusClient | None = None

    def _connect(self) -> MilvusClient:
        if self._client is None:
            self._client = MilvusClient(
                self.options.uri,
                token=os.environ.get(TOKEN, ""),
                db_name=self.options.database,
                timeout=self.options.timeout,
            )
        return self._client

    def create(self) -> None:
        if not 2 <= self.dim <= MOST_DIM:
            raise errors.GalleryError(
                f"backend milvus: vectors of width {self.dim}; Milvus takes 2 to {MOST_DIM}"
            )
        client = self._connect()
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("position", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        client.create_collection(
            self.name, schema=schema, consistency_level="Strong", timeout=self.options.timeout
        )

    def insert(self, start: int, vectors: np.ndarray) -> None:
        rows = [{"position": start + n, "vector": vector} for n, vector in enumerate(vectors)]
        self._connect().insert(self.name, rows, timeout=self.options.timeout)

    def finish(self, count: int) -> None:
        client, options = self._connect(), self.options
        client.flush(self.name, timeout=self.options.timeout)
        how = {
            "FLAT": {},
            "HNSW": {"M": options.m, "efConstruction": options.ef_construction},
            "IVF_FLAT": {"nlist": options.lists},
        }[options.index]
        index = client.prepare_index_params()
        # As one field of the request, which every server reads; the client alone would spread
        # them over several, which milvus-lite does not look at.
        index.add_index(
            "vector", index_type=options.index, metric_type="IP", params={"params": how}
        )
        client.create_index(self.name, index, retry_times=3)  # it takes as long as it takes
        client.load_collection(self.name, timeout=self.options.timeout)

    def count(self) -> int | None:
        client = self._connect()
        if not client.has_collection(self.name, timeout=self.options.timeout):
            return None
        # A server that was started anew has none in its memory.
        client.load_collection(self.name, timeout=self.options.timeout)
        found: Any = client.query(
            self.name, output_fields=["count(*)"], timeout=self.options.timeout
        )
        return found[0]["count(*)"]

    def nearest(
        self, queries: np.ndarray, k: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        how = {
            "FLAT": {},
            "HNSW": {"ef": max(k, self.options.ef_search)},
            "IVF_FLAT": {"nprobe": self.options.probes},
        }[self.options.index]
        answers: Any = self._connect().search(
            self.name,
            data=list(queries),
            limit=k,
            anns_field="vector",
            output_fields=["position"],
            search_params={"metric_type": "IP", "params": how},
            timeout=self.options.timeout,
        )
        scores = np.full((len(queries), k), -np.inf, np.float32)
        positions = np.full((len(queries), k), -1, np.int64)
        for row, hits in enumerate(answers):
            positions[row, : len(hits)] = [hit["position"] for hit in hits]
            scores[row, : len(hits)] = [hit["distance"] for hit in hits]
        return scores, positions

    def drop(self) -> None:
        self._connect().drop_collection(self.name, timeout=self.options.timeout)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class MilvusBackend(TableBackend):
    """Milvus. It filters by its own columns, of which the table has none: among some positions
    the gallery itself goes through the raw vectors."""

    Options = MilvusOptions
    name = "milvus"
    table = MilvusTable

    @property
    def exact(self) -> bool:
        return self._table.options.index == "FLAT"
