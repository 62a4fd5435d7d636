"""Rankings against judgements (qrels), as TREC and BEIR have them: nDCG, recall, MAP, MRR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from msiam.errors import DataError

#: By query the documents that were judged, each with its gain; one above 0 is relevant.
Qrels: TypeAlias = dict[str, dict[str, float]]

#: The columns of a file: BEIR's, under a header, and TREC's, without one.
HEADER = ["query-id", "corpus-id", "score"]


def read_qrels(path: str | Path) -> Qrels:
    """Read judgements: BEIR's ``query-id corpus-id score`` by tabs, or TREC's four columns.

    Raises:
        DataError: the file cannot be read, or a line is none of these or judges a document twice.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [line.split() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    found: Qrels = {}
    for number, line in enumerate(lines, 1):
        if not line or (number == 1 and line == HEADER):
            continue
        try:
            query, document, gain = line if len(line) == 3 else (line[0], *line[2:])
            value = float(gain)
        except ValueError as error:
            raise DataError(
                f"{path}: line {number} is {' '.join(line)!r:.80}; query, document and score are "
                "right, or TREC's four columns"
            ) from error
        judged = found.setdefault(query, {})
        if document in judged:
            raise DataError(
                f"{path}: line {number} judges '{document}' a second time for '{query}'"
            )
        judged[document] = value
    return found


def measure_rankings(
    rankings: Mapping[str, Sequence[str]],
    qrels: Mapping[str, Mapping[str, float]],
    *,
    ndcg: int = 10,
    recall: int = 100,
) -> dict[str, float]:
    """How good rankings are by what was judged, a mean over all queries with a relevant document.

    nDCG has the gain itself over log₂(1 + rank), as trec_eval and scikit-learn have it. Recall is
    the share of the relevant documents that is among the first. MAP is the mean over a query's
    relevant documents of the precision at each, 0 for one that was not found; MRR, of 1 over the
    rank of the first. What was not judged is not relevant. A query without a ranking found nothing.

    Args:
        rankings: by query the documents that were found, the best first.
        qrels: by query the gains of judged documents; above 0 is relevant, and less counts as 0.
        ndcg, recall: at which depths.

    Returns:
        ``queries``, ``ndcg@10``, ``recall@100``, ``map`` and ``mrr``.

    Raises:
        DataError: a ranking has a document twice; no query has a relevant document.
    """
    figures = []
    for query, judged in qrels.items():
        gains = {document: gain for document, gain in judged.items() if gain > 0}
        if gains:
            figures.append(_of_query(query, rankings.get(query, ()), gains, ndcg, recall))
    if not figures:
        raise DataError("qrels: no query has a relevant document, one with a score above 0")
    means = np.mean(figures, axis=0).tolist()
    names = (f"ndcg@{ndcg}", f"recall@{recall}", "map", "mrr")
    return {"queries": float(len(figures)), **dict(zip(names, means, strict=True))}


def _of_query(
    query: str, ranking: Sequence[str], gains: Mapping[str, float], ndcg: int, recall: int
) -> tuple[float, float, float, float]:
    if len(set(ranking)) < len(ranking):
        raise DataError(f"the ranking of query '{query}' has a document twice")
    found = np.array([gains.get(document, 0.0) for document in ranking])
    ranks = np.flatnonzero(found) + 1
    best = np.sort(np.fromiter(gains.values(), float))[::-1]
    return (
        _discounted(found[:ndcg]) / _discounted(best[:ndcg]),
        float((ranks <= recall).sum()) / len(gains),
        float((np.arange(1, len(ranks) + 1) / ranks).sum()) / len(gains),
        1 / float(ranks[0]) if len(ranks) else 0.0,
    )


def _discounted(gains: np.ndarray) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
