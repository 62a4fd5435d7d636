"""Boxes, and the squares that are cut round them: the geometry of Bertinetto et al. (2016).

A box is (x, y, w, h) in pixels: its left upper corner and its size, as OTB writes it.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

EXEMPLAR = 127  # sides in pixels of what the network is shown
SEARCH = 255
STRIDE = 8  # of the feature map, in pixels
PLACES = 22  # of a search region's feature map, along one side
KERNEL = 6  # of an exemplar's
SCORES = PLACES - KERNEL + 1  # of the score map

Box = tuple[float, float, float, float]


def centre(box: Box) -> tuple[float, float]:
    """The middle of a box, (x, y)."""
    x, y, w, h = box
    return x + w / 2, y + h / 2


def exemplar_side(w: float, h: float) -> float:
    """The side √((w + p)(h + p)) of the square round a target, with p = (w + h) / 2 of context."""
    p = (w + h) / 2
    return math.sqrt((w + p) * (h + p))


def search_side(w: float, h: float) -> float:
    """The side of its search region: as much larger as ``SEARCH`` is than ``EXEMPLAR``."""
    return exemplar_side(w, h) * SEARCH / EXEMPLAR


def crop(picture: Image.Image, middle: tuple[float, float], side: float, size: int) -> Image.Image:
    """The square of that middle and side, as a picture of size × size; outside is the mean colour.

    Args:
        middle: (x, y), and ``side``: in the picture's pixels; neither need be whole.
    """
    side = max(side, 1.0)
    left, top = middle[0] - side / 2, middle[1] - side / 2
    # The whole pixels that it touches, and of these the ones that there are.
    x0, y0 = math.floor(left), math.floor(top)
    x1, y1 = math.ceil(left + side), math.ceil(top + side)
    window = picture
    if x0 < 0 or y0 < 0 or x1 > picture.width or y1 > picture.height:
        window = Image.new("RGB", (x1 - x0, y1 - y0), mean_colour(picture))
        inside = max(x0, 0), max(y0, 0), min(x1, picture.width), min(y1, picture.height)
        if inside[0] < inside[2] and inside[1] < inside[3]:
            window.paste(picture.crop(inside), (inside[0] - x0, inside[1] - y0))
        left, top = left - x0, top - y0
    edges = (left, top, left + side, top + side)
    return window.resize((size, size), Image.Resampling.BILINEAR, box=edges, reducing_gap=2.0)


def mean_colour(picture: Image.Image) -> tuple[int, ...]:
    """The mean of a picture's pixels, by channel."""
    small = picture.resize((1, 1), Image.Resampling.BOX)
    return tuple(int(value) for value in np.asarray(small)[0, 0])
