"""The gallery that is served while it is written anew."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("fastapi")

import msiam
from msiam.errors import BackendError, GalleryError
from msiam.gallery.gallery import Gallery
from msiam.run import open_with_run
from msiam.serving.service import Embed, Search, Service


@pytest.fixture
def service(workplace, tmp_path):
    """Of a copy, which a test may write to."""
    folder = tmp_path / "names"
    shutil.copytree(workplace / "names", folder)
    return Service(*open_with_run(folder, workplace / "model"))


def write(service, workplace, rows, model=None):
    model = model or service.run.model
    msiam.Gallery.build(model, rows, "name", service.gallery.folder, "key")


def test_one_that_is_as_it_was_is_not_opened_again(service):
    before = service.gallery
    assert not service.refresh() and service.gallery is before


def test_a_newer_one_is_searched_and_the_old_one_answers_who_has_it(service, workplace):
    before = service.gallery
    before.threshold = 0.5
    write(service, workplace, [{"key": "new", "name": "a red cat"}])
    assert service.refresh()
    assert len(service.gallery) == 1 and service.gallery.threshold == 0.5
    ((hits,),) = service.work([Search([("name", "a red cat")], 3)])
    assert [hit.id for hit in hits] == ["new"]
    assert len(before.search("a red cat", 3)) == 3
    assert not service.refresh()


def test_one_that_is_half_copied_is_tried_again_and_the_old_one_stays(service, workplace):
    before = service.gallery
    manifest = before.folder / "manifest.json"
    kept = manifest.read_bytes()
    manifest.write_text("{")
    for _ in range(2):
        with pytest.raises(GalleryError):
            service.refresh()
    assert service.gallery is before
    manifest.write_bytes(kept)
    assert service.refresh() and not service.refresh()


def test_an_engine_that_does_not_answer_is_asked_again(service, workplace, monkeypatch):
    write(service, workplace, [{"key": "new", "name": "a red cat"}])
    with monkeypatch.context() as patched:

        def fail(folder):
            raise BackendError("no answer")

        patched.setattr(Gallery, "open", fail)
        for _ in range(2):
            with pytest.raises(BackendError):
                service.refresh()
    assert service.refresh() and len(service.gallery) == 1


def test_a_model_that_did_not_make_the_newer_one_does_not_search_it(service, workplace):
    other = msiam.Model({"t": {"encoder": "lstm", "dim": 16}}, {"name": "t", "other": "t"})
    other.tower("t").fit(["a red cat", "a red cat"])
    write(service, workplace, [{"key": "new", "name": "a red cat"}], other.eval())
    with pytest.raises(GalleryError, match="start the server again"):
        service.refresh()
    assert len(service.gallery) == 30


def test_items_of_several_jobs_go_together_and_come_apart_again(service, png):
    one, two = Embed([("picture", png), ("name", "a dog")]), Embed([("name", "a red cat")])
    together = service.work([one, two])
    for found, job in zip(together, (one, two), strict=True):
        (alone,) = service.work([job])
        assert found.shape == alone.shape == (len(job.items), 16)
        assert abs(found - alone).max() < 1e-5
