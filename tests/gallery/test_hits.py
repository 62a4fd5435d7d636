from __future__ import annotations

import numpy as np
import pytest

from msiam.gallery.gallery import Gallery
from msiam.gallery.hits import Hit, as_hits


class Reader:
    """Counts how often it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, positions):
        self.asked.append(positions.tolist())
        return [(f"id{position}", {"n": position}) for position in positions.tolist()]


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def hits(reader):
    scores = np.array([[0.5, 0.25], [0.75, -np.inf], [-np.inf, -np.inf]], np.float32)
    return as_hits(scores, np.array([[4, 2], [4, -1], [-1, -1]]), reader)


def test_nothing_is_read_before_somebody_looks_and_then_all_at_once(hits, reader):
    assert [len(row) for row in hits] == [2, 1, 0] and reader.asked == []
    assert hits[1][0] == Hit("id4", 0.75, {"n": 4})
    assert hits[0][1] == Hit("id2", 0.25, {"n": 2})
    assert reader.asked == [[4, 2, 4]]


def test_they_are_like_a_list(hits):
    first = [Hit("id4", 0.5, {"n": 4}), Hit("id2", 0.25, {"n": 2})]
    assert list(hits[0]) == first and hits[0] == first and first == hits[0]
    assert hits[0] != first[:1] and hits[0] != "text" and hits[0] != hits[1]
    assert hits[0][-1] is hits[0][1] and hits[0][:1] == first[:1]
    assert hits[2] == [] and not hits[2] and hits[0]
    assert first[1] in hits[0] and repr(hits[0]) == repr(first)
    with pytest.raises(IndexError):
        hits[2][0]


def test_no_queries(reader):
    assert as_hits(np.empty((0, 3)), np.empty((0, 3), np.int64), reader) == []


def test_hits_are_those_of_the_gallery_that_was_searched(toy, tmp_path):
    rows = [{"sku": "a", "text": "x"}, {"sku": "b", "text": "y"}]
    gallery = Gallery.build(toy.Toy(), rows, "text", tmp_path / "g", id="sku")
    found = gallery.search("y", k=1)
    gallery.upsert([{"sku": "b", "text": "other"}])
    gallery.remove(["a"])
    gallery.compact()
    assert found == [Hit("b", pytest.approx(1), {"text": "y"})]
