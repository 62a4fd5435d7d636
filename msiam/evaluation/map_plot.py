"""An embedding map as SVG: thumbnails of pictures, short texts, and lines between pairs."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from msiam.evaluation import pictures
from msiam.evaluation.embedding_map import EmbeddingMap, Point

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 900, 560
EDGE = 34  # that no point is nearer to the border than
SIDE = 46  # of a thumbnail
LETTERS = 26  # of a text that is written beside its point
FONT = 11


Box = tuple[float, float, float, float]  # left, top, right, bottom


def draw_map(drawn: EmbeddingMap) -> Markup:
    """The map as one <svg>. Where there is no room for a thumbnail or a text, there is its dot.

    A text is seen in full when its dot is pointed at.
    """
    from markupsafe import Markup

    at = [_place(point) for point in drawn.points]
    parts = [
        Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(
            *at[one], *at[two], "pair" if same else "pair apart"
        )
        for one, two, same in drawn.lines
    ]
    taken: list[Box] = []
    dots, shown = [], []
    for point, (x, y) in zip(drawn.points, at, strict=True):
        colour = f"k{point.kind}" + (" false" if point.false else "")
        picture = pictures.is_picture(point.item)
        box = _picture_box(x, y) if picture else _text_box(x, y, str(point.item))
        room = not any(_meet(box, other) for other in taken)
        if picture and room and (image := _thumbnail(point.item)):
            taken.append(box)
            shown.append(_framed(image, box, colour))
            continue
        said = "" if picture else str(point.item)
        dots.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="{}"><title>{}</title></circle>')
            .format(x, y, colour, said[: pictures.LONG])
        )  # fmt: skip
        if not picture and room:
            taken.append(box)
            anchor = "end" if box[2] <= x else "start"
            place = box[2] if anchor == "end" else box[0]
            shown.append(
                Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
                    place, y + FONT / 3, anchor, _short(said)
                )
            )
    head = '<svg viewBox="0 0 {} {}" role="img" aria-label="Embedding map" class="map">'
    inside = [Markup(head).format(WIDTH, HEIGHT), *parts, *dots, *shown, Markup("</svg>")]
    return Markup("\n").join(inside)


def _place(point: Point) -> tuple[float, float]:
    return (
        EDGE + point.x * (WIDTH - 2 * EDGE),
        HEIGHT - EDGE - point.y * (HEIGHT - 2 * EDGE),
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1].rstrip()}…"


def _text_box(x: float, y: float, text: str) -> Box:
    """To the right of the dot, or to its left where that would leave the drawing."""
    width = 0.62 * FONT * len(_short(text))
    left = x + 8 if x + 8 + width < WIDTH else x - 8 - width
    return left, y - FONT * 0.7, left + width, y + FONT * 0.7


def _picture_box(x: float, y: float) -> Box:
    half = SIDE / 2
    return x - half, y - half, x + half, y + half


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _thumbnail(item: Any) -> str | None:
    """The picture as a data URI; None where it cannot be opened."""
    try:
        kind, data, _ = pictures.thumbnail(item, 2 * SIDE)
    except Exception:  # Pillow's readers raise nearly anything on broken files
        return None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _framed(image: str, box: Box, colour: str) -> Markup:
    from markupsafe import Markup

    left, top, *_ = box
    place = Markup('x="{:.1f}" y="{:.1f}" width="{}" height="{}"').format(left, top, SIDE, SIDE)
    inside = Markup('x="{:.1f}" y="{:.1f}" width="{}" height="{}"').format(
        left + 2, top + 2, SIDE - 4, SIDE - 4
    )
    return Markup(
        '<rect {0} rx="3" class="ground"/><image href="{1}" {2}/>'
        '<rect {0} rx="3" class="frame {3}"/>'
    ).format(place, image, inside, colour)
