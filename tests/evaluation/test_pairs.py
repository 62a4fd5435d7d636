from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import DataError
from msiam.evaluation import pairs as pairs_module
from msiam.evaluation.directions import between
from msiam.evaluation.pairs import Impostors, _strangers, find_pairs, pair_scores

EYE = np.eye(3)


def test_labelled_pairs_are_taken_as_they_are(make):
    embedded = make(
        {"a": [0, 1, 2], "b": [0, 2, 1]},
        {"a": [0, 1, 2], "b": [0, 2, 1]},
        {"a": EYE, "b": EYE / 2},
        same=[True, False, True],
    )
    scores, same = pair_scores(embedded)
    assert scores.tolist() == [0.5, 0, 0]
    assert same.tolist() == [True, False, True]


def test_positives_get_as_many_strangers(aligned):
    embedded = aligned(50, noise=0.1)
    scores, same = pair_scores(embedded)
    assert same.tolist() == [True] * 50 + [False] * 50
    assert scores[:50].min() > 0.9
    strangers = find_pairs(embedded)[1]
    assert (strangers.items[0] == np.arange(50)).all()
    assert (strangers.items[0] != strangers.items[1]).all()


def test_the_seed_decides_which_strangers(aligned):
    embedded = aligned(50)
    again, other = pair_scores(embedded)[0], pair_scores(embedded, seed=1)[0]
    assert (pair_scores(embedded)[0] == again).all()
    assert (other[50:] != again[50:]).any()


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(0, 100),
)
def test_a_stranger_is_never_of_the_same_group(pairs, seed):
    anchors, others = np.array(pairs).T
    rows, partners = _strangers(anchors, others, seed)
    assert (anchors[rows] != others[partners]).all()
    alone = [i for i in range(len(anchors)) if (others == anchors[i]).all()]
    assert sorted([*rows, *alone]) == list(range(len(anchors)))


def test_every_stranger_is_as_likely():
    anchors = np.zeros(40_000, dtype=int)
    others = np.arange(40_000) % 4
    _, partners = _strangers(anchors, others, seed=0)
    share = np.bincount(others[partners], minlength=4) / len(partners)
    assert share == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3], abs=0.01)


def test_the_third_column_of_triplets_is_the_negative(make):
    embedded = make(
        {"anchor": [0, 1], "positive": [0, 1], "negative": [1, 2]},
        {"anchor": [0, 1], "positive": [0, 1], "negative": [1, 2]},
        {"item": EYE},
        towers=dict.fromkeys(["anchor", "positive", "negative"], "item"),
    )
    positives, negatives = find_pairs(embedded)
    assert positives.columns == ("anchor", "positive")
    assert negatives.columns == ("anchor", "negative")
    assert negatives.items[1].tolist() == [1, 2]
    assert not negatives.same.any()


def test_a_third_view_of_the_same_thing_is_no_negative(make):
    numbers = {name: [0, 1, 2] for name in ("text", "image", "sound")}
    embedded = make(numbers, numbers, dict.fromkeys(numbers, EYE))
    _, negatives = find_pairs(embedded)
    assert negatives.columns == ("text", "image")
    assert (negatives.items[0] != negatives.items[1]).all()


def titled(make, titles, articles, groups, negatives):
    """A row a title and its article, of random vectors."""
    numbers = {"title": np.arange(len(titles)), "body": np.arange(len(titles))}
    vectors = np.random.default_rng(0).normal(size=(len(titles), 4))
    embedded = make(numbers, {"title": groups, "body": groups}, dict.fromkeys(numbers, vectors))
    values = {"title": titles, "body": articles}
    return dataclasses.replace(embedded, values=values, negatives=negatives)


TITLES = ["wheat prices rise", "wheat exports", "gold found", "wheat prices rise again", "x"]
ARTICLES = [
    "the price of wheat",
    "exports of wheat, prices of wheat",
    "gold in wales",
    "wheat prices rise and rise",
    "gold",
]
KINDS = {"easy": "random", "hard": "bm25"}


def test_kinds_of_different_pairs_are_made_by_swapping(make):
    embedded = titled(make, TITLES, ARTICLES, [0, 1, 2, 0, 4], KINDS)
    positives, easy, hard = find_pairs(embedded)
    assert [positives.kind, easy.kind, hard.kind] == ["", "easy", "hard"]
    assert positives.same.all() and not easy.same.any() and not hard.same.any()
    groups = embedded.examples.groups["body"]
    assert (groups[easy.items[0]] != groups[easy.items[1]]).all() and len(easy.same) == 5
    # The third article would be the nearest of the first title, and is of its group.
    # The last title shares no word with any article.
    assert hard.items[0].tolist() == [0, 1, 2, 3]
    assert hard.items[1].tolist() == [1, 0, 4, 1]
    assert hard.examples.tolist() == [0, 1, 2, 3]


def test_a_kind_without_pairs_is_named(make):
    embedded = titled(make, ["a", "b"], ["c", "d"], [0, 1], KINDS)
    with pytest.raises(DataError, match=r"data\.negatives\.hard: of 2 rows none .* bm25"):
        find_pairs(embedded)


def test_bm25_asks_for_texts(make):
    embedded = titled(make, ["a", "b"], [b"a", b"b"], [0, 1], KINDS)
    with pytest.raises(DataError, match="column 'body' does not hold texts"):
        find_pairs(embedded)


def test_one_column_is_no_pair(make):
    with pytest.raises(DataError, match="there is only 'image'"):
        find_pairs(make({"image": [0, 1]}, {"image": [0, 1]}, {"image": EYE}))


def of_classes(make, classes, repeats=1):
    """One column of distinct items, each in so many rows."""
    numbers = np.tile(np.arange(len(classes)), repeats)
    groups = np.asarray(classes)[numbers]
    vectors = np.random.default_rng(0).normal(size=(len(classes), 4))
    return make({"image": numbers}, {"image": groups}, {"image": vectors}, classed=True)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 400))
def test_of_one_column_all_pairs_of_one_class_and_as_many_of_two(make, classes, drawn):
    of = np.array(classes)
    anchors = [i for i in range(len(of)) if 1 < (of == of[i]).sum() < len(of)]
    embedded = of_classes(make, classes, repeats=2)
    if not anchors:
        with pytest.raises(DataError, match="pairs need two items of one class and one of another"):
            find_pairs(embedded)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs_module, "DRAWN", drawn)
        alike, apart = find_pairs(embedded)
    most = max(1, drawn // len(anchors))
    mates = np.array([(of == of[i]).sum() - 1 for i in anchors]).clip(max=most)
    strangers = [(of != of[i]).sum() for i in anchors]
    for pairs, same, counts in (
        (alike, True, mates),
        (apart, False, np.minimum(mates, strangers)),
    ):
        left, right = pairs.items
        assert pairs.columns == ("image", "image")
        assert left.tolist() == np.repeat(anchors, counts).tolist()
        assert len(set(zip(left, right, strict=True))) == len(left)
        assert (left != right).all()
        assert ((of[left] == of[right]) == same).all() and (pairs.same == same).all()
        assert (embedded.examples.columns["image"][pairs.examples] == left).all()


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=30),
    st.integers(0, 40),
    st.integers(0, 100),
)
def test_impostors_are_those_found_by_hand(make, classes, most, seed):
    of, embedded = np.array(classes), of_classes(make, classes)
    direction = between(embedded, "image", "image")
    impostors, rng = Impostors(embedded, direction), np.random.default_rng(seed)
    for q, item in enumerate(direction.queries):
        wanted = set(np.flatnonzero(of[direction.items] != of[item]).tolist())
        drawn = impostors.draw(q, most, rng).tolist()
        assert impostors.count(q) == len(wanted)
        assert len(set(drawn)) == len(drawn) == min(most, len(wanted))
        assert set(drawn) <= wanted


def test_of_a_class_at_either_end_or_amid_every_impostor_is_drawn_alike(make):
    embedded = of_classes(make, [0, 0, 1, 1, 1, 2, 2])
    impostors = Impostors(embedded, between(embedded, "image", "image"))
    rng = np.random.default_rng(0)
    for q, wanted in ((0, [2, 3, 4, 5, 6]), (3, [0, 1, 5, 6]), (6, [0, 1, 2, 3, 4])):
        assert impostors.draw(q, 9, rng).tolist() == wanted
        drawn = np.concatenate([impostors.draw(q, 2, rng) for _ in range(1000)])
        places, counts = np.unique(drawn, return_counts=True)
        assert places.tolist() == wanted
        assert counts / 1000 == pytest.approx(2 / len(wanted), abs=0.06)


def test_what_claims_a_class_is_what_it_is_told_from(make):
    """Two classes of three; items 6 and 7 claim the first, 8 the second, and are of neither."""
    of = np.array([0, 0, 0, 1, 1, 1, 10, 11, 12])
    embedded = make({"image": range(9)}, {"image": of}, {"image": np.eye(9)}, classed=True)
    claims = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1])
    embedded = dataclasses.replace(
        embedded, examples=dataclasses.replace(embedded.examples, claims=claims)
    )
    alike, apart = find_pairs(embedded)
    assert len(alike.same) == 12
    assert set(zip(*(side.tolist() for side in apart.items), strict=True)) == {
        *((i, j) for i in (0, 1, 2) for j in (6, 7)),
        *((i, 8) for i in (3, 4, 5)),
    }


def test_two_columns_of_classes_are_taken_as_they_are_unless_all_rows_are_alike(make):
    groups = {"a": [0, 0, 1, 1], "b": [0, 1, 1, 0]}
    numbers = {"a": range(4), "b": range(4)}
    vectors = dict.fromkeys("ab", np.eye(4))
    mixed = make(numbers, groups, vectors, same=[True, False, True, False], classed=True)
    (rows,) = find_pairs(mixed)
    assert rows.same.tolist() == [True, False, True, False]
    groups = {"a": [0, 0, 1, 1], "b": [0, 0, 1, 1]}
    alike, apart = find_pairs(make(numbers, groups, vectors, same=[True] * 4, classed=True))
    assert alike.same.all() and not apart.same.any()
    of = np.array([0, 0, 1, 1])
    assert (of[apart.items[0]] != of[apart.items[1]]).all()
    assert (of[alike.items[0]] == of[alike.items[1]]).all()
