from __future__ import annotations

import json

import pytest

from msiam.gallery.drafts import Draft, drafts_folder, left_behind


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def dropped(backend="birds", url="here"):
    """The names of tables that were left behind, each of which is then forgotten."""
    found = []
    for draft, name, _ in left_behind(backend, url):
        found.append(name)
        draft.forget()
    return found


def test_a_table_whose_builder_is_at_work_is_left_alone():
    draft = Draft.of("birds", "t1", {"url": "here"})
    assert dropped() == []
    draft.forget()
    assert list(drafts_folder().iterdir()) == []


def test_a_table_whose_builder_is_gone_is_found_once():
    Draft.of("birds", "t1", {"url": "here", "seed": 3}).leave()
    ((draft, name, options),) = left_behind("birds", "here")
    assert (name, options) == ("t1", {"url": "here", "seed": 3})
    draft.forget()
    assert dropped() == []


def test_tables_of_another_backend_or_engine_stay():
    Draft.of("birds", "t1", {"url": "here"}).leave()
    assert dropped(url="there") == dropped(backend="fish") == []
    assert dropped() == ["t1"]


def test_a_note_stays_until_its_table_has_been_dropped():
    Draft.of("birds", "t1", {"url": "here"}).leave()
    for draft, _, _ in left_behind("birds", "here"):
        assert dropped() == []  # somebody is at it
        draft.leave()
    assert dropped() == ["t1"]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"table": "t"})])
def test_a_note_that_cannot_be_read_is_passed_over(text):
    Draft.of("birds", "t1", {"url": "here"}).leave()
    (drafts_folder() / "broken.json").write_text(text)
    assert dropped() == ["t1"]


def test_without_a_place_for_notes_all_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    Draft.of("birds", "t1", {"url": "here"}).leave()
    Draft.of("birds", "t2", {"url": "here"}).forget()
    assert dropped() == []
