"""Reading pictures of every kind, and refusing what is none."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msiam_vision import images
from PIL import Image

from msiam import Rejected

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image, format="PNG", **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def one(item, side=8, fit="stretch", channels=3):
    return images.prepare([item], side, fit, channels)[0]


def gradient(width, height):
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I", "I;16"]
)
def test_every_mode_keeps_what_is_white_and_what_is_black(mode):
    grey = Image.new("L", (20, 10), 255)
    grey.paste(0, (0, 0, 10, 10))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    elif mode in ("CMYK", "YCbCr", "HSV"):
        image = grey.convert("RGB").convert(mode)
    else:
        image = grey.convert(mode)
    assert image.mode == mode
    got = one(image)
    assert got.shape == (8, 8, 3) and got.dtype == np.uint8
    assert got[:, 0].max() < 6 and got[:, -1].min() > 249


def test_integers_are_read_as_8_bits_or_as_16():
    grey = np.asarray(gradient(8, 8).convert("L")).astype(np.int32)
    expected = one(Image.fromarray(grey.astype(np.uint8)))
    for integers in (grey, grey * 257):
        image = Image.fromarray(integers)
        assert image.mode == "I"
        np.testing.assert_array_equal(one(image), expected)


def test_a_dark_picture_of_16_bits_stays_dark():
    assert (one(Image.fromarray(np.full((8, 8), 255, np.uint16))) == 0).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_bytes_a_path_and_both_are_the_same_picture(tmp_path, format):
    image = gradient(32, 24)
    content = encoded(image, format)
    path = tmp_path / "picture"
    path.write_bytes(content)
    items = [
        content,
        path,
        str(path),
        {"bytes": content, "path": None},
        {"bytes": None, "path": str(path)},
        {"bytes": content, "path": "a name that is no file.png"},
    ]
    got = images.prepare(items, 16, "crop", 3)
    for features in got[1:]:
        np.testing.assert_array_equal(features, got[0])
    expected = np.asarray(image.crop((4, 0, 28, 24)).resize((16, 16)), np.float32)
    assert np.abs(got[0] - expected).mean() < 20  # a GIF has 256 colours


def test_cmyk_jpeg_has_its_colours():
    content = encoded(Image.new("RGB", (64, 64), RED).convert("CMYK"), "JPEG")
    np.testing.assert_allclose(one(content), np.broadcast_to(RED, (8, 8, 3)), atol=8)


def test_transparent_parts_are_white():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 4, 8))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, *RED])
    palette.paste(1, (0, 0, 4, 8))
    for item in (
        image,
        encoded(image),
        np.asarray(image),
        encoded(palette, transparency=0),
        encoded(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3)),
    ):
        got = one(item)
        assert tuple(got[4, 7]) == WHITE
    assert tuple(one(image)[4, 0]) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(orientation):
    upright = gradient(40, 24)
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if turned is None else upright.transpose(turned)
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    for item in (
        encoded(stored, "PNG", exif=exif),
        encoded(stored, "JPEG", exif=exif, quality=95),
        encoded(stored, "TIFF", exif=exif),
    ):
        got = one(item, fit="crop").astype(int)
        expected = one(upright, fit="crop").astype(int)
        assert np.abs(got - expected)[..., :2].max() < 25


def test_crop_keeps_the_middle_pad_all_and_stretch_all():
    image = Image.new("RGB", (30, 10), RED)
    image.paste((0, 0, 255), (10, 0, 20, 10))
    crop, pad, stretch = (one(image, 30, fit) for fit in ("crop", "pad", "stretch"))
    assert (crop[5:25, 2:28] == (0, 0, 255)).all()
    assert (pad[:10] == 255).all() and (pad[20:] == 255).all()
    assert (pad[10:20, :8] == RED).all() and (pad[10:20, 12:18] == (0, 0, 255)).all()
    assert (stretch[:, :8] == RED).all() and (stretch[:, 12:18] == (0, 0, 255)).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 3)])
def test_any_shape_becomes_a_square(fit, size):
    got = one(Image.new("RGB", size, RED), 16, fit)
    assert got.shape == (16, 16, 3)
    assert (got == RED).all(-1).any()


def test_one_channel_is_grey():
    got = one(Image.new("RGB", (9, 9), RED), channels=1)
    assert got.shape == (8, 8, 1) and (got == 76).all()


def test_a_large_jpeg_looks_the_same_decoded_small():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    got = one(encoded(image, "JPEG", quality=95), 64, "crop").astype(int)
    expected = one(image, 64, "crop").astype(int)
    assert np.abs(got - expected).mean() < 3


def png_header(width, height):
    """A PNG that says how large it is, and has no more than that."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = [head, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


JPEG = encoded(gradient(200, 200), "JPEG")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (b"", "neither bytes nor a path"),
        (b"\x00" * 100, "not a picture"),
        (b"hello, I am a text", "not a picture"),
        (EPS, "not a picture"),
        (JPEG[: len(JPEG) // 2], "broken picture: image file is truncated"),
        (JPEG[:30], "broken picture|not a picture"),
        (encoded(gradient(200, 200))[:300], "broken picture"),
        (png_header(30_000, 30_000), "more than 89,478,485 pixels"),
        (png_header(10_000, 10_000), "10000 × 10000 pixels, more than 89,478,485"),
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        ({"bytes": None, "path": "/nowhere/to/be/found.png"}, "no such file: /nowhere/to/be/"),
        ("/nowhere/to/be/found.png", "no such file: /nowhere/to/be/found.png"),
        (np.zeros((4, 4, 3), np.float32), "pixels are 4 × 4 × 3 float32; right is uint8"),
        (np.zeros((3, 8, 8), np.uint8), "pixels are 3 × 8 × 8 uint8"),
        (np.zeros((0, 4), np.uint8), "pixels are 0 × 4 uint8"),
        (Image.new("F", (4, 4)), "floating-point"),
        (None, "neither bytes nor a path"),
        (3, "neither bytes nor a path"),
    ],
)
def test_what_is_no_picture_is_rejected_with_its_reason(item, reason):
    import re

    good = gradient(9, 9)
    before, got, after = images.prepare([np.asarray(good), item, encoded(good)], 8, "crop", 3)
    assert isinstance(got, Rejected) and "\n" not in got.reason
    assert re.search(reason, got.reason), got.reason
    np.testing.assert_array_equal(before, after)


def test_a_folder_is_rejected(tmp_path):
    assert "directory" in one(tmp_path).reason.lower()


def test_an_open_picture_twice_in_a_list_and_broken():
    broken = Image.open(io.BytesIO(JPEG[: len(JPEG) // 2]))
    whole = Image.open(io.BytesIO(JPEG))
    first, second, third, fourth = images.prepare([broken, whole, broken, whole], 8, "crop", 3)
    assert isinstance(first, Rejected) and first == third
    np.testing.assert_array_equal(second, fourth)


def test_pictures_are_decoded_at_the_same_time(monkeypatch):
    together, read = threading.Barrier(2, timeout=20), images.read

    def meeting(*given):
        together.wait()  # raises where nobody else comes
        return read(*given)

    monkeypatch.setattr(images, "THREADS", 2)
    monkeypatch.setattr(images, "read", meeting)
    assert len(images.prepare([JPEG] * 4, 8, "crop", 3)) == 4


def test_preparing_leaves_an_open_picture_as_it_was():
    image = Image.open(io.BytesIO(JPEG))
    one(image)
    assert image.size == (200, 200) and image.mode == "RGB"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.integers(0, len(JPEG) - 1))
def test_no_damage_raises(noise, place):
    damaged = JPEG[:place] + noise + JPEG[place + len(noise) :]
    got = one(damaged)
    assert isinstance(got, Rejected) or got.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("item", "answer"),
    [
        (Image.new("L", (2, 2)), True),
        (np.zeros((2, 2), np.uint8), True),
        (b"", True),
        ({"bytes": b"", "path": None}, True),
        ({"text": "a cat"}, False),
        ("cat.JPG", True),
        ("pictures/cat.webp", True),
        ("a cat on a mat", False),
        ("a" * 5000, False),
        ("a\0b", False),
        (7, False),
        (None, False),
    ],
)
def test_accepts(item, answer):
    assert images.accepts(item) is answer


def test_accepts_a_file_of_any_name(tmp_path):
    path = tmp_path / "picture"
    assert not images.accepts(str(path))
    path.write_bytes(JPEG)
    assert images.accepts(str(path)) and images.accepts(path)
