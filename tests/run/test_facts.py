"""What is said of each tower as training begins."""

import io
from unittest.mock import Mock

import pytest
from msiam_vision.small_cnn import SmallCNN
from rich.console import Console

from msiam.recipe import Train
from msiam.run.facts import introduce
from msiam.towers.model import Model


@pytest.mark.parametrize(
    ("freeze", "trained", "warned"),
    [(False, False, True), (2, True, True), (4, True, False), (True, True, False)],
)
def test_what_is_frozen_is_told_and_not_warned_of(
    freeze: int, trained: bool, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmallCNN, "pretrained", True)
    keys = {"encoder": "small_cnn", "width": 4, "dim": 8, "freeze": freeze}
    model = Model({"one": keys}, {"a": "one", "b": "one"})
    tower = model.tower("one")
    tower.fit([])
    console = Console(record=True, width=300, file=io.StringIO())
    introduce(model, Mock(items={"one": Mock(values=range(7))}), Train(), console)
    said = console.export_text()
    assert (f" ({tower.parameter_count(trained=True):,} trained)" in said) == trained
    assert ("soon forgets" in said) == warned
