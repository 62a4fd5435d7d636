from __future__ import annotations

import io
import zipfile

import pytest

pytest.importorskip("fastapi")
from PIL import Image

from msiam.serving.pictures import picture_of
from msiam.serving.problems import ProblemError

PIXELS = 10_000


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "in").mkdir(parents=True)
    for place in (folder / "in/a.png", tmp_path / "outside.png"):
        Image.new("RGB", (40, 20), "red").save(place)
    Image.new("RGB", (200, 100), "red").save(folder / "large.png")
    Image.new("RGB", (40, 20), "red").save(folder / "scan.tiff")
    Image.new("RGB", (40, 20), "red").save(folder / "phone.jpg", "MPO", save_all=True,
                                           append_images=[Image.new("RGB", (20, 10))])  # fmt: skip
    (folder / "notes.txt").write_text("no picture")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "inner.png").symlink_to("in/a.png")
    for place in (folder / "many.zip", tmp_path / "outside.zip"):
        with zipfile.ZipFile(place, "w") as archive:
            archive.write(folder / "in/a.png", "in/a.png")
            archive.write(folder / "notes.txt", "notes.txt")
    return folder


def opened(content):
    return Image.open(io.BytesIO(content))


def test_a_picture_below_the_root(root):
    raw = (root / "in/a.png").read_bytes()
    for name in ("in/a.png", "in/../in/a.png", str(root / "in/a.png"), "inner.png",
                 "many.zip/in/a.png", f"{root}/many.zip/in/a.png"):  # fmt: skip
        assert picture_of(root, name, 40, PIXELS) == (raw, "image/png")


def test_a_larger_one_is_made_smaller(root):
    content, media_type = picture_of(root, "in/a.png", 20, PIXELS)
    assert media_type == "image/png" and opened(content).size == (20, 10)


@pytest.mark.parametrize("name", ["scan.tiff", "phone.jpg"])
def test_what_browsers_do_not_show_is_made_into_what_they_do(root, name):
    content, media_type = picture_of(root, name, 100, PIXELS)
    assert media_type in ("image/png", "image/jpeg")
    assert (
        opened(content).size == (40, 20) and f"image/{opened(content).format.lower()}" == media_type
    )


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png", "in/../../outside.png", "/etc/passwd", "link.png", "loop.png",
        "notes.txt", "drawing.svg", "in", "", ".", "nothing.png", "a\0.png", "x" * 5000, None, 3,
        {"path": "in/a.png"}, "large.png", "many.zip", "many.zip/notes.txt", "many.zip/nothing.png",
        "../outside.zip/in/a.png", "many.zip/../../outside.png", "in/a.png/in/a.png",
    ],
)  # fmt: skip
def test_nothing_else_is_served(root, name):
    with pytest.raises(ProblemError) as error:
        picture_of(root, name, 100, PIXELS)
    assert error.value.status_code == 404 and str(root) not in error.value.detail


def test_a_gallery_without_a_root_has_none():
    with pytest.raises(ProblemError):
        picture_of(None, "in/a.png", 100, PIXELS)


def test_a_record_has_its_picture(client, png):
    answer = client.get("/pictures", params={"id": "k3"})
    assert answer.status_code == 200 and answer.content == png
    assert answer.headers["content-type"] == "image/png"
    small = client.get("/pictures", params={"id": "k3", "side": 16})
    assert opened(small.content).size == (16, 16)
    for params in ({"id": "k99"}, {"id": "k3", "column": "name"}, {"id": "k3", "column": "../x"}):
        assert client.get("/pictures", params=params).status_code == 404
    assert client.get("/pictures").status_code == 422
