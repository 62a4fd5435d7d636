from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msiam.errors import GalleryError
from msiam.gallery.manifest import Manifest


def test_what_is_committed_is_read(folder, manifest):
    assert Manifest.read(folder) == manifest
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_it_is_json_that_people_can_read(folder):
    content = json.loads((folder / "manifest.json").read_text())
    assert content["format"] == 2 and content["options"] == {"factory": "Flat"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_noticed(folder, manifest, data):
    path = folder / "manifest.json"
    raw = manifest.text().encode()
    place = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != raw[place]))
    path.write_bytes(raw[:place] + bytes([byte]) + raw[place + 1 :])
    with pytest.raises(GalleryError, match=r"manifest\.json: .*(changed|damaged|format)"):
        Manifest.read(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_cut_is_noticed(folder, manifest, data):
    raw = manifest.text().encode()
    length = data.draw(st.integers(0, len(raw) - 1))
    (folder / "manifest.json").write_bytes(raw[:length])
    with pytest.raises(GalleryError, match=r"manifest\.json: .*(changed|damaged)"):
        Manifest.read(folder)


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "{}", '{"format": 2}', "null"])
def test_json_that_is_no_manifest(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(GalleryError, match=r"manifest\.json: is damaged"):
        Manifest.read(folder)


def test_a_newer_format(folder):
    (folder / "manifest.json").write_text('{"format": 3, "more": 1}')
    with pytest.raises(GalleryError, match="format 3; this msiam reads format 2"):
        Manifest.read(folder)


def test_a_folder_that_is_no_gallery(tmp_path):
    with pytest.raises(GalleryError, match=r"is no gallery, has no manifest\.json; .* msiam index"):
        Manifest.read(tmp_path)
    with pytest.raises(GalleryError, match="there is no such folder"):
        Manifest.read(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match="there is no such folder"):
        Manifest.read(tmp_path / "file")


def test_a_manifest_that_cannot_be_read(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(GalleryError, match=r"manifest\.json: cannot be read \(Is a directory\)"):
        Manifest.read(tmp_path)
