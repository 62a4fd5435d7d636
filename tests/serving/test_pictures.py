from __future__ import annotations

import pytest

pytest.importorskip("fastapi")
from PIL import Image

from msiam.serving.pictures import picture_file
from msiam.serving.problems import ProblemError


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "in").mkdir(parents=True)
    for place in (folder / "in/a.png", tmp_path / "outside.png"):
        Image.new("RGB", (4, 4)).save(place)
    (folder / "notes.txt").write_text("no picture")
    (folder / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "inner.png").symlink_to("in/a.png")
    return folder


def test_a_picture_below_the_root(root):
    for name in ("in/a.png", "in/../in/a.png", str(root / "in/a.png"), "inner.png"):
        path, media_type = picture_file(root, name)
        assert path == root / "in/a.png" and media_type == "image/png"


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png", "in/../../outside.png", "/etc/passwd", "link.png", "loop.png",
        "notes.txt", "drawing.svg", "in", "", ".", "nothing.png", "a\0.png", "x" * 5000, None, 3,
        {"path": "in/a.png"},
    ],
)  # fmt: skip
def test_nothing_else_is_served(root, name):
    with pytest.raises(ProblemError) as error:
        picture_file(root, name)
    assert error.value.status == 404 and str(root) not in error.value.detail


def test_a_gallery_without_a_root_has_none():
    with pytest.raises(ProblemError):
        picture_file(None, "in/a.png")


def test_a_record_has_its_picture(client, png):
    answer = client.get("/pictures", params={"id": "k3"})
    assert answer.status_code == 200 and answer.content == png
    assert answer.headers["content-type"] == "image/png"
    for params in ({"id": "k99"}, {"id": "k3", "column": "name"}, {"id": "k3", "column": "../x"}):
        assert client.get("/pictures", params=params).status_code == 404
    assert client.get("/pictures").status_code == 422
