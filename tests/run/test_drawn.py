"""Trainings on drawn columns and views: what is measured, and what a resumed one draws."""

from __future__ import annotations

import pytest
import torch

import msiam

TEXT = {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1}
ROWS = [
    {"a": f"{word} number {n}", "kind": word}
    for word in ["cook", "freeze", "season", "buy", "eat", "like", "mix", "boil", "bake", "taste"]
    for n in range(8)
]


def recipe(tmp_path, **changes):
    table = tmp_path / "words.csv"
    table.write_text("a,kind\n" + "".join(f"{row['a']},{row['kind']}\n" for row in ROWS))
    return {
        "data": {
            "table": str(table),
            "classes": "kind",
            "draw": {"positive": "same", "negative": "other"},
            "split": {"by": "item", "validation": 0.2, "test": 0.2, "unseen": 0.2},
        },
        "columns": {"a": "text", "positive": "text", "negative": "text"},
        "towers": {"text": TEXT},
        "train": {"epochs": 4, "batch_size": 8, "evaluations": 2},
    } | changes


def test_seen_and_unseen_classes_are_measured(tmp_path):
    run = msiam.train(recipe(tmp_path), folder=tmp_path / "run")
    figures = run.metrics["retrieval"]
    assert figures["a_to_a/queries"] + figures["unseen/a_to_a/queries"] <= 32
    assert figures["unseen/a_to_a/gallery"] == 16
    assert run.metrics["training"]["unseen_rows"] == 16
    assert run.evaluate()["retrieval"] == figures
    report = run.folder.report.read_text()
    assert "Of classes never seen in training" in report
    assert "all those of 2 classes" in report


def test_a_resumed_training_draws_what_it_would_have_drawn(tmp_path, monkeypatch):
    whole = msiam.train(recipe(tmp_path), folder=tmp_path / "whole")
    from msiam.data.draws import Draws

    plain, calls = Draws.__call__, []

    def stop(self, step, positions):
        calls.append(len(positions))
        if len(calls) > 14:
            raise KeyboardInterrupt
        return plain(self, step, positions)

    with monkeypatch.context() as patch:
        patch.setattr(Draws, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            msiam.train(recipe(tmp_path), folder=tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoints").is_dir()
    cut = msiam.train(recipe(tmp_path), folder=tmp_path / "cut", resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(cut.model.state_dict()[name], value)


def test_views_need_no_labels_and_their_kinds_are_asked_at_the_end(tmp_path):
    changes = {
        "data": recipe(tmp_path)["data"] | {"draw": {"view": "itself"}},
        "columns": {"a": "text", "view": "average"},
        "towers": {"text": TEXT, "average": {"follows": "text", "momentum": 0.9}},
        "loss": {"name": "memory", "size": 16, "start": 0},
        "evaluate": {"name": "knn", "by": "kind", "k": 3},
    }
    del changes["data"]["classes"]
    changes["data"]["split"] = {"validation": 0.2, "test": 0.3}
    run = msiam.train(recipe(tmp_path, **changes), folder=tmp_path / "run")
    figures = run.metrics["knn"]
    assert {"accuracy", "untrained/accuracy", "chance/accuracy"} <= set(figures)
    assert figures["items"] == 24 and run.metrics["training"]["train_rows"] == 40

    share = recipe(tmp_path, columns={"a": "text"}, loss="supcon")
    share["data"] |= {"draw": {}, "split": {"by": "item", "train": 0.5}}
    share["towers"] = {"text": TEXT | {"init": str(tmp_path / "run")}}
    half = msiam.train(share, folder=tmp_path / "half")
    assert half.metrics["training"]["train_rows"] == 32


def test_a_view_and_an_item_of_another_class_are_drawn_into_one_row(tmp_path):
    changes = {
        "columns": {"a": "text", "view": "average", "negative": "text"},
        "towers": {"text": TEXT, "average": {"follows": "text", "momentum": 0.9}},
        "train": {"max_steps": 4, "batch_size": 8, "evaluations": 1},
    }
    both = recipe(tmp_path, **changes)
    both["data"]["draw"] = {"view": "itself", "negative": "other"}
    run = msiam.train(both, folder=tmp_path / "run")
    assert run.recipe.loss[0].name == "triplet" and run.metrics["training"]["steps"] == 4
    assert "a_to_view/mrr" in run.metrics["retrieval"]
    assert run.evaluate()["retrieval"] == run.metrics["retrieval"]
