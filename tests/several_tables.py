"""A gallery on an engine elsewhere while its records come and go: a table for each of its parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from msiam.gallery.gallery import Gallery


def change_and_compact(
    backend: str,
    options: dict[str, Any],
    tables: Callable[[], list[str]],
    toy: SimpleNamespace,
    folder: Path,
) -> Gallery:
    """Build a gallery of ``toy``, change and compact it, and look what it finds each time.

    Args:
        tables: those that the engine has.
    """
    gallery = Gallery.build(
        toy.Toy(), toy.table(1), "text", folder, id="sku", backend=backend, options=options
    )
    before = tables()
    reader = Gallery.open(folder, toy.Toy())
    gallery.upsert([{"sku": "s7", "text": "new", "version": 2}])
    gallery.remove(["s8"])
    assert set(before) < set(tables()) and len(gallery.manifest.segments) == 2
    assert reader.search("1/7", k=1)[0].record["version"] == 1
    for _ in range(2):
        found = gallery.search(["new", "1/9", "1/8"], k=toy.ROWS)
        assert [hits[0].id for hits in found][:2] == ["s7", "s9"]
        assert [len(hits) for hits in found] == [toy.ROWS - 1] * 3
        among = np.zeros(len(gallery), bool)
        among[gallery.find(["s3", "s7"])] = True
        hits = gallery.nearest(toy.unit("new")[None], 3, among=among)[1]
        assert [id for id, _ in gallery.records(hits[0, :2])] == ["s7", "s3"] and hits[0, 2] == -1
        gallery.compact()
    assert len(tables()) == len(before) and not set(before) & set(tables())
    return gallery
