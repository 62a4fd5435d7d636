"""A table of vectors in PostgreSQL, filled by a binary COPY and searched by SQL."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.types import TypeInfo

from msiam import VectorTable, errors
from msiam_pgvector.options import MOST, MOST_INDEXED, PgvectorOptions

#: The largest ef_search of pgvector. Whoever wants more is better served without the index.
MOST_CANDIDATES = 1000
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"

# One statement answers a batch. An index is used where ORDER BY is its operator and no more.
_ASK = """
    WITH survivors AS MATERIALIZED (
        SELECT position, vector FROM {table} WHERE position = ANY(%(among)s)
    ) SELECT number, position, distance
    FROM unnest(%(queries)s) WITH ORDINALITY AS asked (query, number)
    CROSS JOIN LATERAL (
        SELECT position, vector <#> query AS distance FROM {source} ORDER BY {order} LIMIT {k}
    ) AS found ORDER BY number, distance, position"""
_INDEXED, _EXACT = sql.SQL("vector <#> query"), sql.SQL("0 + (vector <#> query), position")


class PgvectorTable(VectorTable[PgvectorOptions]):
    """One transaction builds the table: a server that is gone, or a builder, leaves none behind."""

    failures = (psycopg.Error,)
    secrets = ("PGPASSWORD",)
    ordered = True
    reconstructs = True

    def __init__(self, options: PgvectorOptions, name: str, dim: int) -> None:
        super().__init__(options, name, dim)
        self._open: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()  # of one connection, one transaction at a time

    @property
    def _name(self) -> sql.Identifier:
        return sql.Identifier(self.options.namespace, self.name)

    def _connect(self) -> psycopg.Connection[Any]:
        """The connection; a new one where the last is lost. libpq finds the password itself."""
        if self._open is not None and not self._open.closed:
            return self._open
        connection = psycopg.connect(
            **self.options.connection(), connect_timeout=10, application_name="msiam"
        )
        try:
            if TypeInfo.fetch(connection, "vector") is None:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                connection.commit()
            register_vector(connection)
            settings = {
                "hnsw.ef_search": self.options.ef_search,
                "hnsw.iterative_scan": "strict_order",
                "ivfflat.probes": self.options.probes,
                "plan_cache_mode": "force_custom_plan",  # how many queries there are matters
            }
            for key, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, false)", (key, str(value)))
            connection.commit()
        except BaseException:
            connection.close()
            raise
        self._open = connection
        return connection

    def create(self) -> None:
        most = MOST if self.options.index == "none" else MOST_INDEXED
        if self.dim > most:
            raise errors.GalleryError(
                f"backend pgvector: vectors of width {self.dim}, and with index "
                f"'{self.options.index}' pgvector takes {most} at most"
            )
        text = "CREATE TABLE {} (position integer NOT NULL, vector vector({}) NOT NULL)"
        self._connect().execute(sql.SQL(text).format(self._name, sql.Literal(self.dim)))

    def insert(self, start: int, vectors: np.ndarray) -> None:
        rows = np.empty(len(vectors), _row(self.dim))
        rows["fields"], rows["integer"], rows["bytes"] = 2, 4, 4 + 4 * self.dim
        rows["dim"], rows["unused"] = self.dim, 0
        rows["position"] = np.arange(start, start + len(vectors))
        rows["vector"] = vectors
        text = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(self._name)
        with self._connect().cursor() as cursor, cursor.copy(text) as copy:
            copy.write(_HEADER)
            copy.write(rows.tobytes())
            copy.write(_TRAILER)

    def finish(self, count: int) -> None:
        options = self.options
        if options.index == "hnsw":
            how = sql.SQL("hnsw (vector vector_ip_ops) WITH (m = {}, ef_construction = {})").format(
                sql.Literal(options.m), sql.Literal(options.ef_construction)
            )
        elif options.index == "ivfflat":
            lists = options.lists or max(1, min(count // 1000, int(count**0.5)))
            how = sql.SQL("ivfflat (vector vector_ip_ops) WITH (lists = {})").format(
                sql.Literal(lists)
            )
        connection = self._connect()
        if options.index != "none":
            connection.execute(sql.SQL("CREATE INDEX ON {} USING {}").format(self._name, how))
        connection.execute(sql.SQL("CREATE INDEX ON {} (position)").format(self._name))
        connection.execute(sql.SQL("ANALYZE {}").format(self._name))

    def publish(self) -> None:
        if self._open is None or self._open.closed:  # another connection would commit nothing
            raise psycopg.OperationalError("the connection was lost before the table was committed")
        self._open.commit()

    def count(self) -> int | None:
        connection = self._connect()
        name = self._name.as_string(connection)
        with connection.transaction():
            row = connection.execute("SELECT to_regclass(%s)", (name,)).fetchone()
            if row is None or row[0] is None:
                return None
            text = sql.SQL("SELECT count(*) FROM {}").format(self._name)
            (count,) = connection.execute(text).fetchone() or (0,)
        return count

    def nearest(
        self, queries: np.ndarray, k: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        exact = self.options.index == "none" or among is not None or k > MOST_CANDIDATES
        text = sql.SQL(_ASK).format(
            table=self._name,
            source=self._name if among is None else sql.Identifier("survivors"),
            order=_EXACT if exact else _INDEXED,
            k=sql.Literal(k),
        )
        kept = [] if among is None else np.flatnonzero(among).tolist()
        with (
            self._lock,
            self._connect().transaction() as transaction,
            transaction.connection.cursor(binary=True) as cursor,
        ):
            if not exact and k > self.options.ef_search:
                cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", (str(k),))
            cursor.execute(text, {"queries": list(queries), "among": kept})
            rows = np.array(cursor.fetchall(), np.float64).reshape(-1, 3)
        number = rows[:, 0].astype(np.int64) - 1
        place = np.arange(len(rows)) - np.searchsorted(number, number)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        positions = np.full((len(queries), k), -1, np.int64)
        positions[number, place] = rows[:, 1]
        scores[number, place] = -rows[:, 2]
        return scores, positions

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        text = "SELECT vector FROM {} WHERE position = ANY(%s) ORDER BY position"
        with (
            self._lock,
            self._connect().transaction() as transaction,
            transaction.connection.cursor(binary=True) as cursor,
        ):
            cursor.execute(sql.SQL(text).format(self._name), (positions.tolist(),))
            found = [vector.to_numpy() for (vector,) in cursor]
        if len(found) != len(positions):
            raise psycopg.DataError(f"has {len(found)} of the {len(positions)} vectors asked for")
        return np.array(found, np.float32).reshape(-1, self.dim)

    def drop(self) -> None:
        connection = self._connect()
        connection.rollback()
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._name))
        connection.commit()

    def close(self) -> None:
        if self._open is not None:
            self._open.close()


def _row(dim: int) -> np.dtype[Any]:
    """A row of COPY's binary format: an integer, and a vector as pgvector sends and takes it."""
    return np.dtype(
        [
            ("fields", ">i2"),
            ("integer", ">i4"),
            ("position", ">i4"),
            ("bytes", ">i4"),
            ("dim", ">i2"),
            ("unused", ">i2"),
            ("vector", ">f4", (dim,)),
        ]
    )
