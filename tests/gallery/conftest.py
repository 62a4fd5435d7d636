from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from msiam.gallery.manifest import Manifest, SegmentFiles
from msiam.gallery.stored import Stored
from msiam.gallery.writing import commit

_STORED = Stored(name="catalogue-00000000.arrow", size=1, sha256="0" * 64, sample="0" * 64)
_MANIFEST = Manifest(
    created="2026-01-01T00:00:00+00:00",
    count=3,
    dim=4,
    column="image",
    id="sku",
    backend="faiss",
    options={"factory": "Flat"},
    fingerprint="abc",
    run="../run",
    table="tableau é.csv",
    root=None,
    segments=[
        SegmentFiles(
            count=3,
            alive=3,
            options={"factory": "Flat"},
            catalogue=_STORED,
            index=_STORED.model_copy(update={"name": "index-00000000.faiss"}),
        )
    ],
)


@pytest.fixture(scope="session")
def toy():
    """What toy.py holds (the model ``Toy`` and helpers), and its path."""
    path = Path(__file__).with_name("toy.py")
    return SimpleNamespace(**runpy.run_path(str(path)), path=path)


@pytest.fixture
def manifest():
    return _MANIFEST


@pytest.fixture
def folder(tmp_path, manifest):
    """A folder with a manifest, and without the files that it names."""
    commit(tmp_path, manifest)
    return tmp_path
