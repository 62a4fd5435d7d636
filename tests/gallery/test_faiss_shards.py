from __future__ import annotations

import faiss
import numpy as np
import pytest

from msiam.gallery import faiss_shards
from msiam.gallery.faiss_backend import FaissBackend, FaissOptions
from msiam.gallery.faiss_options import make_index
from msiam.gallery.faiss_shards import can_shard

DIM = 16


def chunks(seed=0):
    vectors = np.random.default_rng(seed).normal(size=(3000, DIM)).astype(np.float32)
    return np.split(vectors, [1, 400, 900, 2990])


@pytest.mark.parametrize("factory", ["IVF16,Flat", "IVF16,SQ8", "OPQ8,IVF16,PQ8x4", "IVF16,RaBitQ"])
def test_an_index_of_shards_is_that_of_one_piece(tmp_path, monkeypatch, factory):
    options = FaissOptions(factory=factory, nprobe=4)
    whole = FaissBackend.build(chunks(), DIM, options)
    spills = []
    spill = faiss_shards.Shards._spill
    monkeypatch.setattr(faiss_shards.Shards, "_spill", lambda s: (spills.append(1), spill(s)))
    monkeypatch.setattr(faiss_shards, "MOST", 9000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    merged = FaissBackend.build(chunks(), DIM, options)
    assert len(spills) > 2 and len(merged) == 3000
    assert not list(tmp_path.iterdir())
    merged.save(tmp_path / "index")
    for index in (merged, FaissBackend.open(tmp_path / "index", options)):
        for found, right in zip(
            index.search(chunks(1)[1], 20), whole.search(chunks(1)[1], 20), strict=True
        ):
            np.testing.assert_allclose(found, right, atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "can"),
    [("IVF4,Flat", True), ("OPQ8,IVF4,PQ8", True), ("Flat", False), ("HNSW16", False),
     ("IVF4,PQ8x4fs", False), ("IVF4,SQ8,RFlat", False)],
)  # fmt: skip
def test_which_indexes_can_be_made_of_shards(factory, can):
    assert can_shard(make_index(DIM, factory)) == can


def test_faiss_reads_the_file_into_memory_too(tmp_path, monkeypatch):
    monkeypatch.setattr(faiss_shards, "MOST", 9000)
    FaissBackend.build(chunks(), DIM, FaissOptions(factory="IVF16,Flat")).save(tmp_path / "index")
    index = faiss.read_index(str(tmp_path / "index"))
    index.nprobe = 16
    assert index.ntotal == 3000
    vectors = np.concatenate(chunks())
    products = index.search(vectors[:50], 1)[0][:, 0]
    np.testing.assert_allclose(products, (vectors[:50] @ vectors.T).max(axis=1), atol=1e-4)
