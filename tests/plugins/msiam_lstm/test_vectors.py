"""Word vectors in each of the formats that people have them in, and in none of them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msiam_lstm.vectors import read_vectors

from msiam import errors

WORDS = ["the", "cat", "sat"]
MATRIX = np.arange(6, dtype=np.float64).reshape(3, 2) / 4


def everything(number, word):
    return True


def is_the_matrix(vectors):
    same = np.array_equal(np.stack(list(vectors.values())), MATRIX)
    return list(vectors) == WORDS and same and vectors["cat"].dtype == np.float32


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("".join(f"{w} {v[0]} {v[1]}\n" for w, v in zip(WORDS, MATRIX, strict=True)))
    return path


@pytest.fixture
def matrix(tmp_path):
    np.save(tmp_path / "emb.npy", MATRIX)
    return tmp_path / "emb.npy"


def test_reads_glove_text(text):
    assert is_the_matrix(read_vectors(text, everything))


def test_reads_word2vec_text_with_its_line_of_counts(text):
    lines = text.read_text().replace("\n", " \n")  # word2vec leaves a blank at each end
    text.write_text(f"3 2\n{lines}")
    assert is_the_matrix(read_vectors(text, everything))


def test_a_word_may_have_blanks_in_it(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("the 1 2\n. . . 3 4\n")
    assert read_vectors(path, everything)[". . ."].tolist() == [3, 4]


@pytest.mark.parametrize("kind", ["txt", "json", "json of rows", "parquet"])
def test_reads_a_matrix_with_the_words_beside_it(matrix, kind):
    beside = matrix.with_name("emb_words")
    if kind == "txt":
        beside.with_suffix(".txt").write_text("the 900\ncat 8\nsat 7\n")
    elif kind == "json":
        beside.with_suffix(".json").write_text(json.dumps(WORDS))
    elif kind == "json of rows":
        beside.with_suffix(".json").write_text(json.dumps({"sat": 2, "the": 0, "cat": 1}))
    else:
        table = pa.table({"number": [0, 1, 2], "word": WORDS})
        pq.write_table(table, beside.with_suffix(".parquet"))
    matrix.with_name("readme.txt").write_text("four\nlines\nof\nprose")
    matrix.with_name("emb.json").write_text("no json")
    assert is_the_matrix(read_vectors(matrix, everything))


def test_reads_the_one_file_in_a_folder(text):
    assert is_the_matrix(read_vectors(text.parent, everything))


def test_keeps_what_is_wanted_only(text):
    assert list(read_vectors(text, lambda number, word: number == 0 or word == "sat")) == [
        "the",
        "sat",
    ]


@pytest.mark.parametrize("order", [["Apple", "apple"], ["apple", "Apple"]])
def test_a_word_in_lower_case_goes_before_the_same_in_capitals(tmp_path, order):
    path = tmp_path / "v.txt"
    values = {"apple": "1 1", "Apple": "2 2"}
    path.write_text("".join(f"{word} {values[word]}\n" for word in [*order, "Paris"][:2]))
    assert read_vectors(path, everything)["apple"].tolist() == [1, 1]


def test_a_word_in_capitals_alone_is_taken_in_lower_case(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("Paris 1 2\n")
    assert list(read_vectors(path, everything)) == ["paris"]


def refused(path, *parts):
    with pytest.raises(errors.DataError) as caught:
        read_vectors(path, everything)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(path.name), *parts):
        assert part in message


def test_refuses_a_file_that_is_not_there(tmp_path):
    refused(tmp_path / "none.txt", "no such file")


def test_refuses_a_line_that_is_short_and_names_it(text):
    text.write_text("2 2\nthe 1 2\ncat 1\n")
    refused(text, "line 3", "a word and 2 numbers")


def test_refuses_what_is_no_number(text):
    text.write_text("the 1 2\ncat 1 nan\n")
    refused(text, "line 2")


@pytest.mark.parametrize("prose", ["Hello\n", "", "Dear reader of this\n"])
def test_refuses_prose(text, prose):
    text.write_text(prose)
    refused(text)


def test_refuses_binary_vectors(text):
    text.write_bytes(b"3 2\nthe \xff\xfe\x80\x00")
    refused(text, "text")


def test_refuses_a_folder_with_nothing_to_choose(tmp_path):
    refused(tmp_path, "none")


def test_refuses_a_folder_with_two_to_choose_from(text):
    text.with_name("other.txt").write_text("the 1\n")
    refused(text.parent, "glove.txt, other.txt")


def test_refuses_a_matrix_with_no_list_of_as_many_words(matrix):
    refused(matrix, "3 rows", "there is none")
    matrix.with_name("emb.txt").write_text("the\ncat\n")
    refused(matrix, "emb.txt has 2")


@pytest.mark.parametrize("numbers", [[1, 2, 3], [0, 1, 3], [0, 1, 1], ["0", "1", "2"]])
def test_refuses_words_whose_numbers_are_not_those_of_the_rows(matrix, numbers):
    listed = dict(zip(WORDS, numbers, strict=True))
    matrix.with_name("emb.json").write_text(json.dumps(listed))
    refused(matrix, "emb.json has 0")


def test_refuses_a_pickle_in_a_matrix(matrix):
    np.save(matrix, np.array([{"a": 1}], dtype=object))
    refused(matrix, "not a .npy matrix")


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros(3), "3 float64"),
        (np.zeros((3, 0)), "3 × 0 float64"),
        (np.array([["1", "x"]] * 3), "3 × 2 <U1"),
        (np.zeros((3, 2), np.complex64), "3 × 2 complex64"),
    ],
)
def test_refuses_what_is_no_matrix_of_numbers(matrix, array, found):
    np.save(matrix, array)
    matrix.with_name("emb.txt").write_text("\n".join(WORDS))
    refused(matrix, found, "words × width")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_refuses_a_row_that_is_not_finite_if_it_is_kept(matrix, value):
    matrix.with_name("emb.txt").write_text("\n".join(WORDS))
    np.save(matrix, np.array([[0, 1], [2, value], [4, 5]]))
    refused(matrix, "row 1")
    assert list(read_vectors(matrix, lambda number, _: number != 1)) == ["the", "sat"]


def test_refuses_when_no_word_is_wanted(text):
    with pytest.raises(errors.DataError, match="none of the words"):
        read_vectors(text, lambda number, word: False)
