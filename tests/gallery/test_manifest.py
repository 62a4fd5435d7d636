from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msiam.errors import GalleryError
from msiam.gallery.manifest import Manifest, Stored, commit, writing

STORED = Stored(name="catalogue-00000000.arrow", size=1, sha256="0" * 64)
MANIFEST = Manifest(
    created="2026-01-01T00:00:00+00:00",
    count=3,
    dim=4,
    column="image",
    id="sku",
    backend="faiss",
    options={"factory": "Flat"},
    fingerprint="abc",
    run="../run",
    table="tableau é.csv",
    root=None,
    catalogue=STORED,
    index=STORED.model_copy(update={"name": "index-00000000.faiss"}),
)


@pytest.fixture
def folder(tmp_path):
    commit(tmp_path, MANIFEST)
    return tmp_path


def test_what_is_committed_is_read(folder):
    assert Manifest.read(folder) == MANIFEST
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_it_is_json_that_people_can_read(folder):
    content = json.loads((folder / "manifest.json").read_text())
    assert content["format"] == 1 and content["options"] == {"factory": "Flat"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_noticed(folder, data):
    path = folder / "manifest.json"
    raw = MANIFEST.text().encode()
    place = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != raw[place]))
    path.write_bytes(raw[:place] + bytes([byte]) + raw[place + 1 :])
    with pytest.raises(GalleryError, match=r"manifest\.json: .*(changed|damaged|format)"):
        Manifest.read(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_cut_is_noticed(folder, data):
    raw = MANIFEST.text().encode()
    length = data.draw(st.integers(0, len(raw) - 1))
    (folder / "manifest.json").write_bytes(raw[:length])
    with pytest.raises(GalleryError, match=r"manifest\.json: .*(changed|damaged)"):
        Manifest.read(folder)


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "{}", '{"format": 1}', "null"])
def test_json_that_is_no_manifest(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(GalleryError, match=r"manifest\.json: is damaged"):
        Manifest.read(folder)


def test_a_newer_format(folder):
    (folder / "manifest.json").write_text('{"format": 2, "more": 1}')
    with pytest.raises(GalleryError, match="format 2; this msiam reads format 1"):
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


def test_a_writer_sweeps_drafts_and_nothing_else(folder):
    drafts = ["catalogue-12345678.arrow", "index-12345678.faiss", ".manifest.json.77.draft"]
    others = ["catalogue-2024.arrow", "index-notes.txt", ".manifest.json.mine", "photo.png"]
    live = [MANIFEST.catalogue.name, MANIFEST.index.name, "manifest.json"]
    for name in drafts + others + live[:2]:
        (folder / name).write_text("")
    with writing(folder):
        left = {path.name for path in folder.iterdir()}
    assert left == {*others, *live, ".lock"}


def test_files_of_a_damaged_gallery_stay_until_a_new_one_is_whole(folder):
    (folder / MANIFEST.index.name).write_text("")
    (folder / ".lock").write_text("")
    (folder / "manifest.json").write_text("damaged")
    with pytest.raises(KeyError), writing(folder):
        raise KeyError
    assert (folder / MANIFEST.index.name).exists()
    with writing(folder):
        commit(folder, MANIFEST.model_copy(update={"index": STORED}))
    assert not (folder / MANIFEST.index.name).exists()


def test_a_second_writer_is_refused_and_the_next_one_not(folder):
    with writing(folder):
        second = pytest.raises(GalleryError, match="another process is writing this gallery")
        with second, writing(folder):
            pass
    with writing(folder):
        pass


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_folder_with_somebody_elses_files_is_refused(tmp_path, name):
    (tmp_path / name).write_text("{}")
    refused = pytest.raises(GalleryError, match=f"holds '{name}' and is no gallery; give a new")
    with refused, writing(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["recipe.yaml", "model"])
def test_a_folder_with_a_run_is_refused_though_it_has_a_lock_like_a_gallerys(tmp_path, name):
    (tmp_path / ".lock").write_text("")
    (tmp_path / name).mkdir()
    refused = pytest.raises(
        GalleryError, match=r"holds a run; give another folder, like .*/gallery"
    )
    with refused, writing(tmp_path):
        pass


def test_a_file_where_the_folder_should_go(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "gallery"):
        with pytest.raises(GalleryError, match="cannot be written"), writing(folder):
            pass


def test_a_stored_file_is_checked_by_size_and_checksum(tmp_path):
    path = tmp_path / "index-00000000.faiss"
    path.write_bytes(b"hello")
    stored = Stored.of(path)
    assert stored.check(tmp_path) == path
    path.write_bytes(b"hellO")
    with pytest.raises(GalleryError, match=r"index-00000000\.faiss: has changed"):
        stored.check(tmp_path)
    path.write_bytes(b"hell")
    with pytest.raises(GalleryError, match=r"index-00000000\.faiss: has 4 bytes and had 5"):
        stored.check(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        stored.check(tmp_path)
