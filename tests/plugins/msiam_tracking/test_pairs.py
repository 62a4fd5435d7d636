"""The table of pairs: from which frames, from which stills, and always the same."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msiam_tracking.pairs import TrackPairs, patch
from PIL import Image

from msiam import errors


@pytest.fixture
def archive(sequence, tmp_path):
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for name in ("One", "Two"):
            for file in sequence.rglob("*.*"):
                opened.write(file, f"{name}/{file.relative_to(sequence).as_posix()}")
    return path


@pytest.fixture
def stills(film, tmp_path):
    frames, _ = film
    rows = []
    for frame in frames[:3]:
        buffer = io.BytesIO()
        frame.save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), tmp_path / "stills.parquet")
    return tmp_path / "stills.parquet"


def rows(**options):
    return TrackPairs(TrackPairs.Options(**options)).read().to_list()


def seen(picture):
    return np.asarray(Image.open(io.BytesIO(picture["bytes"]))).astype(int)


def test_frames_of_a_video_share_their_crops(archive):
    found = rows(videos=str(archive), partners=3, gap=2, without="Two")
    crops = {row[column]["bytes"] for row in found for column in row}
    assert len(crops) == 6 and 5 <= len(found) <= 15
    order = {row["exemplar"]["bytes"] for row in found}
    assert len(order) == 5  # the last frame begins no pair
    assert len({(r["exemplar"]["bytes"], r["search"]["bytes"]) for r in found}) == len(found)


def test_the_target_is_in_the_middle_of_each_crop(archive):
    found = rows(videos=str(archive), without=["Two"])
    middles = [seen(row[column])[100:155, 100:155] for row in found for column in row]
    assert all(middle.shape == (55, 55, 3) for middle in middles)
    assert np.abs(np.stack(middles) - middles[0]).mean() < 12  # all show the square's pattern


def test_no_pair_is_farther_apart_than_the_gap(archive):
    near = rows(videos=str(archive), without=["Two"], gap=1, partners=4)
    assert len(near) == 5  # each frame has only the next


def test_a_still_is_paired_with_itself_varied(stills):
    found = rows(stills=str(stills), still_pairs=3)
    assert len(found) == 3
    for row in found:
        one, other = seen(row["exemplar"]), seen(row["search"])
        assert one.shape == other.shape == (255, 255, 3) and (one != other).any()
    assert rows(stills=str(stills), still_pairs=3) == found
    assert rows(stills=str(stills), still_pairs=3, seed=1) != found
    plain = rows(stills=str(stills), shift=0, scale=0, blur=0, light=0)
    assert all(row["exemplar"] == row["search"] for row in plain)


@pytest.fixture
def folder(film, tmp_path):
    """The same stills as pictures in a folder, with the sheet that names them."""
    place = tmp_path / "folder"
    place.mkdir()
    for number, frame in enumerate(film[0][:3]):
        frame.save(place / f"{number}.png")
    (place / "metadata.csv").write_text("file_name\n0.png\n1.png\n2.png\n")
    return place


def test_stills_may_lie_in_a_folder(folder, stills):
    assert rows(stills=str(folder)) == rows(stills=str(stills))


def test_a_broken_still_is_named_by_its_row(folder):
    whole = (folder / "1.png").read_bytes()
    last = whole.rindex(b"IDAT")
    garbled = whole[:last] + b"\0" + whole[last + 1 :]
    for content in (b"no picture", whole[: len(whole) // 2], garbled, None):
        (folder / "1.png").unlink(missing_ok=True)
        if content is not None:
            (folder / "1.png").write_bytes(content)
        with pytest.raises(errors.DataError, match=r"folder: row 1 \(from 0\): its picture cannot"):
            rows(stills=str(folder))


def test_both_together(archive, stills):
    assert len(rows(videos=str(archive), stills=str(stills))) > len(rows(videos=str(archive)))


def test_a_patch_lies_in_the_picture():
    random = np.random.default_rng(0)
    picture = Image.new("RGB", (60, 40))
    picture.paste((255, 255, 255), (0, 0, 10, 10))
    for _ in range(50):
        x, y, w, h = patch(picture, random)
        assert x >= 0 and y >= 0 and x + w <= 60 and y + h <= 40 and w >= 4 and h >= 4


def test_what_is_wrong(archive, stills, tmp_path):
    for options, says in [
        ({}, "give videos, stills or both"),
        ({"videos": str(archive), "without": "Tow"}, "no 'Tow' in .*; did you mean 'Two'"),
        ({"videos": str(tmp_path / "no.zip")}, "no such file; track_pairs.videos is an archive"),
        ({"stills": str(tmp_path / "no.parquet")}, "no such file"),
    ]:
        with pytest.raises(errors.DataError, match=says):
            rows(**options)
