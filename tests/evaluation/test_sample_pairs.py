"""Pairs drawn for the report: of each kind alike many, each once, judged as the model judges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import msiam
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.sample_pairs import sample_pairs

CALIBRATION = Calibration(threshold=0.5, f1_threshold=0.5, slope=10.0, intercept=-5.0)


@pytest.fixture
def labelled(make):
    """Eight pairs: those of even rows are the same, and those of the first four score 0.9."""
    scores = [[0.9]] * 4 + [[0.1]] * 4
    numbers = {"a": [0] * 8, "b": range(8)}
    groups = {"a": [0] * 8, "b": range(1, 9)}
    same = [row % 2 == 0 for row in range(8)]
    return make(numbers, groups, {"a": [[1.0]], "b": scores}, same=same)


VALUES = {"a": ["a0"], "b": [f"b{n}" for n in range(8)]}


def test_half_of_them_belong_together_and_each_is_judged(labelled):
    found = sample_pairs(labelled, CALIBRATION, VALUES, n=8, words=("alike", "different"))
    assert sorted(pair.row for pair in found) == list(range(100, 108))
    assert [pair.row % 2 for pair in found] == [0] * 4 + [1] * 4
    for pair in found:
        number = pair.row - 100
        said, same = number < 4, number % 2 == 0
        assert pair.items == {"a": "a0", "b": f"b{number}"}
        assert pair.said.startswith(f"Said {'alike' if said else 'different'}, 98.2")
        assert pair.said.endswith(f"at score {0.9 if said else 0.1:.3f}")
        assert pair.truth == f"they are {'alike' if same else 'different'}"
        assert pair.right == (said == same)
        assert pair.effects == {}
    few = sample_pairs(labelled, CALIBRATION, VALUES, n=3)
    assert [pair.row % 2 for pair in few] == [0, 0, 1]
    assert few[0].truth == "they are the same"


def test_two_items_of_one_column_stand_side_by_side_and_once(make):
    vectors = np.eye(2)[[0, 0, 1, 1]]
    embedded = make(
        {"face": range(4)}, {"face": [0, 0, 1, 1]}, {"face": vectors.tolist()}, classed=True
    )
    values = {"face": list("abcd")}
    found = sample_pairs(embedded, CALIBRATION, values, n=20)
    pairs = [frozenset(pair.items.values()) for pair in found]
    assert [list(pair.items) for pair in found] == [["face", "other face"]] * len(found)
    assert len(set(pairs)) == len(pairs)
    same = {pair for pair, one in zip(pairs, found, strict=True) if one.truth.endswith("the same")}
    assert same == {frozenset("ab"), frozenset("cd")}
    assert all(pair.right for pair in found)


def test_of_a_text_it_is_told_what_each_word_adds(make):
    model = msiam.Model({"t": {"encoder": "lstm", "dim": 8, "min_count": 1}}, {"a": "t", "b": "t"})
    texts = ["red round ball", "blue square box"]
    model.tower("t").fit(texts)
    vectors = model.encode({"a": texts})["a"]
    embedded = make(
        {"a": [0, 0], "b": [0, 1]},
        {"a": [0, 0], "b": [0, 1]},
        {"t": vectors},
        towers={"a": "t", "b": "t"},
        same=[True, False],
    )
    embedded = replace(embedded, model=model)
    same, apart = sample_pairs(embedded, CALIBRATION, {"t": texts}, n=2)
    assert [word for word, _ in apart.effects["b"]] == ["blue", "square", "box"]
    without = model.encode({"b": ["square box"]})["b"][0]
    lost = float(vectors[0] @ vectors[1] - vectors[0] @ without)
    assert apart.effects["b"][0][1] == pytest.approx(lost, abs=1e-5)
    assert all(effect >= 0 for _, effect in same.effects["a"])  # a text is nearest to itself
