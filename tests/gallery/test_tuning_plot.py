from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from msiam.errors import GalleryError
from msiam.gallery.faiss_options import FaissOptions
from msiam.gallery.tuning import Wanted
from msiam.gallery.tuning_measure import Measured
from msiam.gallery.tuning_plot import check_drawing, draw_frontier, frontier


def one(factory, recall, single, batch=1e-3):
    return Measured(FaissOptions(factory=factory), recall, recall, batch, single, 1, 1, 1)


FOUND = [
    one("Flat", 1.0, 1e-2), one("IVF64,Flat", 0.6, 1e-4), one("IVF64,Flat", 0.9, 3e-4),
    one("IVF64,Flat", 0.8, 4e-4), one("HNSW32", 0.97, 5e-4), one("HNSW32", 0.97, 6e-4),
]  # fmt: skip


def test_the_frontier_is_what_nothing_beats():
    assert frontier(FOUND[1:4], "single") == [FOUND[1], FOUND[2]]
    assert frontier(FOUND, "single") == [FOUND[1], FOUND[2], FOUND[4], FOUND[0]]
    assert frontier([], "single") == []


@pytest.mark.parametrize("chosen", [None, FOUND[4]])
def test_a_drawing_as_svg_and_as_png(chosen):
    wanted = Wanted(0.95, latency=1e-3)
    svg = draw_frontier(FOUND, chosen, wanted, ".SVG").decode()
    ElementTree.fromstring(svg)
    png = Image.open(io.BytesIO(draw_frontier(FOUND, chosen, wanted, ".png")))
    assert png.format == "PNG" and png.size[0] > 1000
    assert len(png.convert("RGB").getcolors(1 << 20)) > 20


def test_a_drawing_that_is_neither_is_refused():
    for name in ("f.svg", "f.PNG"):
        check_drawing(Path(name))
    for name, found in (("f.pdf", ".pdf"), ("f", "")):
        with pytest.raises(GalleryError, match=rf"{name}: .* as \.svg or \.png; found '{found}'"):
            check_drawing(Path(name))


def test_the_same_figures_are_the_same_drawing():
    assert draw_frontier(FOUND, FOUND[0], Wanted(0.9), ".svg") == draw_frontier(
        FOUND, FOUND[0], Wanted(0.9), ".svg"
    )
