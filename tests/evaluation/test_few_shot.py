"""N-way K-shot: episodes as promised, accuracy as counted by hand, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.errors import DataError
from msiam.evaluation.few_shot import FewShot, FewShotOptions, Pool, decided
from msiam.evaluation.findings import grids


def few_shot(**options):
    return FewShot(FewShotOptions(**options))


@pytest.fixture
def drawn(make):
    """Characters of alphabets, each by ten drawers, as noisy points; ``noise`` 0: all alike."""

    def build(sizes=(6, 4), noise=0.3, drawers=10, seed=0):
        rng = np.random.default_rng(seed)
        characters = sum(sizes)
        classes = np.repeat(np.arange(characters), drawers)
        centres = rng.normal(size=(characters, 8))
        vectors = centres[classes] + noise * rng.normal(size=(len(classes), 8))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        numbers = np.arange(len(classes))
        embedded = make({"image": numbers}, {"image": classes}, {"image": vectors}, classed=True)
        attributes = {
            "alphabet": np.repeat(np.arange(len(sizes)), np.array(sizes) * drawers),
            "drawer": np.tile(np.arange(drawers), characters),
        }
        return replace(embedded, examples=replace(embedded.examples, attributes=attributes))

    return build


@given(
    way=st.integers(2, 5),
    shot=st.integers(1, 3),
    values=st.integers(4, 6),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=50, deadline=None)
def test_an_episode_has_different_classes_and_its_query_differs_from_each_example(
    way, shot, values, seed
):
    rng = np.random.default_rng(seed)
    apart = rng.integers(0, values, 60)
    apart[:24] = np.tile(np.arange(4), 6)  # six classes of four values at least
    classes = [np.r_[n * 4 : n * 4 + 4, 24 + n * 6 : 30 + n * 6] for n in range(6)]
    episode = Pool(classes, apart).episode(way, shot, rng)
    of = np.array([[next(n for n in range(6) if i in classes[n]) for i in row] for row in episode])
    assert episode.shape == (way, 1 + shot)
    assert (of == of[:, :1]).all() and len(set(of[:, 0])) == way
    assert all(len(set(apart[row])) == 1 + shot for row in episode)


def test_where_each_drew_all_one_made_the_queries_and_another_the_examples():
    classes = [np.arange(n, 40, 5) for n in range(5)]  # of eight drawers each
    drawers = np.arange(40) // 5
    pool, rng = Pool(classes, drawers), np.random.default_rng(0)
    pairs = [drawers[pool.episode(4, 1, rng)] for _ in range(50)]
    assert all(len(set(pair[:, 0])) == len(set(pair[:, 1])) == 1 for pair in pairs)
    assert len({tuple(pair[0]) for pair in pairs}) > 20


def test_accuracy_and_interval_are_those_of_episodes_drawn_again(drawn):
    embedded = drawn()
    options = {"way": 3, "shot": 2, "episodes": 40, "within": "alphabet", "apart": "drawer"}
    found = few_shot(**options).evaluate(embedded, None).metrics
    vectors = embedded.vectors["image"].astype(np.float64)
    rng = np.random.default_rng(0)
    drawer = embedded.examples.attributes["drawer"]
    pools = [
        Pool([np.arange(n * 10, n * 10 + 10) for n in range(first, last)], drawer)
        for first, last in ((0, 6), (6, 10))
    ]
    shares = []
    sides: dict[bool, int] = {True: 0, False: 0}
    for number in range(40):
        episode = pools[number % 2].episode(3, 2, rng)
        right = []
        for place, (query, *_) in enumerate(episode):
            scores = [np.mean([vectors[query] @ vectors[x] for x in row[1:]]) for row in episode]
            right.append(int(np.argmax(scores)) == place)
        for side in (True, False):  # a sample for the report is drawn, too
            if sides[side] < 3 and side in right:
                rng.choice(np.flatnonzero(np.array(right) == side))
                sides[side] += 1
        shares.append(np.mean(right))
    spread = 1.959964 * np.std(shares, ddof=1) / 40**0.5
    assert found["accuracy"] == pytest.approx(np.mean(shares))
    assert found["accuracy/low"] == pytest.approx(np.mean(shares) - spread)
    assert found["accuracy/high"] == pytest.approx(min(1, np.mean(shares) + spread))
    assert found["chance/accuracy"] == pytest.approx(1 / 3)
    assert found["episodes"] == 40 and 0.5 < found["accuracy"] < 1


def test_the_seed_alone_decides(drawn):
    def accuracy(seed):
        return few_shot(way=4, episodes=30, seed=seed).evaluate(drawn(), None).metrics["accuracy"]

    assert accuracy(1) == accuracy(1)
    assert len({accuracy(seed) for seed in range(5)}) > 1


def test_within_a_group_classes_are_of_one_group_alone(drawn):
    """Two alphabets, between which all is clear and within which nothing is."""
    embedded = drawn(sizes=(5, 5), noise=0)
    alphabet = embedded.examples.attributes["alphabet"]
    embedded = replace(embedded, vectors={"image": np.eye(2, dtype=np.float32)[alphabet]})
    inside = few_shot(way=2, within="alphabet", episodes=50).evaluate(embedded, None).metrics
    anywhere = few_shot(way=2, episodes=200).evaluate(embedded, None).metrics
    assert inside["accuracy"] == 0  # a tie counts against the model
    assert anywhere["accuracy"] == pytest.approx(5 / 9, abs=0.1)


def test_apart_leaves_out_what_one_hand_gives_away(drawn):
    """Vectors that know the drawer's own two copies, and nothing else of the character."""
    embedded = drawn(sizes=(6,), noise=0, drawers=4)
    hand = np.arange(24) // 2  # of each character two drawers, with two copies each
    attributes = {"hand": np.tile([0, 0, 1, 1], 6)}
    examples = replace(embedded.examples, attributes=attributes)
    vectors = {"image": np.eye(12, dtype=np.float32)[hand]}
    embedded = replace(embedded, examples=examples, vectors=vectors)
    assert (
        few_shot(way=3, episodes=60, apart="hand").evaluate(embedded, None).metrics["accuracy"] == 0
    )
    assert few_shot(way=3, episodes=60).evaluate(embedded, None).metrics["accuracy"] > 0.15


def test_a_group_of_too_few_classes_is_left_out_and_said(drawn):
    result = few_shot(way=5, within="alphabet", apart="drawer").evaluate(drawn(), None)
    assert "1 of 2 values of alphabet, with fewer than 5 classes, were left out." in result.headline
    assert "of each of 5 classes of one alphabet by another drawer" in result.headline
    used = {item for one in result.decisions for items in one.candidates for item in items}
    assert max(used) < 60


def test_an_item_in_several_rows_counts_once(make):
    numbers, classes = [0, 0, 1, 2, 2, 3], [0, 0, 0, 1, 1, 1]
    vectors = np.eye(2)[[0, 0, 1, 1]]
    embedded = make({"image": numbers}, {"image": classes}, {"image": vectors}, classed=True)
    assert few_shot(way=2).evaluate(embedded, None).metrics["accuracy"] == 1
    with pytest.raises(DataError, match="2 classes with 3 items each; of 'image' there are 0"):
        few_shot(way=2, shot=2).evaluate(embedded, None)


def test_what_cannot_be_measured_is_an_error(drawn, aligned):
    with pytest.raises(
        DataError, match=r"few_shot needs the class of each item: set data\.classes"
    ):
        few_shot().evaluate(aligned(5), None)
    with pytest.raises(
        DataError,
        match="takes 7 classes of one 'alphabet' with 2 items of different 'drawer' each; of 'imag",
    ):
        few_shot(way=7, within="alphabet", apart="drawer").evaluate(drawn(), None)


def test_it_reads_the_columns_that_it_names():
    assert few_shot().reads == []
    assert few_shot(within="alphabet", apart="drawer").reads == ["alphabet", "drawer"]


def test_a_tie_is_decided_wrongly():
    scores = np.array([[1.0, 0.2, 0.0], [0.5, 0.5, 0.1], [0.3, 0.2, 0.1]])
    assert decided(scores).tolist() == [True, False, False]


def test_the_report_gets_right_and_wrong_decisions(drawn):
    embedded = drawn(noise=1)
    result = few_shot(way=4, shot=2, episodes=50).evaluate(embedded, None)
    values = {"image": [f"picture {n}" for n in range(100)]}
    shown = grids(result.decisions, embedded, values)
    assert [grid.correct for grid in shown] == [False] * 3 + [True] * 3
    for decision, grid in zip(result.decisions, shown, strict=True):
        assert grid.query == f"picture {decision.query}"
        assert [choice.right for choice in grid.choices].index(True) == decision.right
        assert sum(choice.said for choice in grid.choices) == 1
        assert [choice.items for choice in grid.choices] == [
            [f"picture {n}" for n in items] for items in decision.candidates
        ]
