"""Checkpoints: marked when whole, and never fewer than one to go on from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from msiam.training.checkpoints import (
    COMPLETE,
    KeepCheckpoints,
    last_checkpoint,
    seconds_before,
)


def save(keeper: KeepCheckpoints, folder: Path, step: int, best: int) -> None:
    (folder / f"checkpoint-{step}").mkdir()
    keeper.on_save(
        SimpleNamespace(output_dir=str(folder)),
        SimpleNamespace(
            is_world_process_zero=True,
            global_step=step,
            best_model_checkpoint=str(folder / f"checkpoint-{best}"),
        ),
        None,
    )


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    keeper = KeepCheckpoints()
    for step, best in ((5, 5), (10, 10), (15, 10), (20, 10)):
        save(keeper, tmp_path, step, best)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-20"}
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-20"


def test_a_checkpoint_cut_off_in_writing_is_not_resumed(tmp_path: Path) -> None:
    for step, whole in ((9, True), (10, True), (100, False)):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        if whole:
            (checkpoint / COMPLETE).write_text("1")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-100").exists()


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nothing") is None
    assert seconds_before(None) == 0


def test_the_seconds_of_all_sessions_add_up(tmp_path: Path) -> None:
    save(KeepCheckpoints(seconds=100), tmp_path, 5, 5)
    before = seconds_before(last_checkpoint(tmp_path))
    assert before >= 100
    assert KeepCheckpoints(before).seconds >= before
