from __future__ import annotations

import pytest

from msiam.errors import GalleryError
from msiam.gallery.writing import commit, writing


def test_a_writer_sweeps_drafts_and_nothing_else(folder, manifest):
    drafts = ["catalogue-12345678.arrow", "index-12345678.faiss", ".manifest.json.77.draft"]
    drafts += ["vectors-12345678.npy", "dead-12345678.npy"]
    others = ["catalogue-2024.arrow", "index-notes.txt", ".manifest.json.mine", "photo.png"]
    live = [stored.name for stored in manifest.files]
    for name in drafts + others + live:
        (folder / name).write_text("")
    with writing(folder):
        left = {path.name for path in folder.iterdir()}
    assert left == {*others, *live, "manifest.json", ".lock"}


def test_an_index_of_a_plugin_that_is_gone_stays_for_it_to_discard(folder):
    (folder / "index-12345678.nest").write_text("")
    with writing(folder):
        pass
    assert (folder / "index-12345678.nest").exists()


def test_files_of_a_damaged_gallery_stay_until_a_new_one_is_whole(folder, manifest):
    index = folder / manifest.segments[0].index.name
    index.write_text("")
    (folder / ".lock").write_text("")
    (folder / "manifest.json").write_text("damaged")
    with pytest.raises(KeyError), writing(folder):
        raise KeyError
    assert index.exists()
    with writing(folder):
        commit(folder, manifest.model_copy(update={"segments": []}))
    assert not index.exists()


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
