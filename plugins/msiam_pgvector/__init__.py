"""A gallery's vectors in PostgreSQL, with the extension pgvector."""

from msiam import hookimpl


@hookimpl
def msiam_backends(register):
    register(
        "pgvector",
        "msiam_pgvector.backend:PgvectorBackend",
        summary="PostgreSQL with pgvector: exact, HNSW or IVF, on a server",
        extra="msiam[pgvector]",
    )
