"""The texts, pairs and pictures of benchmarks/speed.py: drawn by a seed, the same on both sides."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
QUESTIONS = "question_pairs/qqp_labelled.parquet"
DUPLICATES = "question_pairs/qqp_duplicates.parquet"
ARTICLES = "title_article/reuters_train.parquet"
PICTURES = "text_image/coco_captions.parquet"
SEED = 0
HELD_OUT = 4000  # pairs

Rows = list[dict[str, Any]]


def place(name: str) -> Path:
    """A file of ``MSIAM_DATA``."""
    return ROOT / os.environ.get("MSIAM_DATA", "../shared/data") / name


def rows(name: str, *columns: str) -> Rows:
    return pq.read_table(place(name), columns=list(columns)).to_pylist()


def sentences(count: int) -> list[str]:
    """Texts of mixed length: 7 in 10 are questions, 1 is a title, 2 are 1 to 6 sentences."""
    draw = random.Random(SEED)
    asked = sorted({row[c] for row in rows(QUESTIONS, *PAIR) for c in PAIR})
    news = [row for row in rows(ARTICLES, "title", "body") if row["title"] and row["body"]]
    articles = draw.sample(news, 3 * count // 10)
    titles = [row["title"] for row in articles[: count // 10]]
    passages = [_passage(row["body"], draw) for row in articles[count // 10 :]]
    questions = draw.sample(asked, count - len(articles))
    found = [text for text in (*questions, *titles, *passages) if text.strip()]
    draw.shuffle(found)
    return found


PAIR = ("question1", "question2")


def _passage(body: str, draw: random.Random) -> str:
    parts = re.split(r"(?<=[.!?])\s+", body)
    long = draw.randint(1, 6)
    first = draw.randint(0, max(0, len(parts) - long))
    return " ".join(parts[first : first + long])


def duplicates(count: int) -> Rows:
    """Pairs of questions that are the same, no question of which is a match of another pair's.

    So each pair of a batch has all the others as negatives, whether a loss knows matches or not.
    """
    leader: dict[str, str] = {}

    def find(text: str) -> str:
        while leader.setdefault(text, text) != text:
            text = leader[text]
        return text

    pairs = rows(DUPLICATES, *PAIR)
    for pair in pairs:
        leader[find(pair["question1"])] = find(pair["question2"])
    groups = {find(pair["question1"]): pair for pair in pairs if len(set(pair.values())) == 2}
    return random.Random(SEED).sample(list(groups.values()), count)


def held_out(count: int) -> Rows:
    """Labelled pairs without any question of the duplicates; ``label`` is 1 where they match."""
    seen = {pair[column] for pair in rows(DUPLICATES, *PAIR) for column in PAIR}
    found = [
        pair
        for pair in rows(QUESTIONS, *PAIR, "label")
        if not seen & {pair["question1"], pair["question2"]}
    ]
    return random.Random(SEED).sample(found, min(count, len(found)))


def labelled(count: int) -> Rows:
    return random.Random(SEED).sample(rows(QUESTIONS, *PAIR, "label"), count)


def labelled_apart(count: int) -> Rows:
    """Labelled pairs without any question of those held out."""
    seen = {pair[column] for pair in held_out(HELD_OUT) for column in PAIR}
    pairs = rows(QUESTIONS, *PAIR, "label")
    found = [pair for pair in pairs if not seen & {pair["question1"], pair["question2"]}]
    return random.Random(SEED).sample(found, count)


def articles(count: int) -> Rows:
    """Titles with their articles; no title and no article is there twice."""
    found = {row["body"]: row for row in rows(ARTICLES, "title", "body") if row["body"].strip()}
    distinct = {row["title"]: row for row in found.values() if row["title"].strip()}
    return random.Random(SEED).sample(list(distinct.values()), count)


def pictures(count: int) -> list[bytes]:
    table = pq.read_table(place(PICTURES), columns=["image"]).slice(0, count)
    return [row["image"]["bytes"] for row in table.to_pylist()]
