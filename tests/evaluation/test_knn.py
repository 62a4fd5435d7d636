"""Nearest neighbours: votes as counted by hand, and baselines that are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam import Encoder, Options, Tower
from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.knn import KNN, KNNOptions, untrained, votes


def by_hand(vectors, values, k, temperature):
    said = []
    for q in range(len(vectors)):
        scores = [(float(vectors[q] @ vectors[x]), x) for x in range(len(vectors)) if x != q]
        weights: dict[int, float] = {}
        for score, x in sorted(scores, reverse=True)[:k]:
            value = int(values[x])
            weights[value] = weights.get(value, 0.0) + np.exp(score / temperature)
        said.append(max(weights, key=lambda value: weights[value]))
    return said


@given(st.integers(2, 40), st.integers(1, 50), st.integers(1, 6), st.integers(0, 10**6))
def test_the_votes_are_those_counted_by_hand(n, k, classes, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = rng.integers(classes, size=n)
    assert votes(vectors, values, k, 0.1).tolist() == by_hand(vectors, values, min(k, n - 1), 0.1)


def test_more_queries_than_a_block_are_asked_alike(monkeypatch):
    rng = np.random.default_rng(0)
    vectors, values = rng.normal(size=(50, 4)), rng.integers(3, size=50)
    whole = votes(vectors, values, 5, 1.0)
    monkeypatch.setattr("msiam.evaluation.knn.BLOCK", 7)
    assert votes(vectors, values, 5, 1.0).tolist() == whole.tolist()


@pytest.fixture
def clusters(make):
    """Sixty items around three points, each named by the nearest; without classes."""

    def build(**given):
        rng = np.random.default_rng(0)
        values = np.repeat([0, 1, 2], 20)
        vectors = np.eye(3)[values] + 0.05 * rng.normal(size=(60, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        numbers = np.arange(60)
        found = make({"image": numbers}, {"image": numbers}, {"image": vectors})
        examples = replace(found.examples, attributes={"kind": values})
        return replace(found, examples=examples, **given)

    return build


CALIBRATION = Calibration.fit(np.array([0.1, 0.9]), np.array([False, True]))


def test_what_lies_together_is_said_rightly(clusters):
    judge = KNN(KNNOptions(by="kind", k=5))
    assert list(judge.reads) == ["kind"]
    metrics = judge.evaluate(clusters(), CALIBRATION).metrics
    assert metrics["accuracy"] == 1 and metrics["accuracy/low"] < 1
    assert metrics["chance/accuracy"] == pytest.approx(1 / 3)
    assert (metrics["items"], metrics["classes"]) == (60, 3)
    assert "raw/accuracy" not in metrics  # nothing is known of what was given


def test_raw_inputs_are_judged_beside_it_at_the_end_alone(clusters):
    rng = np.random.default_rng(1)
    right = [np.eye(3, dtype=np.float32)[n // 20] * 200 + 7 for n in range(60)]
    noise = list(rng.normal(size=(60, 3)))
    judge = KNN(KNNOptions(by="kind", k=5))
    found = judge.evaluate(clusters(features={"image": right}), CALIBRATION)
    assert found.metrics["raw/accuracy"] == 1
    assert "by raw inputs, 100" in found.headline
    assert (
        judge.evaluate(clusters(features={"image": noise}), CALIBRATION).metrics["raw/accuracy"]
        < 0.6
    )
    assert "raw/accuracy" not in judge.evaluate(clusters(features={"image": right}), None).metrics
    without = KNN(KNNOptions(by="kind", baselines=False))
    found = without.evaluate(clusters(features={"image": right}), CALIBRATION)
    assert "raw/accuracy" not in found.metrics
    uneven = [np.zeros(3 + n % 2) for n in range(60)]
    found = judge.evaluate(clusters(features={"image": uneven}), CALIBRATION)
    assert "raw/accuracy" not in found.metrics


def test_an_untrained_tower_is_new_and_the_trained_one_as_it_was():
    torch.manual_seed(5)
    tower = Tower("conv4", size=16, widths=[2, 2, 2, 2], channels=1, dim=4)
    tower.fit([])
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    state = torch.get_rng_state()
    new = untrained(tower)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
    weights = [name for name, value in tower.named_parameters() if value.dim() > 1]
    assert weights
    assert not any(torch.equal(new.state_dict()[name], before[name]) for name in weights)
    assert not new.training
    again = untrained(tower).state_dict()
    assert all(torch.equal(again[name], value) for name, value in new.state_dict().items())


class Rows(Encoder):
    """A number to that row of a matrix, which is of no layer, or to itself twice over."""

    modality = "number"
    dim = 2

    def __init__(self, learns=True):
        super().__init__(Options())
        self.learns = learns

    def fit(self, items):
        if self.learns:
            self.matrix = torch.nn.Parameter(torch.randn(5, self.dim))

    @classmethod
    def accepts(cls, item):
        return isinstance(item, int)

    def prepare(self, items):
        return [np.array(item) for item in items]

    def collate(self, features):
        return {"numbers": torch.from_numpy(np.stack(features))}

    def forward(self, batch):
        numbers = batch["numbers"]
        return self.matrix[numbers] if self.learns else numbers[:, None].float().repeat(1, self.dim)


def tower_of(encoder, head="linear"):
    tower = Tower("small_cnn", dim=2, head=head)
    tower.encoder = encoder
    tower.fit([])
    return tower


def test_a_parameter_that_is_of_no_layer_is_new_as_well():
    tower = tower_of(Rows())
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    new, again, other = (untrained(tower, seed).state_dict() for seed in (0, 0, 1))
    assert set(new) == set(before) > {"encoder.matrix"}
    for name, value in tower.state_dict().items():
        assert torch.equal(value, before[name]) and torch.equal(new[name], again[name])
        assert not torch.equal(new[name], before[name]) and not torch.equal(new[name], other[name])


def test_a_tower_without_a_parameter_is_what_it_was():
    tower = tower_of(Rows(learns=False), head="none")
    batch = tower.encoder.collate(tower.encoder.prepare([3, 1]))
    assert torch.equal(untrained(tower)(batch), tower(batch))


def test_one_item_has_no_neighbour(make):
    one = make({"image": [0]}, {"image": [0]}, {"image": [[1.0]]})
    one = replace(one, examples=replace(one.examples, attributes={"kind": np.zeros(1, int)}))
    with pytest.raises(DataError, match="knn needs two items to compare; 'image' has 1 here"):
        KNN(KNNOptions(by="kind")).evaluate(one, None)


def test_the_report_shows_who_voted(clusters):
    embedded = clusters()
    vectors = embedded.vectors["image"].copy()
    vectors[[0, 20, 40]] = vectors[[59, 1, 21]] + 0.3 * vectors[[0, 20, 40]]  # they lie elsewhere
    embedded = replace(embedded, vectors={"image": vectors})
    values = embedded.examples.attributes["kind"]
    judge = KNN(KNNOptions(by="kind", k=40, temperature=0.5))
    decisions = judge.evaluate(embedded, CALIBRATION).decisions
    assert len(decisions) == 6 and not judge.evaluate(embedded, None).decisions
    for decision in decisions:
        assert not any(decision.query in items for items in decision.candidates)
        assert sum(decision.scores) == pytest.approx(1)
        assert decision.scores == sorted(decision.scores, reverse=True)
        kinds = [set(values[items]) for items in decision.candidates]
        assert all(len(kind) == 1 for kind in kinds)
        assert kinds[decision.right] == {values[decision.query]}
    assert [decision.right == 0 for decision in decisions] == [False] * 3 + [True] * 3
