from __future__ import annotations

import itertools
import json
import re
import tracemalloc

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from msiam.errors import DataError
from msiam.evaluation import retrieval
from msiam.evaluation.directions import directions
from msiam.evaluation.retrieval import Retrieval, RetrievalOptions, chance_of_hit, rank


def search_table(make, table, relevant):
    """Queries "q" against a gallery "g", whose scores are exactly ``table`` (queries, items).

    ``relevant[i]`` is the one group of query i; an item's group is its column in the table.
    """
    queries, items = np.shape(table)
    numbers = {"q": [*range(queries), *[0] * items], "g": [*relevant, *range(items)]}
    groups = {"q": [*relevant, *[-1] * items], "g": [*relevant, *range(items)]}
    # Rows beyond the queries only bring the whole gallery in; being labelled, they are no queries.
    same = [True] * queries + [False] * items
    return make(numbers, groups, {"q": table, "g": np.eye(items)}, same=same)


def test_a_hand_worked_table(make):
    table = [
        [0.9, 0.1, 0.2, 0.3],  # the right one, item 0, comes first
        [0.8, 0.5, 0.6, 0.1],  # item 1 comes third
        [0.4, 0.3, 0.2, 0.1],  # item 2 comes third
        [0.4, 0.4, 0.4, 0.4],  # item 3 ties with all, and so comes last
    ]
    found = Retrieval(RetrievalOptions(ks=(1, 3))).evaluate(
        search_table(make, table, [0, 1, 2, 3]), None
    )
    metrics = found.metrics
    assert metrics["q_to_g/queries"] == 4
    assert metrics["q_to_g/gallery"] == 4
    assert metrics["q_to_g/recall@1"] == 0.25
    assert metrics["q_to_g/recall@3"] == 0.75
    assert metrics["q_to_g/mrr"] == pytest.approx((1 + 1 / 3 + 1 / 3 + 1 / 4) / 4)
    assert metrics["q_to_g/map"] == metrics["q_to_g/mrr"]  # one relevant item a query
    gains = 1 / np.log2([2, 4, 4, 5])
    assert metrics["q_to_g/ndcg@10"] == pytest.approx(gains.mean())
    assert metrics["q_to_g/median_rank"] == 3
    assert metrics["q_to_g/chance/recall@1"] == 0.25
    assert metrics["q_to_g/chance/recall@3"] == 0.75
    assert metrics["q_to_g/recall@1/low"] < 0.25 < metrics["q_to_g/recall@1/high"]
    both = (metrics["q_to_g/map"] + metrics["g_to_q/map"]) / 2
    assert metrics["map"] == pytest.approx(both)


def test_a_model_that_embeds_everything_alike_finds_nothing(make):
    rng = np.random.default_rng(0)
    vector = rng.normal(size=64)
    vectors = np.tile(vector / np.linalg.norm(vector), (500, 1))
    numbers = {"a": range(500), "b": range(500)}
    found = Retrieval().evaluate(make(numbers, numbers, {"a": vectors, "b": vectors}), None)
    assert found.metrics["a_to_b/recall@10"] == 0
    assert found.metrics["a_to_b/median_rank"] == 500


class Plain:
    """The same metrics the slow way: one query at a time, each ranking written out."""

    def __init__(self, embedded, query, gallery):
        examples, towers = embedded.examples, embedded.towers
        shared = towers[query] == towers[gallery]
        group = dict(zip(examples.columns[gallery], examples.groups[gallery], strict=True))
        self.first, self.ap, self.ap_at_r, self.ndcg = [], [], [], []
        for row in range(len(examples)):
            item, of = examples.columns[query][row], examples.groups[query][row]
            positive = examples.same is None or examples.same[row]
            if not examples.classed and (not positive or of != examples.groups[gallery][row]):
                continue
            anchor = embedded.vectors[towers[query]][item]
            others = [g for g in group if not (shared and g == item)]
            # A relevant item below all others of equal score.
            ranking = sorted(
                others,
                key=lambda g: (
                    -float(anchor @ embedded.vectors[towers[gallery]][g]),
                    group[g] == of,
                ),
            )
            hits = [group[g] == of for g in ranking]
            if not any(hits):
                continue
            places = [place for place, hit in enumerate(hits, 1) if hit]
            self.first.append(places[0])
            self.ap.append(np.mean([n / place for n, place in enumerate(places, 1)]))
            r = sum(hits)
            precision = [sum(hits[:i]) / i for i in range(1, r + 1)]
            self.ap_at_r.append(sum(p for p, hit in zip(precision, hits, strict=False) if hit) / r)
            best = sum(1 / np.log2(1 + n) for n in range(1, min(10, len(places)) + 1))
            self.ndcg.append(sum(1 / np.log2(1 + p) for p in places if p <= 10) / best)


@st.composite
def parts(draw):
    """Rows of two columns with few items, in groups, with vectors that often tie."""
    n = draw(st.integers(1, 25))
    items = draw(st.integers(1, 8))
    shared = draw(st.booleans())
    numbers = st.lists(st.integers(0, items - 1), min_size=n, max_size=n)
    columns = {"a": draw(numbers), "b": draw(numbers)}
    of = st.lists(st.integers(0, 3), min_size=items, max_size=items)
    towers = {"a": "t", "b": "t" if shared else "u"}
    group = {tower: draw(of) for tower in sorted(set(towers.values()))}
    groups = {c: [group[towers[c]][i] for i in columns[c]] for c in columns}
    entry = st.integers(-2, 2)
    vector = st.lists(entry, min_size=2, max_size=2)
    vectors = {t: draw(st.lists(vector, min_size=items, max_size=items)) for t in group}
    same = draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n))
    return columns, groups, vectors, towers, same


@settings(max_examples=150, deadline=None)
@given(part=parts(), block=st.integers(1, 7), classed=st.booleans(), one=st.booleans())
def test_all_metrics_equal_the_plain_ones(make, part, block, classed, one):
    columns, groups, vectors, towers, same = part
    if one := one and classed:  # a single column of classes
        columns, groups, same = {"a": columns["a"]}, {"a": groups["a"]}, None
    embedded = make(columns, groups, vectors, towers, same, classed)
    found = {direction.name: direction for direction in directions(embedded)}
    for query, gallery in [("a", "a")] if one else [("a", "b"), ("b", "a")]:
        plain = Plain(embedded, query, gallery)
        if not plain.first:
            assert f"{query}_to_{gallery}" not in found
            continue
        direction = found[f"{query}_to_{gallery}"]
        ranks = rank(direction, embedded, block)
        for mine, theirs in zip(
            (ranks.first, ranks.average_precision, ranks.precision_at_r, ranks.ndcg),
            (plain.first, plain.ap, plain.ap_at_r, plain.ndcg),
            strict=True,
        ):
            # Mine are by distinct query, theirs by row.
            assert sorted(np.repeat(mine, direction.weights)) == pytest.approx(sorted(theirs))


def test_map_and_ndcg_are_those_of_scikit_learn(make):
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=(60, 8)).astype("f4") for name in "ab"}
    group = np.arange(60) % 12  # five relevant items a query
    numbers = {"a": range(60), "b": range(60)}
    embedded = make(numbers, {"a": group, "b": group}, vectors)
    found = Retrieval().evaluate(embedded, None).metrics
    scores = vectors["a"] @ vectors["b"].T
    relevant = group[:, None] == group[None, :]
    expected = np.mean(
        [sk.average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    )
    assert found["a_to_b/map"] == pytest.approx(expected)
    assert found["a_to_b/ndcg@10"] == pytest.approx(sk.ndcg_score(relevant, scores, k=10))


def test_the_query_itself_is_no_answer(make):
    embedded = make(
        {"a": [0, 1], "b": [1, 0]},
        {"a": [7, 7], "b": [7, 7]},
        {"t": np.eye(2)},
        {"a": "t", "b": "t"},
    )
    found = Retrieval(RetrievalOptions(ks=(1,))).evaluate(embedded, None).metrics
    assert found["a_to_b/recall@1"] == 1  # item 0 is its own nearest, and is left out
    assert found["a_to_b/chance/recall@1"] == 1  # one candidate is left


def test_a_repeated_query_counts_as_often_as_its_rows(make):
    # Item 0 of "a" has three captions and finds them, item 1 has one and does not.
    embedded = make(
        {"a": [0, 0, 0, 1], "b": [0, 1, 2, 3]},
        {"a": [0, 0, 0, 1], "b": [0, 0, 0, 1]},
        {"a": [[1, 0], [1, 0.0]], "b": [[1, 0], [1, 0], [1, 0], [0, 1]]},
    )
    found = Retrieval().evaluate(embedded, None).metrics
    assert found["a_to_b/queries"] == 4
    assert found["a_to_b/recall@1"] == 0.75
    assert found["a_to_b/mrr"] == pytest.approx((3 * 1 + 1 / 4) / 4)
    assert found["a_to_b/map"] == pytest.approx((3 * 1 + 1 / 4) / 4)
    assert found["a_to_b/ndcg@10"] == pytest.approx((3 * 1 + 1 / np.log2(5)) / 4)
    assert found["a_to_b/chance/recall@1"] == pytest.approx((3 * 3 / 4 + 1 / 4) / 4)


def test_only_rows_that_belong_together_are_queries(make):
    numbers = {"a": [0, 1, 2], "b": [0, 1, 2]}
    embedded = make(
        numbers,
        {"a": [0, 1, 2], "b": [0, 3, 2]},
        {"a": np.eye(3), "b": np.eye(3)},
        same=[True, False, True],
    )
    found = Retrieval().evaluate(embedded, None).metrics
    assert found["a_to_b/queries"] == 2
    assert found["a_to_b/gallery"] == 3


def test_more_columns_are_searched_from_the_first_and_back(make):
    numbers = {name: [0, 1, 2] for name in "abc"}
    found = Retrieval().evaluate(make(numbers, numbers, dict.fromkeys("abc", np.eye(3))), None)
    directions_found = {name.split("/")[0] for name in found.metrics if "_to_" in name}
    assert directions_found == {"a_to_b", "b_to_a", "a_to_c", "c_to_a"}


def test_a_triplets_negative_is_nothing_to_search_for(make):
    numbers = {"a": [0, 1], "p": [0, 1], "n": [0, 1]}
    groups = {"a": [0, 1], "p": [0, 1], "n": [2, 3]}
    found = Retrieval().evaluate(make(numbers, groups, dict.fromkeys("apn", np.eye(2))), None)
    assert {name.split("/")[0] for name in found.metrics if "_to_" in name} == {"a_to_p", "p_to_a"}


def test_no_row_that_belongs_together_is_an_error(make):
    numbers = {"a": [0, 1], "b": [0, 1]}
    embedded = make(numbers, numbers, {"a": np.eye(2), "b": np.eye(2)}, same=[False, False])
    with pytest.raises(DataError, match="none of the 2 rows pairs two different items of a and b"):
        Retrieval().evaluate(embedded, None)


@pytest.mark.parametrize(("m", "r", "k"), [(6, 1, 1), (6, 2, 3), (5, 3, 2), (4, 4, 1), (4, 2, 9)])
def test_chance_counts_every_ranking(m, r, k):
    sets = list(itertools.combinations(range(m), min(k, m)))
    share = np.mean([min(chosen) < r for chosen in sets])
    assert chance_of_hit(np.array([r]), np.array([m]), k) == pytest.approx([share])


def test_random_vectors_reach_about_chance(aligned):
    found = Retrieval().evaluate(aligned(2000, noise=1e6), None).metrics
    assert found["a_to_b/recall@10"] == pytest.approx(found["a_to_b/chance/recall@10"], abs=0.005)


@pytest.mark.parametrize("block", [1, 7, 300, 1000])
def test_blocks_do_not_change_the_ranks(aligned, block):
    embedded = aligned(300, noise=2.0)
    direction = directions(embedded)[0]
    whole, parts = rank(direction, embedded, 300), rank(direction, embedded, block)
    assert (whole.first == parts.first).all()
    assert (whole.average_precision == parts.average_precision).all()


def test_no_matrix_of_all_scores_is_held(aligned, monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK_BYTES", 2**20)
    embedded = aligned(2500)
    tracemalloc.start()
    Retrieval().evaluate(embedded, None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2500 * 2500 * 4 / 4


def test_curves_are_json(aligned):
    curves = Retrieval().evaluate(aligned(30), None).curves
    assert json.loads(json.dumps(curves, allow_nan=False)) == curves
    assert curves["recall"]["a → b"]["k"] == [1, 5, 10]


def test_the_headline_has_chance_beside_it(aligned):
    headline = Retrieval().evaluate(aligned(200, noise=0.1), None).headline.replace("\u00a0", " ")
    assert "From a to b, the right one of 200 comes first in 100 % of searches" in headline
    assert "by chance, in 0.50 % and 5.0 %." in headline


@pytest.mark.parametrize("ks", [[], [0], [-1], ["ten"]])
def test_a_depth_is_at_least_one(ks):
    with pytest.raises(pydantic.ValidationError):
        RetrievalOptions(ks=ks)


def test_map_at_r_worked_by_hand(make):
    """Three relevant ones at ranks 1, 3 and 4: of the first three, 1/1 and 2/3 count."""
    scores = np.array([0.9, 0.5, 0.4, 0.7, 0.1])
    vectors = np.stack([scores, np.sqrt(1 - scores**2)], axis=1)
    embedded = make(
        {"q": [0] * 5, "g": range(5)},
        {"q": [0] * 5, "g": [0, 0, 0, 1, 1]},
        {"q": [[1.0, 0.0]], "g": vectors},
        same=[True] + [False] * 4,
    )
    found = Retrieval().evaluate(embedded, None).metrics
    assert found["q_to_g/map@r"] == pytest.approx((1 + 2 / 3) / 3)
    assert found["q_to_g/map"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_one_column_finds_its_classes(make):
    vectors = np.repeat(np.eye(3), 4, axis=0)
    of = np.repeat([7, 8, 9], 4)
    found = Retrieval().evaluate(
        make({"image": range(12)}, {"image": of}, {"image": vectors}, classed=True), None
    )
    assert found.metrics["image_to_image/recall@1"] == 1
    assert found.metrics["image_to_image/map@r"] == 1
    assert found.metrics["image_to_image/chance/recall@1"] == pytest.approx(3 / 11)
    assert found.headline.startswith(
        "From image to image, one of the same class, of 12, comes first in 100\u00a0% of searches"
    )


def test_of_many_directions_the_headline_names_the_ends(make):
    numbers = {name: [0, 1, 2] for name in "abcd"}
    vectors = dict.fromkeys("abc", np.eye(3)) | {"d": np.eye(3)[[1, 2, 0]]}
    headline = Retrieval().evaluate(make(numbers, numbers, vectors), None).headline
    assert headline.startswith("Of 6 directions, the strongest and the weakest: From ")
    assert headline.count("From ") == 2
    assert re.search(r"first in 100.%.*From (a to d|d to a), .* first in 0.%", headline)
