from __future__ import annotations

import numpy as np
import pytest

from msiam.errors import GalleryError
from msiam.gallery.backend import Backend, as_vectors


def test_a_backend_must_have_every_method_of_the_contract():
    with pytest.raises(TypeError, match="build, dim, open, save, search"):
        type("Half", (Backend,), {"__len__": lambda self: 0})()


def test_numbers_of_any_kind_become_contiguous_float32():
    vectors = as_vectors(np.arange(12, dtype=np.float64).reshape(3, 4).T, 3, "vectors")
    assert vectors.dtype == np.float32 and vectors.flags.c_contiguous
    np.testing.assert_array_equal(vectors[1], [1, 5, 9])
    assert as_vectors([[1, 2]], 2, "vectors").tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 3)), r"queries: found shape \(2, 3\), and \(n, 4\) is right"),
        (np.zeros(4), r"queries: found shape \(4,\), and \(n, 4\) is right"),
        ([[0, 0, 0, 0], [0, np.nan, 0, 0]], "queries: row 1 holds NaN or infinity"),
        ([[0, 0, 0, np.inf]], "queries: row 0 holds NaN or infinity"),
        ([["a", "b", "c", "d"]], "queries: are no array of numbers"),
        ([[1, 2, 3, 4], [1]], "queries: are no array of numbers"),
    ],
)
def test_what_is_wrong_with_vectors_is_said_in_one_line(values, message):
    with pytest.raises(GalleryError, match=message) as caught:
        as_vectors(values, 4, "queries")
    assert "\n" not in str(caught.value)
