from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from msiam.errors import DataError
from msiam.evaluation.qrels import measure_rankings, read_qrels

CRANFIELD = Path(os.environ.get("MSIAM_DATA", "../shared/data")) / "retrieval/cranfield"


def test_figures_by_hand():
    """Of three relevant documents two are found, at the ranks 1 and 3; the third is too deep."""
    rankings = {"q": ["a", "x", "b", "y", "c"], "nobody": ["a"]}
    qrels = {"q": {"a": 1, "b": 2, "c": 1, "x": 0, "y": -1}, "lost": {"d": 1}, "none": {"a": 0}}
    found = measure_rankings(rankings, qrels, ndcg=3, recall=4)
    dcg, best = 1 / np.log2(2) + 2 / np.log2(4), 2 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert found == pytest.approx(
        {
            "queries": 2,
            "ndcg@3": dcg / best / 2,
            "recall@4": 2 / 3 / 2,
            "map": (1 / 1 + 2 / 3 + 3 / 5) / 3 / 2,
            "mrr": 1 / 2,
        }
    )


@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(1, 12))
def test_figures_are_those_of_scikit_learn_where_all_is_ranked(gains, depth):
    names = [f"d{n}" for n in range(len(gains))]
    if not any(gains):
        return
    found = measure_rankings({"q": names}, {"q": dict(zip(names, gains, strict=True))}, ndcg=depth)
    scores = -np.arange(len(gains), dtype=float)
    assert found[f"ndcg@{depth}"] == pytest.approx(ndcg_score([gains], [scores], k=depth))
    assert found["map"] == pytest.approx(average_precision_score(np.array(gains) > 0, scores))
    assert found["recall@100"] == 1


def test_files_of_beir_and_of_trec(tmp_path):
    (tmp_path / "beir.tsv").write_text("query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n2\td1\t1\n")
    (tmp_path / "trec.txt").write_text("1 0 d1 2\n1 0 d2 0\n\n2 0 d1 1\n")
    right = {"1": {"d1": 2, "d2": 0}, "2": {"d1": 1}}
    assert read_qrels(tmp_path / "beir.tsv") == read_qrels(tmp_path / "trec.txt") == right


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\td1\n", "line 1 is '1 d1'; query, document and score"),
        ("query-id\tcorpus-id\tscore\n1\td1\tmuch\n", "line 2 is '1 d1 much'"),
        ("1\t0\td1\t1\tx\n", "line 1 is '1 0 d1 1 x'"),
        ("1\td1\t1\n1\td1\t0\n", "line 2 judges 'd1' a second time for '1'"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "q.tsv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_qrels(tmp_path / "q.tsv")


def test_what_cannot_be_measured(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.tsv: cannot be read"):
        read_qrels(tmp_path / "nowhere.tsv")
    with pytest.raises(DataError, match="no query has a relevant document"):
        measure_rankings({"q": ["a"]}, {"q": {"a": 0}})
    with pytest.raises(DataError, match="the ranking of query 'q' has a document twice"):
        measure_rankings({"q": ["a", "a"]}, {"q": {"a": 1}})


@pytest.mark.skipif(not CRANFIELD.is_dir(), reason="needs Cranfield, in MSIAM_DATA")
def test_cranfield_is_read_whole():
    qrels = read_qrels(CRANFIELD / "qrels" / "test.tsv")
    assert (len(qrels), sum(map(len, qrels.values()))) == (225, 1837)
