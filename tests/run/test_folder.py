"""A run's folder: when it is free for a new run, and what one that was killed leaves in it."""

from __future__ import annotations

import pytest

from msiam.errors import RunError
from msiam.run.folder import RunFolder


def test_what_a_killed_beginning_leaves_is_in_nobodys_way(tmp_path):
    """Rows are noted, and the recipe that would make it a run is a draft yet."""
    place = RunFolder(tmp_path)
    place.data.write_text("{}")
    (tmp_path / ".recipe.yaml.123.draft").write_text("name: r")
    place.check(resume=False, overwrite=False)
    with pytest.raises(RunError, match="holds no run to resume"):
        place.check(resume=True, overwrite=False)
    place.clear()
    assert not list(tmp_path.iterdir())


def test_an_old_run_goes_with_its_drafts(tmp_path):
    """A model that was being saved is a folder."""
    place = RunFolder(tmp_path)
    for path in (place.recipe, place.metrics, place.rejected, tmp_path / ".metrics.json.9.draft"):
        path.touch()
    for path in (place.start, tmp_path / ".model.draft"):
        path.mkdir()
        (path / "model.json").touch()
    place.check(resume=False, overwrite=True)
    place.clear()
    assert list(tmp_path.iterdir()) == [place.rejected]


@pytest.mark.parametrize("name", ["notes.txt", "thesis.draft", ".hidden"])
def test_what_is_no_run_is_left_alone(tmp_path, name):
    place = RunFolder(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(RunError, match="holds something that is no run"):
        place.check(resume=False, overwrite=True)
