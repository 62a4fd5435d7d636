"""A gallery's vectors in Milvus: a cluster, or milvus-lite in a local file."""

from msiam import hookimpl


@hookimpl
def msiam_backends(register):
    register(
        "milvus",
        "msiam_milvus.backend:MilvusBackend",
        summary="Milvus: exact, HNSW or IVF, on a cluster or in a local file",
        extra="msiam[milvus]",
    )
