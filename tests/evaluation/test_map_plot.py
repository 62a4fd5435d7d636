"""The drawn map: well-formed, escaped, within its borders, and no picture over another."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
from PIL import Image

from msiam.evaluation.embedding_map import EmbeddingMap, Point
from msiam.evaluation.map_plot import HEIGHT, LETTERS, SIDE, WIDTH, draw_map

EVIL = '</text><script>alert("1")</script>'


def drawn(points, lines=(), kinds=()) -> ElementTree.Element:
    return ElementTree.fromstring(str(draw_map(EmbeddingMap(points, list(kinds), list(lines), ""))))


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.get(name)) for name in names]


def test_pictures_are_framed_in_their_colour_and_never_overlap():
    rng = np.random.default_rng(0)
    points = [
        Point(Image.new("RGB", (30, 40), (n, 0, 0)), float(x), float(y), n % 8, n % 5 == 0)
        for n, (x, y) in enumerate(rng.random((120, 2)))
    ]
    svg = drawn(points)
    frames = [rect for rect in svg.iter("rect") if "frame" in rect.get("class")]
    circles = list(svg.iter("circle"))
    assert len(frames) + len(circles) == len(points) and len(frames) > 20
    boxes = np.array([numbers(frame, "x", "y") for frame in frames])
    assert (boxes >= 0).all() and (boxes + SIDE <= (WIDTH, HEIGHT)).all()
    gaps = np.abs(boxes[:, None] - boxes).max(axis=2) + SIDE * np.eye(len(boxes))
    assert (gaps >= SIDE - 0.2).all()  # coordinates have one digit
    assert all(one.get("href").startswith("data:image/") for one in svg.iter("image"))
    false = sum("false" in one.get("class").split() for one in [*frames, *circles])
    assert false == 24
    assert frames[0].get("class").split() == ["frame", "k0", "false"]


def test_texts_are_escaped_shortened_and_whole_when_pointed_at():
    long = "word " * 40
    svg = drawn([Point(EVIL, 0, 0, 0), Point(long, 1, 1, 1), Point("short", 0, 0, 2)])
    assert not list(svg.iter("script"))
    first, second = svg.iter("text")  # there is no room for the third: it is where the first is
    assert first.text.startswith("</text><script>") and len(first.text) <= LETTERS
    assert second.text.endswith("…") and len(second.text) <= LETTERS
    assert second.get("text-anchor") == "end"  # to the left, where the right would leave the map
    titles = [circle.find("title").text for circle in svg.iter("circle")]
    assert titles == [EVIL, long, "short"]


def test_lines_join_points_and_say_which_pairs_are_apart():
    svg = drawn(
        [Point("a", 0, 0, 0), Point("b", 1, 0, 0), Point("c", 0, 1, 0)],
        [(0, 1, True), (0, 2, False)],
    )
    circles = [numbers(circle, "cx", "cy") for circle in svg.iter("circle")]
    together, apart = svg.iter("line")
    assert [together.get("class"), apart.get("class")] == ["pair", "pair apart"]
    assert numbers(together, "x1", "y1", "x2", "y2") == circles[0] + circles[1]
    assert numbers(apart, "x1", "y1", "x2", "y2") == circles[0] + circles[2]
    assert circles[0][1] > circles[2][1]  # up is up


def test_a_picture_that_cannot_be_opened_is_a_dot():
    svg = drawn([Point({"bytes": b"no picture", "path": None}, 0.5, 0.5, 3)])
    assert not list(svg.iter("image"))
    assert [circle.get("class") for circle in svg.iter("circle")] == ["k3"]
