"""Where a PostgreSQL server is, and which index it builds."""

from __future__ import annotations

from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

import pydantic

from msiam import TableOptions, errors

#: What pgvector can index; a table without an index may be wider.
MOST_INDEXED, MOST = 2000, 16_000


class PgvectorOptions(TableOptions):
    url: str = pydantic.Field(
        min_length=1,
        description="[user@]host[:port]/database, or the folder of a socket; password: PGPASSWORD",
    )
    database: str | None = pydantic.Field(None, description="the database, if not in the url")
    user: str | None = pydantic.Field(None, description="the user, if not in the url")
    namespace: str = pydantic.Field(
        "public", min_length=1, description="the schema in which tables are made"
    )
    index: Literal["none", "hnsw", "ivfflat"] = pydantic.Field(
        "none", description="none: exact, by going through the table"
    )
    m: int = pydantic.Field(16, ge=2, le=100, description="hnsw: links of a vector")
    ef_construction: int = pydantic.Field(
        64, ge=4, le=1000, description="hnsw: candidates while building; at least 2 m"
    )
    ef_search: int = pydantic.Field(
        100, ge=1, le=1000, description="hnsw: candidates while searching; k where that is more"
    )
    lists: int | None = pydantic.Field(
        None, ge=1, le=32_768, description="ivfflat: lists [rows / 1,000, at most their root]"
    )
    probes: int = pydantic.Field(10, ge=1, le=32_768, description="ivfflat: lists searched")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if self.index == "hnsw" and self.ef_construction < 2 * self.m:
            raise ValueError(f"ef_construction must be at least {2 * self.m}, twice m")
        self.connection()
        return self

    def connection(self) -> dict[str, Any]:
        """The server, as psycopg takes it; what is not said is libpq's own choice.

        Raises:
            RecipeError: the URL says of no server where it is, or says something twice.
        """
        if self.url.startswith("/"):
            known: dict[str, Any] = {"host": self.url}
        else:
            parts = urlsplit(f"//{self.url}")
            try:
                port = parts.port
            except ValueError as error:
                raise errors.RecipeError(
                    "backend pgvector: url: its port is no number; write host:5432/database"
                ) from error
            known = {
                "host": parts.hostname,
                "port": port,
                "user": unquote(parts.username) if parts.username else None,
                "dbname": unquote(parts.path.strip("/")) or None,
            }
        for key, value in (("dbname", self.database), ("user", self.user)):
            if value is not None and known.get(key) is not None:
                raise errors.RecipeError(
                    f"backend pgvector: the url names the {key} already; leave one of them out"
                )
            known[key] = value or known.get(key)
        return {key: value for key, value in known.items() if value is not None}
