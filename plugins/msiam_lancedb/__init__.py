"""A gallery's vectors in LanceDB: tables of columns in a folder, searched from the disk."""

from msiam import hookimpl


@hookimpl
def msiam_backends(register):
    register(
        "lancedb",
        "msiam_lancedb.backend:LanceBackend",
        summary="LanceDB: exact, IVF or HNSW, in a folder, read from the disk as needed",
        extra="msiam[lancedb]",
    )
