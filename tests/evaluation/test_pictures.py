from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from msiam.evaluation.pictures import LONG, SIDE, from_pixels, is_picture, show, show_words

RED = (200, 30, 40)


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def inlined(html: str) -> Image.Image:
    """The picture of an <img>, opened."""
    match = re.fullmatch(
        r'<img src="data:image/(png|jpeg);base64,([\w+/=]+)" width="\d+" height="\d+" '
        r'alt="" loading="lazy">',
        html,
    )
    assert match, html[:200]
    image = Image.open(io.BytesIO(base64.b64decode(match[2])))
    assert image.format.lower() == match[1]
    return image


def test_a_text_is_shown_and_never_run():
    html = show('<script>alert("x")</script> & more')
    assert html == (
        '<p class="text">&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; more</p>'
    )


def test_a_long_text_is_cut_at_a_word_and_whole_in_the_details():
    text = "<b>word " * 100
    html = show(text)
    assert html.startswith('<details class="text"><summary>')
    assert "<b>" not in html
    cut, whole = re.search(r'class="cut">(.*?) … </span>.*?<p class="text">(.*)</p>', html).groups()
    assert whole == text.replace("<", "&lt;").replace(">", "&gt;")
    assert whole.startswith(cut)
    assert cut.endswith("word")


def test_a_long_text_without_spaces_is_cut_too():
    assert "x" * LONG + " … " in show("x" * 1000)


@pytest.mark.parametrize("value", [None, 3, 2.5, ["a", "<b>"], {"key": "<b>"}])
def test_any_other_value_is_shown_as_text(value):
    html = show(value)
    assert html.startswith('<p class="text">')
    assert "<b>" not in html


@pytest.mark.parametrize("how", ["dict", "bytes", "image", "path", "name", "dict of path"])
def test_a_picture_in_any_form(tmp_path, how):
    image = Image.new("RGB", (300, 150), RED)
    path = tmp_path / "red.png"
    image.save(path)
    item = {
        "dict": {"bytes": path.read_bytes(), "path": None},
        "bytes": path.read_bytes(),
        "image": image,
        "path": path,
        "name": str(path),
        "dict of path": {"bytes": None, "path": str(path)},
    }[how]
    assert is_picture(item)
    found = inlined(show(item))
    assert found.size == (300, 150)
    assert found.getpixel((50, 50)) == pytest.approx(RED, abs=3)


def test_a_large_picture_is_made_small_and_shown_at_half_size():
    html = show(Image.new("RGB", (4000, 1000), RED))
    assert inlined(html).size == (SIDE, SIDE // 4)
    assert f'width="{SIDE // 2}" height="{SIDE // 8}"' in html


def test_a_small_picture_is_kept_exactly_and_shown_larger():
    image = Image.effect_noise((28, 14), 80).convert("RGB")
    html = show(image)
    assert inlined(html).tobytes() == image.tobytes()
    assert 'width="96" height="48"' in html


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "F"])
def test_a_picture_of_any_mode(mode):
    assert inlined(show(Image.new(mode, (200, 200)))).size == (200, 200)


def test_transparency_is_kept():
    assert inlined(show(Image.new("RGBA", (200, 200), (0, 0, 0, 0)))).getpixel((0, 0))[3] == 0


def test_a_photo_is_turned_as_its_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright
    data = encoded(Image.new("RGB", (200, 100), RED), "jpeg", exif=exif)
    assert inlined(show(data)).size == (100, 200)


@pytest.mark.parametrize(
    "item",
    [b"", b"no picture", {"bytes": b"<b>", "path": None}, {"bytes": None, "path": "/nowhere.png"}],
)
def test_a_broken_picture_is_named(item):
    html = show(item)
    assert "This picture cannot be shown" in html
    assert "<b>" not in html


@pytest.mark.parametrize("name", ["red.jfif", "red.ppm", "red.tga", "red.JPE", "red"])
def test_a_file_is_known_by_what_is_in_it(tmp_path, name):
    kinds = {".ppm": "ppm", ".tga": "tga"}
    path = tmp_path / name
    path.write_bytes(encoded(Image.new("RGB", (99, 50), RED), kinds.get(path.suffix, "jpeg")))
    assert inlined(show(str(path))).size == (99, 50)


@pytest.mark.parametrize("content", [b"", b"# a heading", b"\x89PNG but not really"])
def test_a_text_that_happens_to_be_a_files_name_is_a_text(tmp_path, content):
    path = tmp_path / "notes.md"
    path.write_bytes(content)
    assert show(str(path)) == f'<p class="text">{path}</p>'


def test_a_text_that_looks_like_a_file_is_a_text():
    assert show("holiday.png") == '<p class="text">holiday.png</p>'
    assert not is_picture("a" * 5000 + ".png")
    assert not is_picture("\0.png")


def test_pixels_between_whole_numbers_become_a_picture():
    colour = from_pixels(np.array([[[0.4, 254.6, 300.0], [-3.0, 1.5, 2.5]]]))
    assert [colour.getpixel(place) for place in ((0, 0), (1, 0))] == [(0, 255, 255), (0, 2, 2)]
    grey = from_pixels(np.full((2, 3, 1), 7.2))
    assert grey.size == (3, 2) and grey.getpixel((2, 1)) == 7


def test_words_stand_on_a_ground_as_strong_as_what_they_add():
    html = show_words([("<b>", 0.5), ("not", -0.25), ("a", 0.0)])
    assert html == (
        '<p class="text words"><span class="adds" style="--s:60%" title="+0.500">&lt;b&gt;</span> '
        '<span class="takes" style="--s:30%" title="-0.250">not</span> '
        '<span class="takes" style="--s:0%" title="+0.000">a</span></p>'
    )
    assert show_words([("a", 0.0), ("b", 0.0)]).count("--s:0%") == 2
