"""Three tables as three parts that share no item, and what tells that they have changed."""

from __future__ import annotations

import pytest

from msiam import Model, errors
from msiam.data.parts import prepare, training_parts
from msiam.recipe import Data

TEXT = {"encoder": "lstm", "dim": 4, "hidden": 4, "min_count": 1}


def model():
    made = Model({"text": TEXT}, {"a": "text", "b": "text"})
    made.tower("text").fit(["some words"])
    return made


def rows(name, numbers):
    return [{"a": f"{name} {n}", "b": f"{name} {n} too"} for n in numbers]


def write(path, table):
    path.write_text("a,b\n" + "".join(f"{row['a']},{row['b']}\n" for row in table))
    return str(path)


def items_of(parts, part):
    examples, values = parts.examples[part], parts.items["text"].values
    return {values[n] for numbers in examples.columns.values() for n in numbers}


@pytest.fixture
def data(tmp_path):
    """Five rows of the table and five of ``more`` stand in the held-out table too."""
    return Data(
        table=write(tmp_path / "table.csv", rows("x", range(40)) + rows("test", range(5))),
        more=write(tmp_path / "more.csv", rows("x", range(40)) + rows("test", range(5, 10))),
        test=write(tmp_path / "test.csv", rows("test", range(10))),
        split={"validation": 8},
    )


def test_no_part_has_an_item_of_another(data):
    parts = training_parts(data, model(), seed=0)
    train, validation, test = (items_of(parts, p) for p in ("train", "validation", "test"))
    assert not train & validation and not train & test and not validation & test
    assert [len(parts.examples[p]) for p in ("validation", "test")] == [8, 10]
    # 40 of the table's 45 rows do not leak; of these, 32 train, and stand once more in ``more``.
    assert len(parts.examples["train"]) == 32 + 32
    notes = " ".join(parts.notes)
    assert "5 training rows of table.csv were left out: they share items with test." in notes
    assert "8 training rows of more.csv were left out: they share items with validation." in notes
    assert "5 training rows of more.csv were left out: they share items with test." in notes


def test_rows_from_python_stand_in_for_the_tables(data):
    parts = training_parts(data, model(), 0, rows("y", range(20)), rows("z", range(3)))
    assert items_of(parts, "test") == {f"z {n}" for n in range(3)} | {
        f"z {n} too" for n in range(3)
    }


def test_without_a_test_part_validation_is_what_is_held_out(tmp_path):
    table = write(tmp_path / "t.csv", rows("x", range(20)))
    parts = training_parts(Data(table=table, split={"test": 0}), model(), 0)
    assert "test" not in parts.examples and parts.held_out == "validation"


def test_a_test_table_that_cannot_be_read_is_never_replaced_by_validation(data, tmp_path):
    test = [{"a": "!", "b": None}] * 3
    parts = training_parts(data, model(), 0, rows("x", range(1000)), test)
    with pytest.raises(errors.DataError, match="the given list: 3 of 3 rows cannot be read"):
        prepare(parts, model(), tmp_path / "rejected.csv", allow=False)
    parts = training_parts(data, model(), 0, rows("x", range(1000)), test)
    with pytest.raises(errors.DataError, match="test: none of its rows can be read"):
        prepare(parts, model(), tmp_path / "rejected.csv", allow=True)


def test_the_digest_changes_with_a_row_an_item_and_a_seed(data):
    def digest(more=(), seed=0, words="x"):
        return training_parts(data, model(), seed, rows(words, range(30)) + list(more)).digest()

    found = [digest(), digest(rows("y", [1])), digest(seed=1), digest(words="y")]
    assert len(set(found)) == 4
    assert digest() == found[0]
