"""The backend ``pgvector``: exact by default, and in any case among some positions."""

from __future__ import annotations

from msiam import TableBackend
from msiam_pgvector.options import PgvectorOptions
from msiam_pgvector.table import PgvectorTable


class PgvectorBackend(TableBackend):
    """PostgreSQL with pgvector. Without an index each search goes through the table: exact."""

    Options = PgvectorOptions
    name = "pgvector"
    table = PgvectorTable

    @property
    def exact(self) -> bool:
        return self._table.options.index == "none"

    @property
    def filters(self) -> bool:
        return True
