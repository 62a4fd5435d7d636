from __future__ import annotations

import numpy as np
import pytest

from msiam.errors import GalleryError
from msiam.gallery.query_file import read_vectors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queries.npy"


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int64])
def test_vectors_of_any_numbers(path, kind):
    vectors = np.arange(6).reshape(2, 3).astype(kind)
    np.save(path, vectors)
    found = read_vectors(path, 3)
    assert found.dtype == np.float32 and found.tolist() == vectors.tolist()


def test_one_vector_is_one_query(path):
    np.save(path, np.ones(3))
    assert read_vectors(path, 3).shape == (1, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 4)), r"queries.npy: found shape \(2, 4\), and \(n, 3\) is right"),
        (np.ones(4), r"found shape \(1, 4\)"),
        (np.ones((1, 2, 3)), r"found shape \(1, 2, 3\)"),
        (np.array([[1, np.nan, 1]]), "row 0 holds NaN"),
        (np.array([["a", "b", "c"]]), "are no array of numbers"),
        (np.array([[{}, None, 1]], dtype=object), "queries.npy: is no .npy file of numbers"),
    ],
)
def test_other_arrays(path, values, message):
    np.save(path, values)
    with pytest.raises(GalleryError, match=message):
        read_vectors(path, 3)


@pytest.mark.parametrize("raw", [b"", b"a,b,c\n1,2,3\n", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_other_files(path, raw):
    path.write_bytes(raw)
    with pytest.raises(GalleryError, match=r"is no \.npy file of numbers; write it with numpy"):
        read_vectors(path, 3)


def test_several_arrays_and_no_file(path):
    with pytest.raises(GalleryError, match=r"queries\.npy: cannot be read \(No such file"):
        read_vectors(path, 3)
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3), b=np.ones(3))
    with pytest.raises(GalleryError, match=r"holds several arrays; give a \.npy file of one"):
        read_vectors(path, 3)
