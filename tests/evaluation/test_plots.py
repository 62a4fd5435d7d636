from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from msiam.evaluation.plots import draw, draw_history
from msiam.evaluation.retrieval import Retrieval
from msiam.evaluation.verification import Verification

HISTORY = [
    {"loss": 2.0, "epoch": 0.5, "step": 1, "learning_rate": 0.1},
    {"eval_mrr": 0.2, "epoch": 0.5, "step": 1},
    {"loss": 1.0, "epoch": 1.0, "step": 2},
    {"eval_mrr": 0.4, "epoch": 1.0, "step": 2},
    {"train_runtime": 12.0, "train_loss": 1.5, "epoch": 1.0, "step": 2},
]


def texts(svg: str) -> set[str]:
    return {node.text for node in ET.fromstring(svg.replace("xlink:href", "href")).iter("text")}


def test_verification_draws_its_roc_and_its_scores(aligned):
    drawings = draw(Verification().evaluate(aligned(100), None).curves)
    assert [caption.split(":")[0] for caption in drawings] == ["ROC", "Scores of held-out pairs"]
    roc, histogram = drawings.values()
    assert {"chance", "same pairs accepted", "100 %"} <= texts(roc)
    assert {"same", "different", "score"} <= texts(histogram)
    assert "threshold" not in texts(histogram)


def test_the_threshold_is_drawn_where_there_is_one():
    bins = {"edges": [0, 1, 2], "same": [1, 3], "different": [4, 0], "threshold": 1.2}
    (histogram,) = draw({"histogram": bins}).values()
    assert "threshold" in texts(histogram)


def test_scored_rows_are_drawn_as_points():
    drawings = draw({"scatter": {"score": [0, 2, 5], "similarity": [0.1, 0.2, 0.8]}})
    drawing = drawings["Similarity against score"]
    assert {"score", "similarity"} <= texts(drawing)
    assert drawing.count("<use ") >= 3


def test_retrieval_draws_each_direction_with_its_values(aligned):
    found = Retrieval().evaluate(aligned(100, noise=3.0), None)
    drawings = draw(found.curves)
    assert [caption.split(":")[0] for caption in drawings] == ["a → b", "b → a"]
    first = texts(drawings["a → b: the right one is among the first k"])
    assert {"k = 1", "k = 5", "k = 10", "chance"} <= first
    assert f"{100 * found.metrics['a_to_b/recall@5']:.1f}" in first


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_bars_at_the_ends_of_the_scale(share):
    bars = {"k": [1], "recall": [share], "low": [share], "high": [share], "chance": [share]}
    assert f"{100 * share:.1f}" in texts(next(iter(draw({"recall": {"a → b": bars}}).values())))


def test_history_draws_losses_and_the_watched_metric():
    drawings = draw_history(HISTORY, "mrr")
    assert list(drawings) == ["Loss by epoch", "mrr on validation, by epoch"]
    assert {"epoch", "2.0"} <= texts(drawings["Loss by epoch"])
    assert "kept" in texts(drawings["mrr on validation, by epoch"])


def test_nothing_to_draw_is_nothing():
    assert draw({}) == {}
    assert draw({"somebody's own": [1, 2]}) == {}
    assert draw_history([], "mrr") == {}
    assert draw_history([{"loss": 1.0, "epoch": 1.0}], "mrr") == {}  # a point is no line


@pytest.mark.parametrize("evaluator", [Verification(), Retrieval()])
def test_a_drawing_has_the_pages_colours_and_no_link(aligned, evaluator):
    variables = {f"var(--{name})" for name in ("ink", "muted", "line", "first", "second")}
    for svg in draw(evaluator.evaluate(aligned(50), None).curves).values():
        assert not re.search(r"https?:|<style|<script|font-family", svg)
        assert set(re.findall(r'(?:fill|stroke): ([^;"]+)', svg)) <= {"none", *variables}


def test_drawings_do_not_share_names(aligned):
    drawings = draw(Retrieval().evaluate(aligned(50), None).curves)
    defined = [set(re.findall(r' id="(\w+)"', svg)) for svg in drawings.values()]
    assert not set.intersection(*defined)
    for svg, names in zip(drawings.values(), defined, strict=True):
        assert set(re.findall(r"#(\w+)", svg)) <= names


def test_the_same_figures_are_drawn_alike(aligned):
    curves = Verification().evaluate(aligned(50), None).curves
    assert draw(curves) == draw(curves)


def test_ten_thousand_points_of_loss_are_one_drawing():
    history = [{"loss": float(np.cos(i)), "epoch": i / 100} for i in range(10_000)]
    (svg,) = draw_history(history).values()
    assert len(svg) < 400_000


def test_many_directions_are_one_drawing():
    share = {f"{a} → {b}": n / 10 for n, (a, b) in enumerate(itertools.permutations("abc", 2))}
    recalls = {
        name: {"k": [1, 5], "recall": [at, 1], "low": [at, 1], "high": [at, 1], "chance": [0.1, 1]}
        for name, at in share.items()
    }
    ((caption, drawing),) = draw({"recall": recalls}).items()
    assert caption == "The right one comes first, by direction"
    assert {*share, *(f"{100 * at:.1f}" for at in share.values()), "chance"} <= texts(drawing)
