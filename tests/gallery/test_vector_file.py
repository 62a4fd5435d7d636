from __future__ import annotations

import numpy as np
import pytest

from msiam.errors import GalleryError
from msiam.gallery import vector_file
from msiam.gallery.vector_file import VectorFile, VectorWriter

VECTORS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    with VectorWriter(tmp_path / "v.npy") as writer:
        for start, end in ((0, 1), (1, 1), (1, 40), (40, 50)):
            writer.write(VECTORS[start:end])
    assert (writer.count, writer.dim) == (50, 3)
    return tmp_path / "v.npy"


def test_it_is_a_file_that_numpy_reads(path):
    np.testing.assert_array_equal(np.load(path), VECTORS)


def test_it_may_be_gone_through_twice(path, monkeypatch):
    monkeypatch.setattr(vector_file, "ROWS", 16)
    found = VectorFile(path)
    for _ in range(2):
        chunks = list(found)
        assert [len(chunk) for chunk in chunks] == [16, 16, 16, 2]
        np.testing.assert_array_equal(np.concatenate(chunks), VECTORS)
    assert len(found) == 50


@pytest.mark.parametrize("positions", [[], [3], [3, 4, 5], [1, 4, 4, 49], [9, 2]])
def test_some_are_taken(path, positions):
    wanted = np.array(positions, np.int64)
    np.testing.assert_array_equal(VectorFile(path).take(wanted), VECTORS[wanted])


def test_a_run_is_not_copied(path):
    assert VectorFile(path).take(np.arange(10, 40)).base is not None


def test_another_file_is_refused(tmp_path):
    (tmp_path / "v.npy").write_text("these are no vectors")
    with pytest.raises(GalleryError, match=r"v\.npy: holds no vectors"):
        VectorFile(tmp_path / "v.npy")
