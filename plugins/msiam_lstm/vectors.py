"""Reads word vectors: GloVe's and word2vec's text format, or a matrix beside a list of words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from msiam import errors

Line = tuple[str, Callable[[], np.ndarray]]
WORD_LISTS = (".txt", ".vocab", ".json", ".parquet")


def read_vectors(path: Path, keep: Callable[[int, str], bool]) -> dict[str, np.ndarray]:
    """Lowercased words to vectors, float32 (width,), in the file's order: usually by frequency.

    Only what is kept is read into memory. Where "Apple" and "apple" both have a vector, the
    latter's is taken.

    Args:
        path: a text file with `word number number …` on each line, with or without a first line
            of two counts; a `.npy` matrix (words, width) with a list of its words in a file beside
            it; or a folder that holds one of these.
        keep: whether to keep a word, given its number in the file and the word in lower case.

    Raises:
        DataError: the file is not there, is none of these, or has no word that is wanted.
    """
    path = _inside(path)
    vectors: dict[str, np.ndarray] = {}
    for number, (word, vector) in enumerate(_lines(path)):
        low = word.lower()
        if (low == word or low not in vectors) and keep(number, low):
            vectors[low] = vector()
    if not vectors:
        raise errors.DataError(f"{path}: none of the words wanted has a vector there")
    return vectors


def _inside(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [p for s in ("*.npy", "*.vec", "*.txt") for p in sorted(path.glob(s))]
    if not found or (len(found) > 1 and found[1].suffix == found[0].suffix):
        names = ", ".join(p.name for p in found) or "none"
        raise errors.DataError(f"{path}: name the file of word vectors in this folder ({names})")
    return found[0]


def _lines(path: Path) -> Iterator[Line]:
    try:
        yield from _matrix(path) if path.suffix == ".npy" else _text(path)
    except FileNotFoundError:
        raise errors.DataError(f"{path}: no such file of word vectors") from None
    except UnicodeDecodeError:
        raise errors.DataError(
            f"{path}: not a text of `word number number …` lines; save binary vectors as text first"
        ) from None


def _text(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8", newline="\n") as file:
        first = next(file, "").split()
        counts = len(first) == 2 and all(field.isdigit() for field in first)
        rest = enumerate(chain([] if counts else [" ".join(first)], file), 2 if counts else 1)
        width = 0
        for number, line in rest:
            width = width or len(line.split()) - 1
            # A word may have blanks in it, so that only the end of the line is sure.
            word, *numbers = line.rstrip().rsplit(" ", width)
            yield word, _parser(path, number, numbers, width)


def _parser(path: Path, line: int, numbers: list[str], width: int) -> Callable[[], np.ndarray]:
    def parse() -> np.ndarray:
        try:
            vector = np.array(numbers, dtype=np.float32)
        except ValueError:
            vector = np.empty(0, np.float32)
        if len(vector) != width or not width or not np.isfinite(vector).all():
            raise errors.DataError(
                f"{path}: line {line} is not a word and {width or 'some'} numbers, as word vectors "
                "in text have it"
            )
        return vector

    return parse


def _matrix(path: Path) -> Iterator[Line]:
    try:
        matrix = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise errors.DataError(f"{path}: not a .npy matrix of numbers ({error})") from None
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.size:
        shape = " × ".join(map(str, matrix.shape))
        raise errors.DataError(
            f"{path}: {shape or 'one'} {matrix.dtype}, where words × width numbers are right"
        )
    for row, word in enumerate(_words_beside(path, len(matrix))):
        yield word, partial(_row, path, matrix, row)


def _row(path: Path, matrix: np.ndarray, row: int) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 beyond float32 is infinite, and refused
        vector = matrix[row].astype(np.float32)
    if not np.isfinite(vector).all():
        raise errors.DataError(
            f"{path}: row {row} (from 0) has a number that is not finite in float32"
        )
    return vector


def _words_beside(path: Path, rows: int) -> list[str]:
    """The words of the list beside the matrix: of as many words, and the most alike in name."""
    beside = [p for p in path.parent.iterdir() if p.suffix in WORD_LISTS]
    beside.sort(
        key=lambda p: difflib.SequenceMatcher(None, p.name, path.name).ratio(), reverse=True
    )
    sizes = []
    for file in beside:
        try:
            words = _word_list(file)
        except ValueError:  # JSON or parquet in name only
            words = []
        if len(words) == rows:
            return words
        sizes.append(f"{file.name} has {len(words)}")
    raise errors.DataError(
        f"{path}: {rows} rows, and no list of as many words beside it ({', '.join(WORD_LISTS)}); "
        f"{'; '.join(sizes) or 'there is none'}"
    )


def _word_list(path: Path) -> list[str]:
    """A word a line (what follows a tab or blank is ignored), JSON, or the first column.

    JSON is a list of words, or each word with its number.
    """
    if path.suffix == ".parquet":
        schema = pq.read_schema(path)
        texts = [f.name for f in schema if f.type in (pa.string(), pa.large_string())]
        column = pq.read_table(path, columns=texts[:1])[0].to_pylist() if texts else []
        return [str(word) for word in column]
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".json":
        found = json.loads(text)
        if isinstance(found, dict):
            numbers = list(found.values())
            known = sorted(n for n in numbers if isinstance(n, int)) == list(range(len(numbers)))
            return sorted(found, key=found.__getitem__) if known else []
        return [w for w in found if isinstance(w, str)] if isinstance(found, list) else []
    return [(line.split() or [""])[0] for line in text.rstrip("\n").split("\n")]
