from __future__ import annotations

import numpy as np
import pytest

from msiam.errors import GalleryError
from msiam.gallery import stored
from msiam.gallery.stored import Stored


def test_a_stored_file_is_checked_by_size_and_checksum(tmp_path):
    path = tmp_path / "index-00000000.faiss"
    path.write_bytes(b"hello")
    found = Stored.of(path)
    assert found.check(tmp_path) == path
    path.write_bytes(b"hellO")
    with pytest.raises(GalleryError, match=r"index-00000000\.faiss: has changed"):
        found.check(tmp_path)
    path.write_bytes(b"hell")
    with pytest.raises(GalleryError, match=r"index-00000000\.faiss: has 4 bytes and had 5"):
        found.check(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        found.check(tmp_path)


@pytest.fixture
def long(tmp_path, monkeypatch):
    """A file of which a sample is looked at: 8 of its 100 blocks."""
    monkeypatch.setattr(stored, "WHOLE", 1000)
    monkeypatch.setattr(stored, "BLOCKS", 8)
    monkeypatch.setattr(stored, "BLOCK", 100)
    path = tmp_path / "vectors-00000000.npy"
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    return path


def flip(path, place):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("place", [0, 99, 1414 + 50, 9_900, 9_999])
def test_a_change_in_the_sample_of_a_long_file_is_noticed_at_once(long, place):
    found = Stored.of(long)
    flip(long, place)
    with pytest.raises(GalleryError, match="has changed since it was written"):
        found.check(long.parent)


@pytest.mark.parametrize("place", [100, 1414 - 50, 9_899])
def test_a_change_elsewhere_is_noticed_when_all_of_it_is_read(long, place):
    found = Stored.of(long)
    flip(long, place)
    assert found.check(long.parent) == long
    with pytest.raises(GalleryError, match="has changed since it was written"):
        found.check(long.parent, whole=True)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_long_file_of_another_length_is_noticed(long, change):
    found = Stored.of(long)
    raw = long.read_bytes()
    long.write_bytes(raw[:change] if change < 0 else raw + b"x")
    with pytest.raises(GalleryError, match=r"has \d+ bytes and had 10000"):
        found.check(long.parent)
