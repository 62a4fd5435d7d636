"""Frames in their order, from wherever they lie, and the true boxes beside them."""

import zipfile

import numpy as np
import pytest
from msiam_tracking.frames import open_video, parse_truth, sequences_of
from PIL import Image

from msiam import errors


def frame(shade):
    return Image.new("RGB", (8, 6), (shade, shade, shade))


def shades(video):
    return [round(np.asarray(picture).mean()) for picture in video.read()]


@pytest.fixture
def folder(tmp_path):
    sequence = tmp_path / "Walk"
    (sequence / "img").mkdir(parents=True)
    for number in (1, 2, 10):  # by number, not by letter
        frame(number).save(sequence / "img" / f"{number}.png")
    (sequence / "groundtruth_rect.txt").write_text("1,2,3,4\n5\t6\t7\t8\n")
    return sequence


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for file in folder.rglob("*"):
            opened.write(file, f"Walk/{file.relative_to(folder).as_posix()}")
    return path


def test_a_folder(folder):
    video = open_video(folder)
    assert shades(video) == shades(video) == [1, 2, 10]
    assert video.truth[:2].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert np.isnan(video.truth[2]).all()
    assert open_video(folder / "img").truth is None


def test_a_sequence_in_an_archive(archive):
    assert sequences_of(archive) == ["Walk"]
    video = open_video(archive / "Walk")
    assert shades(video) == [1, 2, 10] and video.truth.shape == (3, 4)


def test_an_archive_is_opened_once_for_all_frames(archive, monkeypatch):
    video, opened = open_video(archive / "Walk"), []
    original = zipfile.ZipFile.__init__

    def count(self, *args, **kwargs):
        opened.append(args)
        original(self, *args, **kwargs)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", count)
    assert shades(video) == [1, 2, 10] and len(opened) == 1
    assert shades(video) == [1, 2, 10] and len(opened) == 2  # and anew each time


def test_a_gif(tmp_path):
    frames = [frame(0), frame(255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert shades(open_video(tmp_path / "a.gif")) == [0, 255]


def test_what_is_wrong(archive, folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, says in {
        archive: "name one of its sequences: .* Walk",
        archive / "Wlk": "did you mean 'Walk'",
        tmp_path / "none.mp4": "no such file",
        empty: "has no pictures",
    }.items():
        with pytest.raises(errors.DataError, match=says):
            open_video(path)


def test_a_line_that_is_no_box_is_named():
    with pytest.raises(errors.DataError, match=r"truth.txt: line 2 is '1,2,x,4'; a box is x,y,w,h"):
        parse_truth("1,2,3,4\n1,2,x,4\n", "truth.txt", 2)
    for line in ("1,2,3", "5", "1,2,3,4,5"):
        with pytest.raises(errors.DataError, match=f"line 1 is '{line}'"):
            parse_truth(f"{line}\n", "truth.txt", 2)


def test_a_film_of_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
    for shade in (40, 200):
        writer.write(np.full((32, 32, 3), shade, np.uint8))
    writer.release()
    assert shades(open_video(tmp_path / "film.avi")) == pytest.approx([40, 200], abs=3)


def test_what_is_no_film_is_said(tmp_path):
    pytest.importorskip("cv2")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(errors.DataError, match="reads no frame"):
        next(open_video(tmp_path / "film.mp4").read())
