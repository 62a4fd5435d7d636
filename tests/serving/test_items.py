from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pydantic
import pytest

pytest.importorskip("fastapi")
from PIL import Image

from msiam.serving.items import (
    Item,
    Query,
    SearchRequest,
    checked_picture,
    checked_vector,
    read_items,
)
from msiam.serving.problems import ProblemError


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and is a few bytes long."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def encoded(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format)
    return file.getvalue()


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 20_000), (1001, 1000)])
def test_a_decompression_bomb_is_refused_by_its_header(size):
    with pytest.raises(ProblemError) as error:
        checked_picture(png_of(*size), 1_000_000)
    assert error.value.status_code == 413 and "1,000,000" in error.value.detail


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_pixels_of_a_picture(format):
    assert checked_picture(encoded(format), 64) == 64


@pytest.mark.parametrize("raw", [b"", b"no picture", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture_is_refused(raw):
    with pytest.raises(ProblemError, match="picture: is none") as error:
        checked_picture(raw, 64)
    assert error.value.status_code == 422


def test_a_vector_must_be_one_that_can_be_searched_with():
    found = checked_vector([1, 0.5, 0], 3, "here")
    assert found.dtype == np.float32 and found.tolist() == [1, 0.5, 0]
    for values, said in [
        ([1.0], "here: has 1 numbers; the gallery's have 3"),
        ([1e39, 0, 0], "beyond"),
        ([0, 0, 0], "zero"),
        ([1e-60, 0, 0], "zero"),
    ]:
        with pytest.raises(ProblemError, match=said):
            checked_vector(values, 3, "here")


def test_an_item_is_a_text_or_a_picture():
    raw = encoded("PNG")
    picture, text = Item(picture=base64.b64encode(raw).decode()), Item(text="red")
    assert read_items([picture, text], 64) == [raw, "red"]
    with pytest.raises(ProblemError, match="in one request"):  # the second is one too many
        read_items([picture, text, picture], 100)
    for keys in (
        {},
        {"text": "a", "picture": "b"},
        {"text": " "},
        {"text": "a\ud800"},
        {"txt": "a"},
    ):
        with pytest.raises(pydantic.ValidationError):
            Item(**keys)
    with pytest.raises(ProblemError, match="base64"):
        read_items([Item(picture="%%%")], 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0}, {"k": 1001}, {"k": "10"}, {"k": True}, {"k": 1.5}, {"threshold": float("nan")},
        {"threshold": "best"}, {"where": "x" * 2001}, {"queries": []}, {"what": 1},
        {"queries": [{"text": "x" * 10_001}]}, {"queries": [{"vector": [float("nan")]}]},
        {"queries": [{"text": "a"}] * 65}, {"queries": [{"text": "a"}] * 11, "k": 1000},
        {"queries": [{"id": "a", "text": "b"}]},
    ],
)  # fmt: skip
def test_a_search_that_is_not_right_is_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        SearchRequest(**{"queries": [{"text": "a"}], **wrong})


def test_a_search_that_is_right():
    asked = SearchRequest(queries=[Query(id="a"), Query(vector=[1, 2.5])], threshold="run", k=1000)
    assert asked.threshold == "run" and asked.queries[1].vector == [1, 2.5]
