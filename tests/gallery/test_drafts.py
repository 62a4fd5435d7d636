from __future__ import annotations

import json

import pytest

from msiam.gallery.drafts import Draft, drafts_folder, left_behind


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def names(backend="birds", url="here"):
    return [name for name, _ in left_behind(backend, url)]


def test_a_table_whose_builder_is_at_work_is_left_alone():
    draft = Draft("birds", "t1", {"url": "here"})
    assert names() == []
    draft.forget()
    assert list(drafts_folder().iterdir()) == []


def test_a_table_whose_builder_is_gone_is_found_once():
    Draft("birds", "t1", {"url": "here", "seed": 3}).leave()
    assert list(left_behind("birds", "here")) == [("t1", {"url": "here", "seed": 3})]
    assert names() == []


def test_tables_of_another_backend_or_engine_stay():
    Draft("birds", "t1", {"url": "here"}).leave()
    assert names(url="there") == names(backend="fish") == []
    assert names() == ["t1"]


def test_a_note_stays_until_its_table_has_been_dropped():
    Draft("birds", "t1", {"url": "here"}).leave()
    with pytest.raises(RuntimeError):
        for _ in left_behind("birds", "here"):
            raise RuntimeError("no such server")
    assert names() == ["t1"]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"table": "t"})])
def test_a_note_that_cannot_be_read_is_passed_over(text):
    Draft("birds", "t1", {"url": "here"}).leave()
    (drafts_folder() / "broken.json").write_text(text)
    assert names() == ["t1"]


def test_without_a_place_for_notes_all_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    Draft("birds", "t1", {"url": "here"}).leave()
    Draft("birds", "t2", {"url": "here"}).forget()
    assert names() == []
