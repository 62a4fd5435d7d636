"""What is said of each tower as training begins."""

import io
from unittest.mock import Mock

import pytest
from msiam_vision.small_cnn import SmallCNN
from rich.console import Console
from transformers import TrainerState

from msiam.recipe import Train
from msiam.run.facts import conclude, introduce
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


@pytest.mark.parametrize(
    ("before", "best", "said"),
    [
        (0.5, 0.6, ""),
        (0.87, 0.86, "training made nothing better: validation map was 0.8700 before it, and 0.86"),
        (1.0, 0.9, "training made nothing better"),
        (1.0, 1.0, "validation cannot tell whether training helped: its map was 1.0000 before"),
    ],
)
def test_how_much_training_gained(before: float, best: float, said: str) -> None:
    console = Console(record=True, width=300, file=io.StringIO())
    history = [{"eval_map": before, "step": 0}, {"eval_map": best, "step": 2}]
    state = TrainerState(best_metric=best, best_global_step=2, global_step=10, log_history=history)
    conclude(state, "map", console)
    first, *others = console.export_text().splitlines()
    assert first == "  kept: step 2 of 10, the best on validation since training began"
    assert len(others) == bool(said) and "".join(others).startswith(said)
